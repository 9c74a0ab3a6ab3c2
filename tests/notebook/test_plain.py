"""What is printed shows what it says: a terminal carries nothing out, and HTML escapes whatever it is given."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import omlx_jupyter
from omlx_jupyter.errors import OmlxError
from omlx_jupyter.models.tools import ToolCall
from omlx_jupyter.notebook import plain
from omlx_jupyter.notebook.answers import live, terminal_view
from omlx_jupyter.notebook.answers.comparison import Comparison
from omlx_jupyter.notebook.answers.html import html
from omlx_jupyter.notebook.answers.result import Failure, Result, ResultList
from omlx_jupyter.notebook.answers.thoughts import Thought
from omlx_jupyter.notebook.work import chats, jobs, tool_loop
from omlx_jupyter.notebook.work.tools import of_function
from omlx_jupyter.types import Generation, Usage

from .renderers import Page

HOSTILE = "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x00\x7f\rA"
ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;"
PACKAGE = Path(omlx_jupyter.__file__).parent


def answer(text: str, notes: tuple[str, ...] = ()) -> Result:
    made = Generation(text, [1], "stop", Usage(), detail=text, notes=notes, thinking=text)
    return Result(made, source=text, prompt=text, model=text)


def test_symbols_stand_for_what_a_terminal_would_carry_out() -> None:
    assert plain.shown("a\x1b[1m\x9b\x00\u202eb\x7f\r\n\tשלום é") == "a␛[1m\\x9b␀\\u202eb␡␍\n\tשלום é"
    assert plain.name("a\nb") == "a␊b"
    assert plain.shown(answer("a").text) == "a"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_view_sends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    piped = terminal_view.PlainView()
    piped.status(HOSTILE)
    piped.update("", None, Usage(), Thought(HOSTILE, 9, 1.0, running=True))
    piped.update(HOSTILE[:9], None, Usage(), Thought(HOSTILE, 9, 1.0))
    piped.finish(answer(HOSTILE, (HOSTILE,)))
    said = capsys.readouterr()
    assert not ACTIVE.search(said.out)
    assert not ACTIVE.search(said.err)
    thought, _, rest = said.out.partition("\n")
    assert thought == "[thought 9 tokens, 1 s]"
    assert rest.startswith(plain.shown(HOSTILE))  # no character is lost or shown twice where a piece ends
    screen = Terminal()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", screen)
    view = terminal_view.RichView()
    view.status(HOSTILE)
    view.finish(answer(f"# {HOSTILE}\n\n`{HOSTILE}`\n\n```\n{HOSTILE}\n```", (HOSTILE,)))
    ours = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())  # rich's own colours
    assert not ACTIVE.search(ours)
    assert "␛]8;;" in ours


def test_what_is_saved_is_the_answer_and_what_is_printed_is_safe(shell: InteractiveShell) -> None:
    assert answer(HOSTILE).bundle()["text/plain"].startswith(HOSTILE)
    for value in (answer(HOSTILE), ResultList([answer(HOSTILE), Failure(OmlxError(HOSTILE), HOSTILE)])):
        with capture_output() as said:
            value._ipython_display_()
        assert said.outputs
        assert not ACTIVE.search(said.outputs[0].data["text/plain"])
        assert not ACTIVE.search(repr(value))


@pytest.mark.parametrize(
    "line",
    [
        "ocr '{0}.png'",
        "ocr ok.png --max-tokens '{0}'",
        "ocr ok.png '--{0}'",
        "omlx '{0}'",
        "omlx load '/tmp/{0}'",
        "omlx chats fork '{0}' b",
        "omlx jobs wait '{0}'",
        "omlx cache clear '{0}'",
        "omlx chats",
        "omlx jobs",
        "omlx models",
        "omlx doctor",
        "omlx status",
        "omlx settings",
    ],
)
def test_no_command_and_no_error_sends_it(line: str, shell: InteractiveShell, monkeypatch: Any, capsys: Any) -> None:
    bad = HOSTILE.replace("\x00", "").replace("\r", "")  # IPython ends a line there

    class Waiting:
        state, number, prompt, done = "waiting", 1, bad, True

    monkeypatch.setattr(jobs, "_jobs", {1: Waiting()})
    monkeypatch.setattr(chats, "_chats", {bad: chats.Chat(bad)})
    monkeypatch.setattr("omlx_jupyter.models.hub.cached_models", lambda: [bad])
    monkeypatch.setattr("omlx_jupyter.notebook.manage.doctor._disk", lambda: [(False, bad)])
    shell.run_cell("%" + line.format(bad))
    said = capsys.readouterr()
    assert said.out + said.err
    assert not ACTIVE.search(said.out + re.sub(r"\x1b\[[\d;]*m", "", said.err))


def test_no_cell_sends_it(shell: InteractiveShell, capsys: Any) -> None:
    shell.run_cell("%%vlm\n{1 + '" + HOSTILE.replace("\x00", "").replace("\r", "") + "'}")
    assert not ACTIVE.search(re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().err))


def test_a_question_about_a_tool_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "n")
    tool_loop.run_call(
        ToolCall("f", '{"x": "\\u001b[2K\\nRun g()? [y/N]"}'), {"f": of_function(lambda x: x, "f")}, tool_loop.ask_user
    )
    assert not ACTIVE.search(asked[0])
    assert "\n" not in asked[0]


def test_all_printing_goes_through_one_function() -> None:
    """Found in the code, so that a new print can't slip by."""
    writers = ("print", "sys.stdout.write", "sys.stderr.write")
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in (PACKAGE / "notebook").rglob("*.py")}
    calls = [(name, n.func) for name, tree in trees.items() for n in ast.walk(tree) if isinstance(n, ast.Call)]
    assert [name for name, function in calls if ast.unparse(function) in writers] == ["plain.py"]


# How to make one of each class that shows itself as HTML or Markdown, with a hostile value in every field
MAKERS: dict[str, Callable[[], Any]] = {
    "Comparison": lambda: Comparison({MARKUP: answer(MARKUP), "b": answer("b"), "c": Failure(OmlxError(MARKUP), "c")}),
    "Result": lambda: answer(MARKUP, (MARKUP,)),
    "ResultList": lambda: ResultList([answer(MARKUP), Failure(OmlxError(MARKUP), MARKUP)]),
    "Thought": lambda: Thought(MARKUP, 3, 4.0),
}


def builders() -> dict[str, type]:
    """Every class of the package that makes HTML or Markdown."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(omlx_jupyter.__path__, "omlx_jupyter."):
        if ".labextension" in module.name or ".assets" in module.name:
            continue
        for name, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            makes = ("_repr_html_", "_repr_markdown_", "_repr_svg_", "_repr_latex_", "_repr_mimebundle_", "bundle")
            if cls.__module__.startswith("omlx_jupyter") and any(hasattr(cls, method) for method in makes):
                found[name] = cls
    return found


def test_everything_that_shows_itself_escapes() -> None:
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    found = builders()
    for protocol in ("View", "Shown"):
        found.pop(protocol, None)
    assert set(found) == set(MAKERS), "a class that shows itself wants a maker here"
    for name, make in MAKERS.items():
        value = make()
        bundle = value.bundle()
        made = value._repr_html_() if hasattr(value, "_repr_html_") else bundle.get("text/html", "")
        if made:
            ours = re.sub(r' (style|class)="[a-z0-9.,:;()% -]+"', "", made)
            page = Page(re.sub(r"<(small|details|details open|summary|ins)>", "<sub>", ours))
            assert page.active == [], name
            # Of a result its thought, its answer and its note; of a comparison its name three times, its answer as
            # HTML and in the words that differ, and the other's error
            assert page.text.count(MARKUP) >= {"Thought": 1, "Result": 3, "Comparison": 3}[name]
        page = Page(markdown2html_mistune(bundle["text/markdown"]))
        assert page.active == [], name
        assert "<script>alert(1)</script>" in page.text or name == "Thought"


def test_html_is_made_in_one_place() -> None:
    """No other text of the notebook's code holds a tag than templates of `html` and the writer of Markdown."""
    found = []
    for path in (PACKAGE / "notebook").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        fine = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "html":
                fine |= {id(part) for part in ast.walk(node.args[0])}
            if isinstance(node, ast.Expr):
                fine.add(id(node.value))  # a docstring
        for node in ast.walk(tree):
            held = (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.search(r"</?[a-z]+[ >]", node.value)
            )
            if held and id(node) not in fine and node.value != "<source>":
                found.append(path.name)
    assert set(found) <= {"markdown_writer.py", "result.py"}
    source = (PACKAGE / "notebook" / "answers" / "result.py").read_text(encoding="utf-8")
    assert re.findall(r"<[a-z]+>", source.replace("<small>{}</small>", "")) == ["<sub>"]  # around `safe_line`


def test_the_template_escapes_all_but_its_own() -> None:
    assert html("<b>{}</b>{}", "<i>\"'&", html("<i>{}</i>", 1)) == "<b>&lt;i&gt;&quot;&#x27;&amp;</b><i>1</i>"


def test_widgets_set_text_as_text() -> None:
    """The pages' scripts never make markup of a string; a picture is a data URL or nothing."""
    for script in live._JS.glob("*.js"):
        source = script.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\.href|new Function", source
        )


def test_a_traceback_shows_what_a_hostile_name_would_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`ocr()` raises; IPython prints the error's text as it is."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    name = str(tmp_path / "a\x1b[2J\x1b]0;mine\x07\u202egnp.png")
    shell.run_cell(f"from omlx_jupyter import ocr\nocr({name!r})")
    told = "".join(capsys.readouterr())
    assert "␛" in told
    assert "\x1b[2J" not in told
    assert "\x1b]0;" not in told
    assert "\u202e" not in told.split("Traceback")[-1].rsplit("ImageError", 1)[-1]


def test_each_of_many_answers_has_its_notes() -> None:
    """A picture that was shrunk, or lines that were left out, are told of one answer and of many alike."""
    noted = Generation("text", [1], "stop", Usage(), notes=("3 improbable lines left out",))
    bundle = ResultList([Result(noted, source="a.png"), answer("other")]).bundle()
    assert bundle["text/plain"].startswith("--- a.png\ntext\n[3 improbable lines left out]\n\n--- ")
    assert "3 improbable lines left out" in bundle["text/markdown"]
