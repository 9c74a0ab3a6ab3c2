"""Running answers where there is no notebook: a live panel in a terminal, plain prints elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from ...types import Usage
from ..plain import shown, tell
from .markdown import safe_markdown
from .thoughts import NO_THOUGHT, Thought
from .view import phase_line

if TYPE_CHECKING:
    from ...engine.request import Progress
    from .view import Shown

_UPDATES_PER_S = 8


class PlainView:
    """Prints the pieces as they come: pipes, scripts, consoles that show no display updates."""

    def __init__(self) -> None:
        self._shown = 0
        self._told_thought = False

    def keep_place(self) -> None:
        pass

    def status(self, text: str) -> None:
        tell(text, error=True)

    def update(self, text: str, progress: Progress, usage: Usage, thought: Thought = NO_THOUGHT) -> None:
        if thought.text and not thought.running:
            self._tell(thought)
        if len(text) > self._shown:
            tell(text[self._shown :], end="")
            self._shown = len(text)

    def finish(self, result: Shown) -> None:
        thought: Thought = getattr(result, "thought", NO_THOUGHT)  # several answers have none together
        if thought.text:
            self._tell(thought)
        text = result.bundle()["text/plain"][self._shown :]
        tell(text.removeprefix("\n") if thought.text and not result.text else text)

    def _tell(self, thought: Thought) -> None:
        if not self._told_thought:
            self._told_thought = True
            tell(f"[{thought.line()}]")

    def fail(self) -> None:
        if self._shown:
            tell()


class RichView:
    """Markdown that grows in a terminal, with the phase below it; the whole answer stays when it is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="ellipsis")
        self._live.start()
        self._last = 0.0

    def status(self, text: str) -> None:
        self._live.update(_dim(text), refresh=True)

    def keep_place(self) -> None:
        pass

    def update(self, text: str, progress: Progress, usage: Usage, thought: Thought = NO_THOUGHT) -> None:
        now = time.monotonic()
        if now - self._last >= 1 / _UPDATES_PER_S:
            self._last = now
            line = thought.line() if thought.text else ""
            below = "" if thought.running else phase_line(progress, usage)
            self._live.update(page(text, below, line), refresh=True)

    def finish(self, result: Shown) -> None:
        text = result.bundle()["text/plain"]
        answer, _, figures = text.rpartition("\n[") if "\n[" in text else (text, "", "")
        self._live.stop()
        thought: Thought = getattr(result, "thought", NO_THOUGHT)
        line = f"[{thought.line()}]" if thought.text else ""
        self._console.print(page(answer, f"[{figures}" if figures else "", line))

    def fail(self) -> None:
        self._live.stop()


def _dim(text: str) -> Any:
    from rich.text import Text

    return Text(shown(text), style="dim")


def page(text: str, below: str, above: str = "") -> Any:
    from rich.console import Group
    from rich.markdown import Markdown

    parts: list[Any] = [_dim(above)] if above else []
    parts += [Markdown(safe_markdown(shown(text)), hyperlinks=False)] if text else []
    return Group(*parts, _dim(below)) if below else Group(*parts)


def terminal_view() -> PlainView | RichView:
    """RichView where a person looks at a terminal."""
    return RichView() if sys.stdout.isatty() else PlainView()
