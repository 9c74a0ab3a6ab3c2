"""Running answers where there is no notebook: a live panel in a terminal, plain prints elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from ..types import Usage
from .markdown import safe_markdown
from .plain import shown, tell

_UPDATES_PER_S = 8


class PlainView:
    """Prints the pieces as they come: pipes, scripts, consoles that show no display updates."""

    def __init__(self) -> None:
        self._shown = 0

    def status(self, text: str) -> None:
        tell(text, error=True)

    def update(self, text: str, progress: Any, usage: Usage) -> None:
        if len(text) > self._shown:
            tell(text[self._shown :], end="")
            self._shown = len(text)

    def finish(self, result: Any) -> None:
        tell(result.bundle()["text/plain"][self._shown :])

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

    def update(self, text: str, progress: Any, usage: Usage) -> None:
        from .stream_view import phase_line

        now = time.monotonic()
        if now - self._last >= 1 / _UPDATES_PER_S:
            self._last = now
            self._live.update(_page(text, phase_line(progress, usage)), refresh=True)

    def finish(self, result: Any) -> None:
        text = result.bundle()["text/plain"]
        answer, _, figures = text.rpartition("\n[") if "\n[" in text else (text, "", "")
        self._live.stop()
        self._console.print(_page(answer, f"[{figures}" if figures else ""))

    def fail(self) -> None:
        self._live.stop()


def _dim(text: str) -> Any:
    from rich.text import Text

    return Text(shown(text), style="dim")


def _page(text: str, below: str) -> Any:
    from rich.console import Group
    from rich.markdown import Markdown

    parts: list[Any] = [Markdown(safe_markdown(shown(text)), hyperlinks=False)] if text else []
    return Group(*parts, _dim(below)) if below else Group(*parts)


def terminal_view() -> PlainView | RichView:
    """RichView where a person looks at a terminal."""
    return RichView() if sys.stdout.isatty() else PlainView()
