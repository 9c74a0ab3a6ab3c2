"""A terminal shows Markdown that grows and prints the answer once."""

from __future__ import annotations

import io
from typing import Any

import pytest

from omlx_jupyter.engine.request import Progress
from omlx_jupyter.notebook.answers import terminal_view
from omlx_jupyter.notebook.answers.result import Result
from omlx_jupyter.types import Generation, Usage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_markdown_and_keeps_the_answer(monkeypatch: Any) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", screen)
    view = terminal_view.terminal_view()
    assert isinstance(view, terminal_view.RichView)
    view.status("loading")
    view.update("# Ti", Progress("decode", 3, 3, 1, 0), Usage())
    view.finish(
        Result(Generation("# Title\n\n- **one**\n- [bold]two[/bold]\n\nTea 1\nMilk <b> 2", [1], "stop", Usage()))
    )
    shown = screen.getvalue().split("loading", 1)[1]
    assert "writing" in shown
    assert "• " in shown or "one" in shown
    assert "**one**" not in shown.split("writing")[-1]
    lines = [line.strip() for line in shown.split("writing")[-1].splitlines()]
    assert lines.index("Tea 1") + 1 == lines.index("Milk <b> 2")  # line breaks stay
    assert "[bold]two[/bold]" in shown  # model text is no markup of rich's


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    view = terminal_view.terminal_view()
    assert isinstance(view, terminal_view.PlainView)
    view.update("half", None, Usage())
    view.finish(Result(Generation("half and half", [1], "stop", Usage())))
    out = capsys.readouterr().out
    assert out.startswith("half and half\n[")
    assert out.count("half and half") == 1
