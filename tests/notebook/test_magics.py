"""The magics in an InteractiveShell, without a kernel: what a person at a terminal sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter.notebook.answers.boxes import boxes_html
from omlx_jupyter.notebook.work import session

from ..checkpoints import dflash
from ..conftest import draw_text


def run(shell: InteractiveShell, code: str) -> Any:
    """Run a cell that must succeed."""
    done = shell.run_cell(code, store_history=True)
    done.raise_error()
    return done.result


def complaint(shell: InteractiveShell, code: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing cell shows."""
    capsys.readouterr()
    assert not shell.run_cell(code).success
    shown = capsys.readouterr()
    text = (shown.out + shown.err).strip()
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1, text
    return text


def test_what_the_model_may_do_and_why_not(
    shell: Any, checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, f"%omlx load {checkpoint('qwen3_vl')}")
    run(shell, "%omlx model")
    assert capsys.readouterr().out.count("yes  ") == 4
    run(shell, f"%omlx load {checkpoint('unlimited_ocr')}")
    run(shell, "%omlx model")
    told = capsys.readouterr().out
    assert "no   requests share the batch (its layers keep a RingSlidingKVCache" in told
    run(shell, "%omlx unload")
    run(shell, "%omlx model")
    assert "No model is loaded" in capsys.readouterr().out


def test_a_drafter_is_loaded_beside_the_model(shell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, drafter = dflash.scripted_pair(tmp_path, words=8)
    run(shell, f"%omlx load {target} --drafter {drafter}")
    run(shell, "%omlx model")
    told = capsys.readouterr().out
    assert f"yes  {drafter} drafts while that saves time" in told
    assert "Note" not in told
    run(shell, "%omlx model --prove")
    assert f"yes  {drafter} drafts" in capsys.readouterr().out
    running = session.current_engine()
    run(shell, f"%omlx load {target}")  # it runs, and goes on
    assert session.current_engine() is running
    run(shell, f"%omlx model {target} --drafter {target}")
    told = capsys.readouterr().out
    assert told.count("not a plain DFlash drafter; it goes without one") == 2
    assert f"no   {target} drafts" in told
    with_setting = f"%config Omlx.model = {str(target)!r}\n%config Omlx.drafter = {str(drafter)!r}\n%omlx unload"
    run(shell, with_setting)
    answer = run(shell, "%%vlm\nhello")
    assert answer.text.startswith(" w0 w1")
    assert session.current_engine().capabilities.drafter
    run(shell, "%config Omlx.model = ''\n%config Omlx.drafter = ''\n%omlx unload")


def test_ocr_prints_once_and_gives_a_result(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(shell, "%ocr hello.png -o page")
    shown = capsys.readouterr().out
    assert result.text
    assert shown.count(result.text) == 1
    assert "first token" in shown
    assert shell.user_ns["page"] is result
    assert shell.user_ns["_"] is result
    assert result.images[0].width > 10


@pytest.mark.parametrize(
    "source", ["hello.png", "img", '"hello.png"', "[img][0]", "h*.png", "./hello.png", "Path('hello.png')"]
)
def test_sources_of_every_kind(shell: InteractiveShell, source: str) -> None:
    shell.user_ns["Path"] = Path
    expected = run(shell, "%ocr hello.png").text
    assert run(shell, f"%ocr {source}").text == expected


@pytest.mark.parametrize("command", ["unload", "status", "models", "memory", "dashboard", "disconnect", "settings"])
def test_a_command_ignores_no_word(shell: InteractiveShell, capsys: Any, command: str) -> None:
    shell.run_cell(f"%omlx {command} tiny-ocr now")
    assert f"%omlx {command} takes nothing behind it; leave tiny-ocr now out." in capsys.readouterr().err


def test_several_pictures_in_order(shell: InteractiveShell) -> None:
    results = run(shell, "%ocr hello.png sum.png")
    one, two = (run(shell, f"%ocr {name}").text for name in ("hello.png", "sum.png"))
    assert [r.text for r in results] == [one, two]
    assert results.text == f"{one}\n\n{two}"
    assert len(results.images) == 2
    for name in ("Seven", "Eight", "Nine"):  # new ones: what was read before takes a step or two
        draw_text(f"{name} of them are here", 20).save(f"{name}.png")
    assert max(r.usage.peak_rows for r in run(shell, "%ocr Seven.png Eight.png Nine.png")) > 1


def test_a_bad_picture_fails_in_its_place(shell: InteractiveShell) -> None:
    made = run(shell, "%ocr hello.png nowhere.png img")
    assert [result.finish_reason for result in made] == ["stop", "error", "stop"]
    assert "nowhere.png" in str(made.errors[0].error)
    assert "there is no file nowhere.png" in made.bundle()["text/plain"]


def test_assignment_takes_the_value(shell: InteractiveShell) -> None:
    run(shell, "answer = %ocr img\ntext = answer.text")
    assert shell.user_ns["text"] == shell.user_ns["answer"].text


def test_vlm_cell(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(shell, "%%vlm -i img sum.png -o both --max-tokens 30\nWhat do {1 + 1} say? {{braces}} $HOME")
    assert shell.user_ns["both"] is result
    assert result.usage.images == 2
    assert [image.source for image in result.images] == ["img", "sum.png"]
    assert result.prompt == "What do 2 say? {braces} $HOME"
    assert result.text in capsys.readouterr().out


def test_flags_reach_the_engine(shell: InteractiveShell) -> None:
    assert run(shell, "%ocr img --max-tokens 2").usage.completion_tokens == 2
    assert run(shell, "%ocr img --max-tokens 2").finish_reason == "length"
    first = run(shell, "%%vlm --temperature 1.5 --seed 3 --max-tokens 12\nhi").generation.token_ids
    assert run(shell, "%%vlm --temperature 1.5 --seed 3 --max-tokens 12\nhi").generation.token_ids == first
    run(shell, "%config Omlx.max_tokens = 3")
    assert run(shell, "%ocr img").usage.completion_tokens == 3
    run(shell, "%config Omlx.max_tokens = 0")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%ocr nowhere.png", "there is no file nowhere.png"),
        ("%ocr helo.png", "Did you mean hello.png"),
        ("%ocr imgg", "did you mean img"),
        ("%ocr img --max-token 3", "did you mean --max-tokens"),
        ("%ocr img --max-tokens many", "not a whole number"),
        ("%ocr", "source"),
        ("%ocr img -o 3", "no Python name"),
        ("%ocr [1,2][5]", "no file"),
        ("%ocr img[7]", "fails in this notebook"),
        ("%ocr http://127.0.0.1:1/a.png", "private address"),
        ("%%vlm -i nowhere\nhi", "no name or file nowhere"),
        ("%%vlm --temperature hot\nhi", "invalid float"),
        ("%%vlm --temperature -3\nhi", "temperature is -3"),
        ("%%vlm --compare a,b --table --boxes\nhi", "--compare and --table don't go together"),
        ("%omlx fly", "has no command fly"),
        ("%omlx load", "takes one model"),
        ("%omlx load /no/such", "no model folder"),
        ("%omlx load tiny-ocr --drafter", "takes one model"),
        ("%omlx load tiny-ocr --drafter /no/such", "no model folder"),
        ('%ocr "open', "isn't closed"),
    ],
)
def test_mistakes_give_one_line(
    shell: InteractiveShell, code: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complaint(shell, code, capsys)


def test_management(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%ocr img")
    run(shell, "%omlx")
    run(shell, "%omlx status")
    shown = capsys.readouterr().out
    assert shown.count("tiny-ocr · glm_ocr · idle") == 2
    run(shell, "%omlx unload")
    assert session.current_engine() is None
    run(shell, "%omlx status")
    run(shell, "%omlx unload")
    run(shell, "%omlx load tiny-ocr")
    run(shell, "%omlx models")
    shown = capsys.readouterr().out
    assert "No model is loaded" in shown
    assert "tiny-ocr  (embedded, loaded)" in shown
    engine = session.current_engine()
    assert not shell.run_cell("%omlx load /no/such").success
    assert session.current_engine() is engine


def test_help_shows_examples(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%ocr hello.png")
    run(shell, "%%vlm --max-tokens 1\nHello")
    capsys.readouterr()
    for name in ("%ocr", "%%vlm", "%omlx"):
        run(shell, f"{name}?")
        shown = capsys.readouterr().out
        assert "Examples" in shown
        if name != "%omlx":
            assert ("SOURCE... [" in shown) is (name == "%ocr")
            assert f"{name} {'SOURCE... ' if name == '%ocr' else ''}[-" in shown
            assert "--max-tokens N" in shown


def test_names_of_a_program_that_runs_a_magic_are_its_own(shell: InteractiveShell) -> None:
    """Those of the notebook's functions are seen, not those of any caller."""
    hidden = shell.user_ns["img"]
    with pytest.raises(UsageError, match="no name or file hidden"):
        shell.run_line_magic("ocr", "hidden")
    assert hidden is shell.user_ns["img"]


def test_an_interrupt_keeps_what_was_said(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from omlx_jupyter.notebook.answers import terminal_view

    shown: list[str] = []

    def update(self: Any, text: str, *_: Any) -> None:
        shown.append(text)
        if len(text) >= 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal_view.PlainView, "update", update)
    done = shell.run_cell("%ocr img -o partial", store_history=True)
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert "tokens are kept in _" in capsys.readouterr().out
    partial = shell.user_ns["partial"]
    assert shell.user_ns["_"] is partial
    assert partial.text.startswith(shown[-1])
    assert partial.finish_reason in ("cancelled", "stop")


def test_an_interrupt_does_not_wait_for_a_picture_that_is_encoded(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omlx_jupyter.notebook.answers import terminal_view

    run(shell, "%ocr img")
    engine = session.current_engine()
    assert engine is not None
    began, entered = [0.0], threading.Event()

    def encode(image: Any) -> Any:
        entered.set()
        time.sleep(2)
        raise ValueError("too late")

    def update(self: Any, *told: Any) -> None:
        if entered.is_set():
            began[0] = time.monotonic()
            raise KeyboardInterrupt

    monkeypatch.setattr(engine._loop.model, "encode_image", encode)
    monkeypatch.setattr(terminal_view.PlainView, "update", update)
    shell.user_ns["other"] = draw_text("Never read", 20)
    done = shell.run_cell("%ocr other --whole", store_history=True)
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert time.monotonic() - began[0] < 1
    while engine.stats().state != "idle":
        time.sleep(0.02)


def test_plain_functions(shell: InteractiveShell) -> None:
    run(shell, "from omlx_jupyter import ocr, vlm")
    assert run(shell, "ocr(img).text") == run(shell, "%ocr img").text
    assert run(shell, "vlm('Text Recognition:', img, max_tokens=2)").usage.completion_tokens == 2


def test_loading_twice_and_unloading(shell: InteractiveShell) -> None:
    run(shell, "%reload_ext omlx_jupyter")
    assert run(shell, "%ocr img").text


def test_lines_and_boxes_of_a_page(shell: InteractiveShell, capsys: Any) -> None:
    shell.user_ns["page"] = draw_text("Hello 42\nTotal 7.70", 20)
    read = run(shell, "%ocr page --boxes")
    assert len(read.lines) == 2
    assert read.usage.images == 1
    made = boxes_html(read)
    assert made.count("<polygon") == 2
    whole = run(shell, "%ocr page --whole")
    assert whole.lines == ()
    run(shell, "%config Omlx.read_by_lines = False")
    assert run(shell, "%ocr page").lines == ()
    run(shell, "%config Omlx.read_by_lines = True")
