"""Thinking models in cells without a kernel: flags, settings, what is printed and kept, chats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from omlx_jupyter import SamplingParams, ocr, vlm
from omlx_jupyter.engine.phase import Phase
from omlx_jupyter.engine.request import Progress
from omlx_jupyter.notebook.answers import terminal_view
from omlx_jupyter.notebook.answers.result import Result, ResultList
from omlx_jupyter.notebook.answers.stream_view import phase_line
from omlx_jupyter.notebook.answers.thoughts import Heard, Thought
from omlx_jupyter.notebook.cells import ask_cell
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.watch.state import Watcher
from omlx_jupyter.notebook.work import chats, session
from omlx_jupyter.types import Delta, Generation, Usage

from ..checkpoints import scripted
from ..engine.test_thinking import CHAINS, SWITCHED, THOUGHT
from .renderers import Page
from .test_magics import complaint, run
from .test_terminal import Terminal

ENDLESS = [["\n", "<think>", *THOUGHT, "Two"], ["</think>", "Four", ".", scripted.END]]
THOUGHT_TEXT = "".join(THOUGHT)
HOSTILE = "<script>alert(1)</script></pre></details>\n\n$\\href{javascript:alert(1)}{x}$ <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("thinkers")
    return {
        "thinks": scripted.write(place / "thinks", CHAINS, SWITCHED),
        "endless": scripted.write(place / "endless", ENDLESS),
        "json": scripted.write(
            place / "json",
            [["\n", "<think>", *THOUGHT, "</think>", "\n\n", "{", '"n"', ":", "4", "}", scripted.END]],
        ),
    }


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    made = settings()
    made.think, made.think_budget, made.drafts, made.save_thoughts = "", -1, True, True
    chats.clear()


@pytest.fixture
def thinks(shell: InteractiveShell, folders: dict[str, Path]) -> Iterator[InteractiveShell]:
    run(shell, f"%omlx load {folders['thinks']}")
    yield shell
    session.unload()


@pytest.fixture
def endless(shell: InteractiveShell, folders: dict[str, Path]) -> Iterator[InteractiveShell]:
    run(shell, f"%omlx load {folders['endless']}")
    yield shell
    session.unload()


def test_the_thought_is_kept_apart(thinks: InteractiveShell, capsys: Any) -> None:
    result = run(thinks, "%%vlm --temperature 0\nWhat is 2 + 2?")
    assert (result.text, result.thinking, str(result)) == ("Four.", THOUGHT_TEXT, "Four.")
    assert result.messages[-1].parts == ["Four."]
    out = capsys.readouterr().out
    assert out.startswith(f"[thought {len(THOUGHT) + 2} tokens")
    assert out.count("[thought") == 1
    assert THOUGHT_TEXT not in out  # one line, never the whole thought
    assert out.splitlines()[1] == "Four."
    assert f"({len(THOUGHT) + 2} thought)" in result.figures()


def test_flags_and_settings(thinks: InteractiveShell) -> None:
    ask = "%%vlm --temperature 0 --max-tokens 40{}\nWhat?"
    assert run(thinks, ask.format(" --no-think")).thinking == ""
    assert run(thinks, ask.format(" --think-budget 3")).thinking == "".join(THOUGHT[:2])
    run(thinks, "%config Omlx.think = 'off'")
    assert run(thinks, ask.format("")).thinking == ""
    assert vlm("What?", temperature=0, max_tokens=40).thinking == ""
    assert run(thinks, ask.format(" --think")).thinking == THOUGHT_TEXT  # the flag wins
    assert vlm("What?", temperature=0, max_tokens=40, think=True).thinking == THOUGHT_TEXT
    run(thinks, "%config Omlx.think = 'on'\n%config Omlx.think_budget = 3")
    assert run(thinks, ask.format("")).thinking == "".join(THOUGHT[:2])
    assert run(thinks, ask.format(" --think-budget 4")).thinking == "".join(THOUGHT[:3])
    assert run(thinks, ask.format(" --no-think")).text == "Four."


def test_settings_leave_models_that_mark_no_thoughts_alone(shell: InteractiveShell, capsys: Any) -> None:
    run(shell, "%omlx load tiny-ocr")
    assert session.engine().thinks is False
    for think in ("on", "off"):
        run(shell, f"%config Omlx.think = '{think}'\n%config Omlx.think_budget = 3")
        assert run(shell, "%ocr img").text
        assert run(shell, "%ocr --whole img").text
        assert ocr.map([shell.user_ns["img"]])[0].text
        assert vlm("Text Recognition:", shell.user_ns["img"], max_tokens=4).usage.completion_tokens
    assert "leave think out" in complaint(shell, "%%vlm --think\nhi", capsys)
    assert "leave think_budget out" in complaint(shell, "%%vlm --think-budget 3\nhi", capsys)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%%vlm --think --no-think\nhi", "not allowed with argument"),
        ("%%vlm --no-think --think-budget 4\nhi", "--no-think and --think-budget don't go together"),
        ("%%vlm --think-budget many\nhi", "many is not a whole number from 0"),
        ("%%vlm --think-budget -3\nhi", "-3 is not a whole number from 0"),
        ("%%vlm --thinkbudget 3\nhi", "did you mean --think-budget"),
        ("%%vlm --hint nowhere\nhi", "there is no name nowhere; put text in quotes"),
        ("%%vlm --hint img.nothing\nhi", "fails in this notebook"),
        ("%%vlm --hint img\nhi", "the hint is a Image; give text, or an answer"),
        ("%ocr img --hint ['a','b']", "there are 2 hints for 1 pictures"),
        ("%ocr img --think", "has no flag --think"),
    ],
)
def test_refusals(shell: InteractiveShell, code: str, words: str, capsys: Any) -> None:
    shell.user_ns["a"] = "x"
    assert words in complaint(shell, code, capsys)


def test_completion_and_help(shell: InteractiveShell, capsys: Any) -> None:
    for text, flag in (("%%vlm --thi", "--think-budget"), ("%%vlm --no-t", "--no-think"), ("%ocr --hi", "--hint")):
        assert flag in shell.Completer.complete(line_buffer=text, cursor_pos=len(text))[1]
    run(shell, "%%vlm?")
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--no-think", "--think-budget N", "--hint TEXT", "--no-draft"))


def test_a_thought_without_an_end_is_told(endless: InteractiveShell, capsys: Any) -> None:
    result = run(endless, "%%vlm --max-tokens 40 --temperature 0\nWhat?")
    assert (result.text, result.finish_reason) == ("", "length")
    told = "max_tokens (40) reached; the answer ended inside its thought"
    assert result.detail == told
    assert all(told in shown for shown in result.bundle().values())
    assert told in Page(result._repr_html_()).text
    assert told in capsys.readouterr().out
    assert f"({told})" in ResultList([result, result]).bundle()["text/plain"]
    assert "(80 thought)" in ResultList([result, result]).figures()
    endless.user_ns["schema"] = {"type": "object"}
    assert not endless.run_cell("%%vlm --json schema --max-tokens 40 --temperature 0\nWhat?").success
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "ended inside its thought; try a larger --max-tokens, a --think-budget or --no-think" in said


def test_an_interrupt_inside_the_thought(endless: InteractiveShell, monkeypatch: Any, capsys: Any) -> None:
    def update(self: Any, text: str, progress: Any, usage: Any, thought: Thought) -> None:
        if thought.text:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal_view.PlainView, "update", update)
    done = endless.run_cell("%%vlm --max-tokens 100000 --no-draft --temperature 0 -o kept\nWhat?", store_history=True)
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    kept = endless.user_ns["kept"]
    assert (kept.text, kept.finish_reason, kept.detail) == (
        "",
        "cancelled",
        "the answer was stopped inside its thought",
    )
    assert kept.thinking.startswith("Two and")
    assert "[the answer was stopped inside its thought]" in capsys.readouterr().out


def test_json_is_the_answer_alone(shell: InteractiveShell, folders: dict[str, Path]) -> None:
    run(shell, f"%omlx load {folders['json']}")
    shell.user_ns["schema"] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert run(shell, "%%vlm --json schema --temperature 0 --max-tokens 60\n?") == {"n": 4}
    plain = run(shell, "%%vlm --temperature 0 --max-tokens 60\n?")
    assert (plain.json(), plain.thinking) == ({"n": 4}, THOUGHT_TEXT)
    session.unload()


def test_what_is_saved(shell: InteractiveShell) -> None:
    made = Generation("Four.", [1], "stop", Usage(reasoning_tokens=1312), thinking=HOSTILE)
    result = Result(made, thought_s=4.2)
    bundle = result.thought_bundle()
    assert bundle is not None
    assert bundle["text/markdown"] == "*thought 1,312 tokens, 4 s*"
    assert bundle["text/plain"] == "[thought 1,312 tokens, 4 s]"
    assert HOSTILE in Page(bundle["text/html"]).text
    assert "<script" not in bundle["text/html"]
    for shown in result.bundle().values():
        assert "script" not in shown
    with capture_output() as said:
        result._ipython_display_()
    assert [set(output.data) for output in said.outputs] == [
        {"text/html", "text/markdown", "text/plain"},
        {"text/markdown", "text/plain"},
    ]
    run(shell, "%config Omlx.save_thoughts = False")
    assert result.thought_bundle() is None
    with capture_output() as said:
        result._ipython_display_()
    assert len(said.outputs) == 1
    assert "script" not in result._repr_html_() + repr(result) + str(result.bundle())
    assert result.thinking == HOSTILE


def test_lines() -> None:
    assert Thought("x", 1312, 4.4, running=True).line() == "thinking… 1,312 tokens, 4 s"
    assert Thought("x", 3, 0.25).line() == "thought 3 tokens, 0.2 s"
    assert Thought("x", 3).line() == "thought 3 tokens"
    heard = Heard()
    heard.take([Delta("", (1,))])
    assert heard.thought(0) == Thought()
    heard.take([Delta("", (1,), "a"), Delta("", (1,), "b")])
    assert heard.thought(2).running
    heard.take([Delta("c", (1,))])
    took = heard.thought_s
    assert not heard.thought(2).running
    assert (heard.thought(2).text, heard.text) == ("ab", "c")
    assert heard.thought_s == took  # the answer's time isn't the thought's


def test_the_next_turn_does_not_hear_it(thinks: InteractiveShell, tmp_path: Path, monkeypatch: Any) -> None:
    """Of a chat's prompt, token by token; and an exported chat has it as the notebook has."""
    cell = ["a"]
    monkeypatch.setattr(ask_cell, "cell_id", lambda _: cell[0])
    first = run(thinks, "%%vlm --chat sums --temperature 0\nWhat is 2 + 2?")
    assert first.thinking == THOUGHT_TEXT
    cell[0] = "b"
    second = run(thinks, "%%vlm --chat sums --temperature 0\nSure?")
    assert [m.parts for m in second.messages] == [["What is 2 + 2?"], ["Four."], ["Sure?"], ["Four."]]
    told = session.engine().generate(list(second.messages[:3]), sampling=SamplingParams(max_tokens=1))
    assert second.usage.prompt_tokens == told.usage.prompt_tokens
    for name in ("sums.json", "sums.md"):
        run(thinks, f"%omlx chats export sums {tmp_path}/{name}")
    made = json.loads((tmp_path / "sums.json").read_text())
    assert [m.get("reasoning_content") for m in made] == [None, THOUGHT_TEXT] * 2
    assert made[1]["content"] == [{"type": "text", "text": "Four."}]
    assert (
        f"**assistant, thinking**\n\n> {THOUGHT_TEXT}\n\n**assistant**\n\nFour." in (tmp_path / "sums.md").read_text()
    )
    run(thinks, "%config Omlx.save_thoughts = False")
    for name in ("sums.json", "sums.md"):
        run(thinks, f"%omlx chats export sums {tmp_path}/{name}")
        assert THOUGHT_TEXT not in (tmp_path / name).read_text()


def test_a_hostile_thought_in_an_exported_chat(tmp_path: Path) -> None:
    from .renderers import pages

    chats.add("bad", "", chats.Message("user", ["?"]), "Four.", HOSTILE)
    chats.export("bad", tmp_path / "bad.md")
    for renderer, page in pages((tmp_path / "bad.md").read_text()).items():
        assert page.active == [], renderer


def test_a_background_cell_thinks(thinks: InteractiveShell) -> None:
    job = run(thinks, "%%vlm --background --chat later --temperature 0\nWhat is 2 + 2?")
    result = job.result(30)
    assert (result.text, result.thinking) == ("Four.", THOUGHT_TEXT)
    assert chats.find("later").turns[0].thinking == THOUGHT_TEXT


def test_hints_and_no_drafts(shell: InteractiveShell, folders: dict[str, Path]) -> None:
    """The engine hears them; the answer is the same."""
    run(shell, "%omlx load tiny-ocr")
    shell.user_ns["before"] = run(shell, "%ocr img --no-draft")
    run(shell, "%omlx unload")
    heard: list[tuple[bool, str]] = []
    engine = session.engine()
    real = type(engine).submit

    def submit(self: Any, *args: Any, **settings: Any) -> Any:
        heard.append((settings.get("draft", True), settings.get("hint", "")))
        return real(self, *args, **settings)

    type(engine).submit = submit  # type: ignore[method-assign]
    try:
        text = shell.user_ns["before"].text
        cells = {
            "%ocr img": (True, ""),
            "%ocr img --no-draft": (False, ""),
            "%ocr img --hint 'Hello 42'": (True, "Hello 42"),
            "%ocr img --hint before": (True, text),
            "%ocr img --whole --hint before.text.upper()": (True, text.upper()),
            "%%vlm -i img --max-tokens 5 --hint before --no-draft\nText Recognition:": (False, text),
            "ocr(img, hint=before)": (True, text),
            "ocr(img, hint=before, draft=False)": (False, text),
            "vlm('Text Recognition:', img, hint='a', max_tokens=5)": (True, "a"),
        }
        run(shell, "from omlx_jupyter import ocr, vlm")
        for cell, wanted in cells.items():
            heard.clear()
            result = run(shell, cell)
            assert set(heard) == {wanted}, cell
            assert result.text == text or "vlm" in cell or "--whole" in cell
        heard.clear()
        made = run(shell, "ocr.map([img, img, img], hint=['x', None, float('nan')], concurrency=1)")
        assert [r.text for r in made] == [text] * 3
        assert [hint for _, hint in heard if hint] == ["x"] * (len(heard) // 3)
        heard.clear()
        run(shell, "%ocr img img --hint ['x', 'y']")
        assert {hint for _, hint in heard} == {"x", "y"}
        run(shell, "import pandas\ndf = pandas.DataFrame({'image': ['hello.png'], 'said': ['Hello']})")
        heard.clear()
        run(shell, "df['image'].omlx.ocr(hint=df['said'])")
        assert set(heard) == {(True, "Hello")}
        run(shell, "%config Omlx.drafts = False")
        for cell in ("%ocr img", "ocr(img)", "ocr.map([img])", "%ocr img img", "%%vlm --max-tokens 3\nhi"):
            heard.clear()
            run(shell, cell)
            assert {draft for draft, _ in heard} == {False}, cell
    finally:
        type(engine).submit = real  # type: ignore[method-assign]


def test_a_draft_is_told(thinks: InteractiveShell) -> None:
    """A cell that is run again takes fewer steps, and says where they went."""
    long = "%%vlm --temperature 0 --max-tokens 60\nWhat is 2 + 2? " + "Think well. " * 20
    first, second = run(thinks, long), run(thinks, long)
    assert (first.text, first.thinking) == (second.text, second.thinking)
    assert second.usage.steps < first.usage.steps
    assert f"{second.usage.accepted} of {second.usage.completion_tokens} tokens from" in second.figures()
    state = Watcher().snapshot()["recent"]
    assert [done["accepted"] for done in state[:2]] == [second.usage.accepted, first.usage.accepted]
    assert state[0]["thought"] == second.usage.reasoning_tokens == len(THOUGHT) + 2
    assert run(thinks, long.replace("%%vlm", "%%vlm --no-draft")).usage.accepted == 0


def test_the_phase_says_what_is_thought_and_drafted() -> None:
    usage = Usage(reasoning_tokens=312, accepted=148, decode_tokens_per_s=80)
    progress = Progress(Phase.DECODE, 9, 9, 350, 0)
    assert phase_line(progress, usage, thinking=True) == "thinking · 80 tokens/s · 148 from drafts"
    assert phase_line(progress, usage) == "writing · 350 tokens (312 thought) · 80 tokens/s · 148 from drafts"
    assert phase_line(progress, Usage(decode_tokens_per_s=80)) == "writing · 350 tokens · 80 tokens/s"


def test_a_terminal_has_one_line_of_it(monkeypatch: Any) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr(terminal_view, "_UPDATES_PER_S", 1e9)
    view = terminal_view.RichView()
    progress = Progress(Phase.DECODE, 9, 9, 350, 0)
    view.update("", progress, Usage(), Thought(THOUGHT_TEXT, 7, 1.0, running=True))
    view.update("", progress, Usage(), Thought(THOUGHT_TEXT, 8, 2.0, running=True))
    view.update("Fo", progress, Usage(), Thought(THOUGHT_TEXT, 8, 2.0))
    view.finish(Result(Generation("Four.", [1], "stop", Usage(reasoning_tokens=8), thinking=THOUGHT_TEXT), thought_s=2))
    shown = screen.getvalue()
    assert "thinking… 7 tokens, 1 s" in shown
    assert "thinking… 8 tokens, 2 s" in shown
    assert "[thought 8 tokens, 2 s]" in shown
    assert shown.rindex("[thought 8 tokens") < shown.rindex("Four.")
    assert THOUGHT_TEXT not in shown
