"""Text and tool calls of an answer while it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine.stops import StopMatcher
from ..types import Delta


class ToolStream:
    """Tells text from calls: text goes out at once, a call as soon as it is complete.

    `text` is what was given out. A marker of a call, or what may become one, never is.
    """

    def __init__(self, parser: Any, tools: Any) -> None:
        self._parser, self._tools = parser, tools
        self._matcher = StopMatcher((parser.start,))
        self._ids: list[int] = []
        self._calling = False
        self.text = ""
        self.calls = 0

    def feed(self, delta: Delta) -> tuple[str, Sequence[Any]]:
        """(text, calls completed) of one piece of the answer."""
        if delta.reasoning:  # a call that is thought about is none
            return delta.text, ()
        self._ids += delta.token_ids
        if self._calling:
            return "", self._completed()
        piece = self._matcher.feed(delta.text)
        if self._parser.start_id is not None and self._parser.start_id in delta.token_ids:
            self._calling = True  # a special token: it is in no text
            piece += self._matcher.finish()
        self._calling = self._calling or self._matcher.matched is not None
        self.text += piece
        return piece, ()

    def _completed(self) -> Sequence[Any]:
        found = self._parser.completed(self._ids, self._tools)
        fresh = found[self.calls :]
        self.calls += len(fresh)
        return fresh
