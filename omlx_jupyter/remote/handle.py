"""A request that runs on a server, used as the kernel's own are."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from ..engine.events import EventQueue
from ..engine.front import Handle
from ..engine.phase import Phase
from ..engine.request import Progress
from ..errors import OmlxError, ProcessError
from ..types import Delta, Generation, Usage

_numbers = itertools.count(1)


@dataclass
class Asked:
    """One request as far as this side knows of it. The reader's thread writes it."""

    number: int = field(default_factory=lambda: next(_numbers))
    events: EventQueue[Delta] = field(default_factory=EventQueue)
    said: list[Delta] = field(default_factory=list)
    result: Generation | None = None
    error: OmlxError | None = None
    phase: Phase = Phase.QUEUED
    prefilled: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    images: int = 0
    usage: Usage = field(default_factory=Usage)
    began: float = field(default_factory=time.monotonic)
    sent: bool = False
    cancelled: bool = False
    background: bool = False
    detached: bool = False

    @property
    def ended(self) -> bool:
        return self.result is not None or self.error is not None

    def take(self, deltas: list[Delta]) -> None:
        self.phase = Phase.DECODE
        for delta in deltas:
            self.tokens += len(delta.token_ids)
            self.said.append(delta)
            self.events.put(delta)

    def finish(self, made: Generation) -> None:
        if not self.ended:
            self.result, self.usage = made, made.usage
            self._end()

    def fail(self, error: OmlxError) -> None:
        if not self.ended:
            self.error = error
            self._end()

    def stop(self) -> None:
        """Cancelled before anybody had it, or after nobody was left who could say more."""
        text = "".join(delta.text for delta in self.said)
        ids = [token for delta in self.said for token in delta.token_ids]
        self.finish(Generation(text, ids, "cancelled", self.usage))

    def _end(self) -> None:
        self.phase = Phase.DONE
        self.said = []
        self.events.end()


class RemoteHandle(Handle):
    """What a remote engine's `submit` returns; see `RequestHandle`."""

    def __init__(self, asked: Asked, tell: Callable[[str, Asked], None]) -> None:
        self._asked, self._tell = asked, tell

    def __del__(self) -> None:
        asked = self._asked
        if not (asked.detached or asked.cancelled or asked.ended):
            self.cancel()

    def __reduce__(self) -> NoReturn:
        raise ProcessError("a request can't be pickled; send its `result()` instead.")

    def detach(self) -> RemoteHandle:
        """Let the request run to its end though nobody holds its handle."""
        self._asked.detached = True
        return self

    def in_background(self) -> RemoteHandle:
        """Let requests that somebody waits for go first; the answer is the same."""
        self._asked.background = True
        self._tell("background", self._asked)
        return self

    @property
    def number(self) -> int:
        return self._asked.number

    @property
    def done(self) -> bool:
        return self._asked.events.ended or self._asked.ended

    @property
    def settled(self) -> bool:
        return self.done

    @property
    def progress(self) -> Progress:
        a = self._asked
        return Progress(a.phase, a.prefilled, a.prompt_tokens, a.tokens, a.images)

    @property
    def usage(self) -> Usage:
        """The figures so far, as the server told them last."""
        return self._asked.usage

    def cancel(self) -> None:
        """End the request within one step; what was said so far is kept. From any thread."""
        if not self._asked.cancelled:
            self._asked.cancelled = True
            self._tell("cancel", self._asked)

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        """(new pieces, whether the answer is complete), waiting at most `timeout` seconds for one."""
        while True:
            items, ended = self._asked.events.wait(0.5 if timeout is None else timeout)  # Ctrl-C gets through
            if items or ended or timeout is not None:
                return items, ended

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the end.

        :raises OmlxError: the request failed, or the server has gone.
        :raises TimeoutError: it didn't end in time; it goes on running.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.done:
            left = 0.5 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"request {self.number} is still running after {timeout} s")
            self._asked.events.wait_ended(min(0.5, left))
        if self._asked.error is not None:
            raise self._asked.error
        made = self._asked.result
        assert made is not None
        return made
