"""Text and tool calls of an answer while it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.stops import StopMatcher
from ..types import Delta

if TYPE_CHECKING:
    from ..engine.front import FindsCalls, FoundCall
    from ..types import Tools


@dataclass(frozen=True)
class CallPiece:
    """What is new of a call: its `name` with the first piece, `arguments` as JSON text to append."""

    index: int
    name: str
    arguments: str


class ToolStream:
    """Tells text from calls: text goes out at once, a call's name and arguments as they come.

    `text` is what was given out. A marker of a call, or what may become one, never is.
    """

    def __init__(self, parser: FindsCalls, tools: Tools) -> None:
        self._parser, self._tools = parser, tools
        self._matcher = StopMatcher(parser.starts)
        self._ids: list[int] = []
        self._held = ""
        self._calling = self._decided = False
        self._sent: list[str] = []  # each call's arguments
        self.text = ""

    @property
    def calls(self) -> int:
        """How many calls have begun to be given out."""
        return len(self._sent)

    def feed(self, delta: Delta) -> tuple[str, Sequence[CallPiece]]:
        """(text, pieces of calls) of one piece of the answer."""
        if delta.reasoning:  # a call that is thought about is none
            return delta.text, ()
        self._ids += delta.token_ids
        if self._calling:
            return "", self._pieces()
        piece = self._matcher.feed(delta.text)
        if self._parser.start_id is not None and self._parser.start_id in delta.token_ids:
            self._calling = True  # a special token: it is in no text
            piece += self._matcher.finish()
        if self._parser.begins and not self._decided:
            piece = self._whole_or_none(piece)
        self._calling = self._calling or self._matcher.matched is not None
        self.text += piece
        return piece, self._pieces() if self._calling else ()

    def _whole_or_none(self, piece: str) -> str:
        """An answer that may be calls as a whole is held until its beginning tells."""
        self._held += piece
        begun = self._held.lstrip()
        if begun.startswith(self._parser.begins):
            self._calling = self._decided = True
            return ""
        if any(text.startswith(begun) for text in self._parser.begins):
            return ""
        self._decided = True
        return self._held

    def _pieces(self) -> list[CallPiece]:
        return self._new([(c.name, c.arguments) for c in self._parser.begun(self._ids, self._tools)])

    def finish(self, calls: Sequence[FoundCall]) -> list[CallPiece]:
        """What wasn't given out yet of the calls that the whole answer has."""
        told = [(c.name, c.arguments) for c in self._parser.begun(self._ids, self._tools) if c.whole]
        return self._new(told + [(c.name, c.arguments) for c in calls[len(told) :]])

    def _new(self, calls: Sequence[tuple[str, str]]) -> list[CallPiece]:
        made = []
        for index, (name, arguments) in enumerate(calls):
            if index == len(self._sent):
                self._sent.append(arguments)
                made.append(CallPiece(index, name, arguments))
                continue
            fresh = arguments[len(self._sent[index]) :]
            if fresh and arguments.startswith(self._sent[index]):
                self._sent[index] = arguments
                made.append(CallPiece(index, "", fresh))
        return made
