"""Thoughts of a model that thinks before it answers: how a checkpoint marks them, and telling them from the answer.

Plain Python: text in, text out. What marks a thought is found in the checkpoint's vocabulary and template.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Markers:
    """How a checkpoint writes a thought: `open`, the thought, `close`; `headers` may stand before the answer and mean
    nothing; `after` follows `close` when the thought is ended for it."""

    open: str
    close: str
    headers: tuple[str, ...] = ()
    after: str = "\n\n"

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.open, self.close, *self.headers)

    @property
    def closing(self) -> str:
        """What ends a thought that has run out of its budget."""
        return f"{'' if self.headers else chr(10)}{self.close}{self.headers[0] if self.headers else self.after}"

    @property
    def skipping(self) -> str:
        """A thought without thoughts, for templates that have no switch."""
        return f"{self.open}\n\n{self.close}{self.after}"


# What can't be told from a vocabulary alone: the texts of each kind. The first that a checkpoint has counts.
_KINDS = (
    Markers("<think>", "</think>"),
    Markers("<longcat_think>", "</longcat_think>"),
    Markers("<|think:start|>", "<|think:end|>"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("[THINK]", "[/THINK]", after=""),
    Markers("◁think▷", "◁/think▷"),
    Markers("<thinking>", "</thinking>"),
    Markers("<|channel>thought\n", "<channel|>", after=""),
    Markers("<|open|>think<|sep|>", "<|close|>think<|sep|>", after=""),
    Markers(
        "<|channel|>analysis<|message|>",
        "<|end|>",
        headers=("<|start|>assistant<|channel|>final<|message|>", "<|channel|>final<|message|>"),
        after="",
    ),
)


def markers_of(vocabulary: Collection[str], template: str) -> Markers | None:
    """A checkpoint's markers: of the first kind both of whose are tokens, or named by its template."""
    for kind in _KINDS:
        if all(text in template or all(w in vocabulary for w in _words(text)) for text in (kind.open, kind.close)):
            return kind
    return None


def _words(marker: str) -> list[str]:
    """What a vocabulary would have of a marker as tokens of their own."""
    return re.findall(r"<[^<>]+>|\[/?[A-Z]+\]|◁[^◁▷]+▷", marker)


def opened_by(markers: Markers | None, prompt: str) -> bool:
    """Whether a prompt ends inside a thought, so that the answer's first token is one already."""
    return markers is not None and prompt.rstrip().endswith(markers.open.rstrip())


class Thoughts:
    """Splits an answer's text, as it comes, into what is thought and what is said; a marker may come in pieces.

    A thought begins at the answer's beginning or not at all: later the marker is text, as in an answer about it.
    White space between a thought and the answer belongs to neither.
    """

    def __init__(self, markers: Markers | None, opened: bool = False) -> None:
        self._markers = markers
        self.thinking = opened and markers is not None
        self.thought = self.thinking  # whether there was one
        self._headers = markers.headers if markers else ()
        self.said = markers is None  # the answer has begun: from here on everything is text
        self._held = ""
        self._blank = self.thinking  # nothing of this thought yet

    def feed(self, text: str) -> tuple[str, str]:
        """(of the thought, of the answer) that is certain now."""
        if self.said:
            return "", text
        self._held += text
        thought, said = "", ""
        while self._held and not self.said:
            before = self._held
            if self.thinking:
                thought += self._think()
            else:
                said += self._begin()
            if self._held == before:
                break
        return thought, said

    def finish(self) -> tuple[str, str]:
        """What was held back: the answer has ended."""
        held, self._held = self._held, ""
        if self.thinking:
            return held.rstrip(), ""
        rest = held.strip() if self.thought else held
        cut = bool(rest) and self.thought and any(h.startswith(rest) for h in self._headers)
        return "", "" if cut or not rest else held

    def _think(self) -> str:
        assert self._markers is not None
        if self._blank:
            self._held = self._held.lstrip()
            self._blank = not self._held
        at = self._held.find(self._markers.close)
        if at >= 0:
            found, self._held = self._held[:at], self._held[at + len(self._markers.close) :]
            self.thinking = False
            return found.rstrip()
        kept = max(_overlap(self._held, self._markers.close), 0)
        end = len(self._held[: len(self._held) - kept].rstrip())  # white space may be the thought's last
        found, self._held = self._held[:end], self._held[end:]
        return found

    def _begin(self) -> str:
        assert self._markers is not None
        rest = self._held.lstrip()
        for text in self._markers.texts:
            if text == self._markers.close:
                continue
            if rest.startswith(text.rstrip()):
                if text == self._markers.open:
                    self.thinking = self.thought = self._blank = True
                self._held = rest[len(text.rstrip()) :]
                return ""
        if not rest or any(text.startswith(rest) for text in self._markers.texts if text != self._markers.close):
            return ""
        self.said = True
        said, self._held = (rest if self.thought else self._held), ""
        return said


def _overlap(text: str, marker: str) -> int:
    """Length of the longest proper beginning of `marker` that `text` ends with."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)


def special_words(markers: Markers | None, specials: Sequence[str]) -> tuple[str, ...]:
    """Tokens of the markers that decoding would leave out."""
    words = {word for text in markers.texts for word in _words(text)} if markers else set()
    return tuple(sorted(words & set(specials)))
