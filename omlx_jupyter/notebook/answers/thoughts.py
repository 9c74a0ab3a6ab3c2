"""What a model thought before its answer, as a cell shows it: a line with its size, and the thought folded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .html import Html, html

if TYPE_CHECKING:
    from ...types import Delta


@dataclass(frozen=True)
class Thought:
    """A thought so far."""

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    running: bool = False

    def line(self) -> str:
        """`thinking… 312 tokens, 4 s`, and `thought 312 tokens, 4 s` when it is over."""
        took = f", {self.seconds:.{1 if self.seconds < 1 else 0}f} s" if self.seconds >= 0.05 else ""
        return f"{'thinking…' if self.running else 'thought'} {self.tokens:,} tokens{took}"

    def html(self) -> Html:
        """Folded. `pre` keeps its line ends, and pages look for no formulas in it."""
        return html(
            '<details><summary style="opacity: 0.75">{}</summary>'
            '<pre style="white-space: pre-wrap; opacity: 0.75">{}</pre></details>',
            self.line(),
            self.text,
        )

    def bundle(self) -> dict[str, str]:
        """What is saved of it: all of it as HTML, its size as a line in the fallbacks."""
        return {"text/html": self.html(), "text/markdown": f"*{self.line()}*", "text/plain": f"[{self.line()}]"}


NO_THOUGHT = Thought()


class Heard:
    """What a running request has said so far, and how long its thought took."""

    def __init__(self) -> None:
        self.text = ""
        self._thought = ""
        self._began = self._ended = 0.0

    def take(self, pieces: Sequence[Delta]) -> None:
        for piece in pieces:
            self._thought += piece.thinking
            self.text += piece.text
        now = time.monotonic()
        if self._thought and not self._began:
            self._began = now
        if self.text and not self._ended:
            self._ended = now

    @property
    def thought_s(self) -> float:
        return (self._ended or time.monotonic()) - self._began if self._began else 0.0

    def thought(self, tokens: int) -> Thought:
        """With its size in tokens, which the request's usage has."""
        if not self._thought:
            return NO_THOUGHT
        return Thought(self._thought, tokens, self.thought_s, not self.text)
