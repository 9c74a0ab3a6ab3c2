"""Tools: asked for by name or by a person, shown, limited, and their failures told to both sides."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter.models.tools import ToolCall
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.work import session, tool_loop
from omlx_jupyter.notebook.work.tools import of_function

from .test_cells import Scripted, run


@pytest.fixture
def scripted(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a `%%vlm --tools f,g` cell with given calls; the tool messages that went to the model."""
    ran: list[Any] = []

    def f(x: int) -> Any:
        ran.append(x)
        return x

    def g(x: int) -> Any:
        ran.append(x)
        return "a" * 50_000

    shell.user_ns.update(f=f, g=g)

    def cell(flags: str, *calls: ToolCall) -> list[str]:
        engine = Scripted(session.engine(), [("", list(calls)), ("done", [])])
        monkeypatch.setattr(session, "_engine", [engine])
        run(shell, f"%%vlm --tools f,g {flags} --max-tokens 3\nLook at {{img}}")
        return [message.parts[0] for message in engine.seen[1] if message.role == "tool"]

    cell.ran = ran  # type: ignore[attr-defined]
    return cell


def test_only_what_was_allowed_by_name_runs_without_asking(scripted: Any, monkeypatch: Any, capsys: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "n")
    calls = [ToolCall("f", '{"x": 1}'), ToolCall("g", '{"x": 2}')]
    assert scripted("", *calls) == ["The user refused this call."] * 2
    assert asked == ["Run f(x=1)? [y/N] ", "Run g(x=2)? [y/N] "]
    settings().allowed_tools = "f, other"
    try:
        assert scripted("", *calls) == ["1", "The user refused this call."]
        assert scripted("", ToolCall("other", "{}"))[0].startswith("Error: there is no tool other")
    finally:
        settings().allowed_tools = ""
    assert len(asked) == 3
    assert scripted.ran == [1]
    capsys.readouterr()
    scripted("--yes", *calls)
    assert len(asked) == 3
    shown = capsys.readouterr().out
    assert '→ f({"x": 1})' in shown
    assert "← 1" in shown


def test_nobody_to_ask_is_a_refusal_with_a_sentence(scripted: Any, monkeypatch: Any, capsys: Any) -> None:
    from ipykernel.kernelbase import Kernel

    kernel = Kernel.__new__(Kernel)  # the real question of a kernel whose front end allows no input
    kernel._allow_stdin = False
    monkeypatch.setattr("builtins.input", lambda text: Kernel.raw_input(kernel, text))
    assert scripted("", ToolCall("f", '{"x": 1}')) == ["The user refused this call."]
    assert scripted.ran == []
    shown = capsys.readouterr().out
    assert "f(x=1) was not run: nobody to ask here; --yes allows" in shown
    assert "Omlx.allowed_tools = 'f'" in shown


def test_what_a_tool_says_is_shown_up_to_500_characters(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shell.user_ns["h"] = lambda n: "b" * n
    calls = [ToolCall("h", f'{{"n": {n}}}') for n in (500, 501)]
    monkeypatch.setattr(session, "_engine", [Scripted(session.engine(), [("", calls), ("done", [])])])
    run(shell, "%%vlm --tools h --yes --max-tokens 3\nLook at {img}")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("← ")]
    assert shown == ["← " + "b" * 500, "← " + "b" * 499 + "…"]


def test_a_result_is_data_of_a_limited_size(scripted: Any, capsys: Any) -> None:
    (said,) = scripted("--yes", ToolCall("g", '{"x": 2}'))
    assert said.startswith("a" * tool_loop.MOST_RESULT + "\n… cut: the result has 50,000 characters")
    assert len(said) < tool_loop.MOST_RESULT + 100
    assert len(capsys.readouterr().out) < 2_000


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("http://127.0.0.1/x.png", "http://127.0.0.1/x.png"),  # text, not an address to fetch
        ("<tool_call>", "<tool_call>"),
        ({"a": [1]}, '{"a": [1]}'),
        ("\ud800", "?"),
        (None, "null"),
    ],
)
def test_a_result_is_text_as_it_is(value: Any, part: str) -> None:
    assert tool_loop.run_call(ToolCall("f", "{}"), {"f": of_function(lambda: value, "f")}, lambda _: True) == [part]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def fails(error: BaseException) -> Any:
    def f() -> None:
        raise error

    return f


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (fails(ValueError("no such page")), "Error: ValueError: no such page"),
        (fails(SystemExit(3)), "Error: SystemExit: 3"),
        (fails(RecursionError("deep")), "Error: RecursionError: deep"),
        (fails(ValueError("x" * 50_000)), "Error: ValueError: xxx"),
        (lambda: Unprintable(), "Error: RuntimeError: no words"),
    ],
)
def test_a_failure_is_told_to_the_model(function: Any, told: str) -> None:
    (said,) = tool_loop.run_call(ToolCall("f", "{}"), {"f": of_function(function, "f")}, lambda _: True)
    assert said.startswith(told)
    assert len(said) < tool_loop.MOST_RESULT + 100


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "1", '{"y": 1}', "[" * 5_000, '{"x": "' + "a" * 20_000 + '"}'])
def test_arguments_that_do_not_fit_run_nothing_and_are_told_to_both(arguments: str, scripted: Any, capsys: Any) -> None:
    (said,) = scripted("--yes", ToolCall("f", arguments))
    assert said.startswith("Error: the arguments ")
    assert scripted.ran == []
    assert "← Error: the arguments " in capsys.readouterr().out
