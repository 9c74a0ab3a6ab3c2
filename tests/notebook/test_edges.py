"""Edges that a day of use shows: nothing that was answered is lost or mixed up, and a line does what was typed."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from omlx_jupyter import SamplingParams
from omlx_jupyter.images.decoded import DecodedImage
from omlx_jupyter.images.kept import shelf
from omlx_jupyter.notebook.answers import stream_view
from omlx_jupyter.notebook.answers.result import Result
from omlx_jupyter.notebook.answers.view import Unfailing
from omlx_jupyter.notebook.cells import ask_cell
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.watch import dashboard
from omlx_jupyter.notebook.work import chats, many, session
from omlx_jupyter.notebook.work.jobs import Job

from ..conftest import draw_text, noise_image
from .test_cells import run
from .test_magics import complaint


def test_an_interrupted_run_goes_on_with_its_own_model_only(
    shell: InteractiveShell, checkpoint: Callable[..., Path], monkeypatch: Any
) -> None:
    items, sampling = [Path("hello.png"), Path("sum.png")], SamplingParams(max_tokens=4)
    session.engine("tiny-ocr")
    first = many._keys(items, None, sampling, False)
    assert many._keys(items, None, sampling, False) == first
    for other in (
        many._keys(items, "Read.", sampling, False),
        many._keys(items, None, SamplingParams(max_tokens=5), False),
        many._keys(items, None, sampling, True),
    ):
        assert not set(other) & set(first)
    monkeypatch.setattr(settings(), "think_budget", 3)
    session.engine(str(checkpoint("qwen2_vl")))
    assert not set(many._keys(items, None, sampling, False)) & set(first)
    session.engine("tiny-ocr")
    draw_text("changed").save("sum.png")
    assert [a == b for a, b in zip(many._keys(items, None, sampling, False), first, strict=True)] == [True, False]


def test_things_without_a_name_are_known_by_what_they_show() -> None:
    one, same, other = (np.asarray(noise_image(30, 20, seed)).copy() for seed in (1, 1, 2))
    assert many._identity(one) == many._identity(same) != many._identity(other)
    assert many._identity(Image.fromarray(one)) == many._identity(one)
    known = many._identity(one)
    one[:] = 0  # the same object shows something else
    assert many._identity(one) != known
    assert many._identity(b"a") == many._identity(bytearray(b"a")) != many._identity(b"b")
    assert many._identity(3) != many._identity(3)  # no picture: never taken for one that was read


def test_a_chats_turn_stays_until_its_cell_has_another_answer(
    shell: InteractiveShell, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(ask_cell, "cell_id", lambda _: "one")
    run(shell, "%omlx load tiny-ocr")
    run(shell, "%%vlm --chat edges --max-tokens 2\nHello {img}")
    (turn,) = chats.find("edges").turns
    assert "--no-think" in complaint(shell, "%%vlm --chat edges --think-budget 3 --no-think\nHello", capsys)
    assert "marks no thoughts" in complaint(shell, "%%vlm --chat edges --think-budget 3\nHello", capsys)
    assert chats.find("edges").turns == [turn]
    monkeypatch.setattr(ask_cell, "cell_id", lambda _: "two")
    run(shell, "%%vlm --chat edges --max-tokens 2\nAnd?")
    monkeypatch.setattr(ask_cell, "cell_id", lambda _: "one")
    run(shell, "%%vlm --chat edges --max-tokens 2\nHello again {img}")
    assert "what came after is kept as edges~1" in capsys.readouterr().out
    assert [turn.user.parts[0] for turn in chats.find("edges").turns] == ["Hello again "]
    assert len(chats.find("edges~1").turns) == 2
    chats.clear()


def test_a_structured_answer_that_was_cut_is_kept(shell: InteractiveShell, capsys: Any) -> None:
    shell.user_ns["Long"] = {"type": "object", "properties": {"a": {"const": "x" * 200}}, "required": ["a"]}
    shell.user_ns["kept"] = "old"
    assert not shell.run_cell("%%vlm --json Long --max-tokens 9 -o kept\nHello {img}").success
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip().endswith("What was said is kept in _ and kept.")
    assert isinstance(shell.user_ns["kept"], Result)
    assert shell.user_ns["_"] is shell.user_ns["kept"]
    assert shell.user_ns["kept"].text.lstrip().startswith("{")


class Broken:
    """A display that has gone."""

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def act(*_: Any) -> None:
            self.calls += 1
            raise RuntimeError("no such display")

        return act


def test_an_answer_outlives_its_display(shell: InteractiveShell, capsys: Any, caplog: Any) -> None:
    engine = session.engine("tiny-ocr")
    handle = engine.submit("Hello", sampling=SamplingParams(max_tokens=3))
    broken, heard = Broken(), []
    job = Job(handle, Unfailing(broken), lambda *_: Result(handle.result()), "Hello")  # type: ignore[arg-type]

    def fails(_: Result) -> None:
        raise ValueError("mine")

    job.then(fails)
    job.then(heard.append)
    assert job.result(30).text == handle.result().text
    assert job.state == "finished"
    assert broken.calls == 1
    assert heard == [job.result()]
    assert "ValueError: mine" in capsys.readouterr().err
    job.then(heard.append)
    assert len(heard) == 2


def test_no_callback_is_lost_when_the_job_ends_at_that_moment() -> None:
    engine = session.engine("tiny-ocr")
    for _ in range(20):
        handle = engine.submit("Hi", sampling=SamplingParams(max_tokens=1))
        made, heard = threading.Event(), []

        def result(*_: Any, handle: Any = handle, made: Any = made) -> Result:
            made.set()
            return Result(handle.result())

        job = Job(handle, Unfailing(Broken()), result, "Hi")  # type: ignore[arg-type]
        made.wait(10)
        job.then(heard.append)
        job.result(10)
        assert len(heard) == 1


def test_a_late_view_gets_the_whole_text_again_and_again(monkeypatch: Any) -> None:
    now, sent = [0.0], []
    monkeypatch.setattr(stream_view.time, "monotonic", lambda: now[0])
    view = stream_view.NotebookView()
    view._widget.observe(lambda change: sent.append((now[0], change["new"])), "text")
    progress = type("Progress", (), {"phase": "decode", "tokens": 1, "images": 0})
    usage = Result(type("G", (), {"usage": stream_view.Usage()})()).usage  # type: ignore[arg-type]
    for tick in range(1, 1000):
        now[0] = tick * 0.2
        view.update("x" * tick, progress, usage)
    moments = [moment for moment, _ in sent]
    assert len(moments) >= 6
    assert all(later <= 3.3 * before + 0.5 for before, later in itertools.pairwise(moments))
    assert sent[-1][1] == "x" * round(sent[-1][0] / 0.2)


def test_one_of_two_dashboards_may_go(monkeypatch: Any) -> None:
    monkeypatch.setattr(dashboard, "UPDATES_PER_S", 100.0)
    made = dashboard.make()
    for message, runs in (("here", True), ("here", True), ("gone", True), ("gone", False), ("here", True)):
        made._on_message(None, {message: True}, [])
        assert made.stopped.is_set() is not runs
    assert made.thread.is_alive()
    made.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def test_nothing_piles_up_when_the_extension_is_loaded_again(shell: InteractiveShell) -> None:
    def counted() -> list[int]:
        hooks = shell.strdispatchers["complete_command"].strs
        return [len(hooks["%ocr"].chain), len(hooks["%%vlm"].chain), len(shell.Completer.custom_matchers)]

    before = counted()
    for _ in range(3):
        run(shell, "%reload_ext omlx_jupyter")
    assert counted() == before


def test_a_source_is_evaluated_once(shell: InteractiveShell) -> None:
    asked: list[int] = []
    shell.user_ns["take"] = lambda: asked.append(1) or draw_text("Hello 42")
    run(shell, "%ocr take()")
    run(shell, "%%vlm -i take() --max-tokens 2\nHello")
    assert len(asked) == 2


def test_all_frames_of_pictures_in_a_list(shell: InteractiveShell) -> None:
    frames = [draw_text(f"frame {n}") for n in range(3)]
    frames[0].save("three.gif", save_all=True, append_images=frames[1:])
    shell.user_ns["mine"] = ["three.gif", draw_text("one more")]
    assert len(run(shell, "%ocr mine --all-frames")) == 4
    assert len(run(shell, "%ocr mine")) == 2


def test_names_of_a_function_that_runs_the_magic(shell: InteractiveShell) -> None:
    run(
        shell,
        "def ask(picture, words):\n"
        "    ip = get_ipython()\n"
        "    read = ip.run_line_magic('ocr', 'picture')\n"
        "    return read, ip.run_cell_magic('vlm', '--max-tokens 2', 'Say {words} about {picture}')\n",
    )
    read, said = run(shell, "ask(img, 'hello')")
    assert read.text == run(shell, "%ocr img").text
    assert said.prompt == "Say hello about"


def test_braces_and_builtins_on_a_line(shell: InteractiveShell) -> None:
    shell.user_ns["paths"] = ["sum.png", "hello.png"]
    wanted = run(shell, "%ocr hello.png sum.png")
    assert run(shell, "%ocr sorted(paths)").text == wanted.text
    assert run(shell, "%ocr {img}").text == wanted[0].text
    assert run(shell, 'a = %ocr hello.png --max-tokens "30" sum.png\na').text == wanted.text
    draw_text("Hello 42").save("Joe's.png")
    assert run(shell, "%ocr Joe's.png").text == wanted[0].text


def test_display_shows_an_answer_also_in_its_own_cell(shell: InteractiveShell, capsys: Any) -> None:
    made = run(shell, "r = %ocr hello.png\nprint('---')\ndisplay(r)")
    assert made is None
    shown = capsys.readouterr().out
    text = shell.user_ns["r"].text
    assert shown.partition("---")[0].count(text) == shown.partition("---")[2].count(text) == 1
    run(shell, "%ocr hello.png")
    assert capsys.readouterr().out.count(text) == 1


def test_settings_hold_for_functions(shell: InteractiveShell, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings(), "max_tokens", 2)
    made = run(shell, "from omlx_jupyter import ocr, vlm\nvlm('Hello', img), ocr.map(['hello.png'], whole=True)")
    assert len(made[0].generation.token_ids) == 2
    assert len(made[1][0].generation.token_ids) == 2


def test_functions_for_async_code(shell: InteractiveShell) -> None:
    run(shell, "%omlx load tiny-ocr")
    made = run(
        shell,
        "import asyncio\nfrom omlx_jupyter import ocr, vlm\nticks = []\n"
        "async def tick():\n    while True:\n        ticks.append(1)\n        await asyncio.sleep(0.001)\n"
        "beside = asyncio.ensure_future(tick())\n"
        "schema = {'type': 'object', 'properties': {'n': {'enum': [7]}}, 'required': ['n'], "
        "'additionalProperties': False}\n"
        "made = await vlm.aio('n?', img, json=schema, max_tokens=400), await ocr.aio(img)\nbeside.cancel()\nmade",
    )
    assert made[0] == {"n": 7}
    assert made[1].text == run(shell, "ocr(img)").text
    assert len(shell.user_ns["ticks"]) > 3
    ends = dict.fromkeys(session.current_engine()._loop.model.end_tokens, -1e9)
    run(
        shell,
        f"task = asyncio.ensure_future(vlm.aio('go', max_tokens=100000, temperature=9, logit_bias={ends}))\n"
        "await asyncio.sleep(0.3)\ntask.cancel()\nawait asyncio.wait([task])",
    )
    assert shell.user_ns["task"].cancelled()
    assert session.current_engine().stats().decoding == 0 or _soon_idle()


def _soon_idle() -> bool:
    for _ in range(100):
        if session.current_engine().stats().decoding == 0:
            return True
        threading.Event().wait(0.05)
    return False


def test_a_cells_settings_reach_the_engine(shell: InteractiveShell, monkeypatch: Any) -> None:
    """What has no effect that a tiny model shows is looked at where it goes in."""
    asked: list[Any] = []
    engine = session.engine("tiny-ocr")
    real = engine.submit

    def submit(messages: Any, **options: Any) -> Any:
        asked.append((messages, options["sampling"]))
        return real(messages, **options)

    monkeypatch.setattr(engine, "submit", submit)
    run(shell, "%%vlm --stop ab --stop c --system 'Be brief.' --top-p 0.5 --seed 3 --max-tokens 2\nHello {img}")
    messages, sampling = asked[-1]
    assert [message.role for message in messages] == ["system", "user"]
    assert messages[0].parts == ["Be brief."]
    assert (sampling.stop, sampling.top_p, sampling.seed, sampling.max_tokens) == (("ab", "c"), 0.5, 3, 2)


@pytest.mark.parametrize("trusts", [False, True])
def test_code_of_checkpoints_runs_only_where_that_is_set(shell: Any, monkeypatch: Any, trusts: bool) -> None:
    from omlx_jupyter.chat.client import Engine

    asked: list[Any] = []

    def load(*_: Any, **options: Any) -> Any:
        asked.append((options["trust_code"], options["memory_bytes"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "load", load)
    monkeypatch.setattr(settings(), "trust_code", trusts)
    monkeypatch.setattr(settings(), "memory_mib", 64)
    with pytest.raises(KeyboardInterrupt):
        session.engine("another/model")
    assert asked == [(trusts, 64 * 2**20)]


def test_an_answer_is_read_as_json_without_its_fence() -> None:
    generation = type("Generation", (), {"text": '```json\n{"a": [1]}\n```', "usage": stream_view.Usage()})()
    assert Result(generation).json() == {"a": [1]}


def test_a_background_cell_is_a_turn_of_its_chat(shell: InteractiveShell) -> None:
    job = run(shell, "%%vlm --chat later --background --max-tokens 2\nHello {img}")
    text = job.result(30).text
    run(shell, "%omlx jobs wait")
    (turn,) = chats.find("later").turns
    assert (turn.user.parts[0], turn.answer.parts) == ("Hello ", [text])
    chats.clear()


def test_clearing_the_cache_empties_it(shell: InteractiveShell, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    from omlx_jupyter.cache import check

    monkeypatch.setattr(settings(), "cache_folder", str(tmp_path / "cache"))
    run(shell, "%omlx unload")
    try:
        run(shell, "%%vlm --max-tokens 2\n" + "Hello there. " * 60 + "{img}")
        session.unload()  # what waits to be written is written then
        assert sum(entry.blocks for entry in check.entries(tmp_path / "cache")) > 0
        capsys.readouterr()
        run(shell, "%omlx cache clear")
        assert "freed" in capsys.readouterr().out
        assert sum(entry.blocks for entry in check.entries(tmp_path / "cache")) == 0
    finally:
        session.unload()


def test_answers_keep_no_pixels(shell: Any, loaded: Any, tmp_path: Path) -> None:
    """Of files and of the notebook's own objects, asked about and read; `Out` and %vlm last hold the answers."""
    for seed in range(3):
        draw_text(f"page {seed}", 30).resize((400, 300)).save(tmp_path / f"{seed}.png")
    shell.user_ns["folder"] = str(tmp_path)
    shell.user_ns["own"] = draw_text("its own", 30).resize((360, 300))
    asked = run(shell, f"%%vlm -i {tmp_path}/[0-9].png --max-tokens 2\nWhat is it?")
    shell.user_ns["asked"] = asked
    run(shell, "%%vlm -i own --max-tokens 2\nWhat is it?")
    run(shell, f"%ocr {tmp_path}/[0-9].png")
    run(shell, f"%ocr {tmp_path}/1.png")
    shelf.wait()
    gc.collect()
    held = [found for found in gc.get_objects() if isinstance(found, DecodedImage) and found.pixels.nbytes > 2**18]
    assert held == []
    assert [image.pixels.shape for image in asked.images] == [(300, 400, 3)] * 3
    again = run(shell, "%%vlm -i asked.images[0] --max-tokens 2\nWhat is it?")
    assert again.images[0].digest == asked.images[0].digest
