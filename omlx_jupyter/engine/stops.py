"""Cutting an answer at its stop strings, also where they span tokens. Plain Python."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Text in, text out, never showing a stop string or the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """The part of the text so far that is now safe to show. Nothing after a match."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.matched = min(found, key=lambda pair: (pair[0], -len(pair[1])))
            shown, self._held = self._held[:at], ""
            return shown
        keep = max(self._overlap(stop) for stop in self._stops)
        split = len(self._held) - keep
        shown, self._held = self._held[:split], self._held[split:]
        return shown

    def finish(self) -> str:
        """The held text: the answer ended, so it was no stop string."""
        shown, self._held = self._held, ""
        return "" if self.matched is not None else shown

    def _overlap(self, stop: str) -> int:
        """Length of the longest prefix of `stop` that the held text ends with. It is a proper one: the whole isn't
        in the text."""
        return next((size for size in range(len(stop), 0, -1) if self._held.endswith(stop[:size])), 0)
