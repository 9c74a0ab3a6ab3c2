"""A request's state and the handle that its owner holds. Plain Python."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import EngineClosedError, OmlxError, ProcessError, RequestError
from ..types import Delta, FinishReason, Generation, Usage
from .events import EventQueue
from .front import Handle
from .phase import Phase, PhaseError, allowed
from .state import Answer, Course, Flags, PromptState, Wants

if TYPE_CHECKING:
    from .row import Row

_numbers = itertools.count(1)
_groups = itertools.count(1)
WATCH_S = 0.5  # a reader looks this often whether the engine thread still lives


def new_group() -> int:
    """A number for requests that people see as one, such as a page's lines."""
    return next(_groups)


def _spent() -> NoReturn:
    raise RuntimeError("the request was prepared already")


@dataclass
class Request:
    """One request's whole state. Each group says who writes it; the engine thread writes what is in none.

    `row` is what the request has on the engine thread, from its admission to its end.
    """

    wants: Wants
    prepare: Callable[[], Any]
    number: int = field(default_factory=lambda: next(_numbers))
    flags: Flags = field(default_factory=Flags)
    prompt: PromptState = field(default_factory=PromptState)
    course: Course = field(default_factory=Course)
    answer: Answer = field(default_factory=Answer)
    said: Answer = field(default_factory=Answer)  # before its row was dropped: computed again, not said again
    row: Row | None = None
    events: EventQueue[Delta] = field(default_factory=EventQueue)
    result: Generation | None = None
    error: BaseException | None = None
    _phase: Phase = Phase.QUEUED

    @property
    def phase(self) -> Phase:
        return self._phase

    def to(self, phase: Phase) -> None:
        """Go on to another phase; staying is allowed.

        :raises PhaseError: no way leads there.
        """
        if phase is not self._phase:
            if not allowed(self._phase, phase):
                raise PhaseError(self.number, self._phase, phase)
            self._phase = phase

    @property
    def max_tokens(self) -> int:
        return self.prompt.max_tokens or self.wants.sampling.max_tokens or 1

    @property
    def longest(self) -> int:
        """Tokens that its row may come to."""
        return self.prompt.tokens + self.max_tokens

    def usage(self) -> Usage:
        now = time.monotonic()
        began, prepared, course = self.wants.at, self.prompt.at, self.course
        first = course.first_token_at
        decoded = len(self.answer.token_ids) - 1
        return Usage(
            prompt_tokens=self.prompt.tokens,
            completion_tokens=len(self.answer.token_ids),
            reasoning_tokens=self.answer.reasoning_tokens,
            images=self.prompt.images,
            images_encoded=course.images_encoded,
            images_reused=course.images_reused,
            cached_tokens=course.cached_tokens,
            cached_tokens_ram=course.cached_tokens_ram,
            cached_tokens_ssd=course.cached_tokens_ssd,
            saved_s=course.saved_s,
            queue_s=max(0.0, course.admitted_at - prepared) if course.admitted_at else 0.0,
            prepare_s=max(0.0, prepared - began) if prepared else 0.0,
            ttft_s=first - began if first else 0.0,
            total_s=now - began,
            decode_tokens_per_s=decoded / (now - first) if first and decoded > 0 and now > first else 0.0,
            peak_rows=course.peak_rows,
            steps=course.steps,
            drafted=course.drafted,
            accepted=course.accepted,
            accepted_from=dict(course.accepted_from),
        )

    @property
    def ended(self) -> bool:
        return self.result is not None or self.error is not None

    def finish(self, reason: FinishReason, detail: str = "") -> None:
        if self.ended:
            return
        if len(self.said.token_ids) > len(self.answer.token_ids):  # cancelled while it was computed again
            self.answer = self.said
        self.result = Generation(
            text="".join(self.answer.text),
            thinking="".join(self.answer.thinking).strip(),
            token_ids=list(self.answer.token_ids),
            finish_reason=reason,
            usage=self.usage(),
            detail=detail,
            notes=tuple(self.prompt.notes),
            logprobs=list(self.answer.logprobs) if self.wants.sampling.logprobs is not None else None,
        )
        self._end()

    def fail(self, error: BaseException) -> None:
        if self.ended:
            return
        self.error = error
        self._end()

    def _end(self) -> None:
        """Possible from every phase, and asks nobody."""
        self._phase = Phase.DONE
        self.let_go()
        self.events.end()

    def back(self) -> None:
        """To the queue: the row was dropped for its memory. What was said stays said; its tokens are computed again."""
        self.to(Phase.QUEUED)
        self.row = None
        self.course.nothing_reused()
        if len(self.answer.token_ids) > len(self.said.token_ids):
            self.said = self.answer
        self.answer = Answer()

    def unprepare(self) -> None:
        """Its pictures were dropped for their memory: prepare it again."""
        self.prompt = PromptState()

    def let_go(self) -> None:
        """A handle may be kept for long: it holds the answer, not the model, its pixels or a guide."""
        self.prepare, self.row = _spent, None
        self.prompt.ready = self.prompt.guide = None


@dataclass(frozen=True)
class Progress:
    """Where a request is: `done` of `total` prompt tokens are prefilled, `tokens` are written."""

    phase: Phase
    done: int
    total: int
    tokens: int
    images: int


class RequestHandle(Handle):
    """What `Engine.submit` returns. Iterate it (also with `async for`) for the pieces of the answer.

    A request whose handle nobody holds any longer is cancelled and gives its row back, unless it was detached.
    """

    def __init__(self, request: Request, wake: Callable[[], None], alive: Callable[[], bool]) -> None:
        self._request = request
        self._wake = wake
        self._alive = alive

    def __del__(self) -> None:
        flags = self._request.flags
        if not (flags.detached or flags.cancelled or self._request.ended):
            self.cancel()

    def __reduce__(self) -> NoReturn:
        raise ProcessError("a request can't be pickled; send its `result()` instead.")

    def detach(self) -> RequestHandle:
        """Let the request run to its end though nobody holds its handle, say to warm the cache."""
        self._request.flags.detached = True
        return self

    def in_background(self) -> RequestHandle:
        """Let requests that somebody waits for go first; the answer is the same."""
        self._request.flags.background = True
        return self

    def on_news(self, call: Callable[[], None]) -> None:
        """Call it whenever `poll` has something new, from the engine's thread: it must be short and never raise."""
        self._request.events.on_news = call
        call()

    @property
    def number(self) -> int:
        return self._request.number

    @property
    def done(self) -> bool:
        return self._request.events.ended or self._request.ended

    @property
    def progress(self) -> Progress:
        r = self._request
        return Progress(r.phase, r.course.prefilled, r.prompt.tokens, len(r.answer.token_ids), r.prompt.images)

    @property
    def usage(self) -> Usage:
        """The figures so far."""
        return self._request.result.usage if self._request.result else self._request.usage()

    def cancel(self) -> None:
        """End the request within one step; what was said so far is kept. From any thread."""
        self._request.flags.cancelled = True
        self._wake()

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        """(new pieces, whether the answer is complete), waiting at most `timeout` seconds for one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            over = self.settled  # asked first: what is written before the end isn't missed
            left = WATCH_S if deadline is None else min(WATCH_S, deadline - time.monotonic())
            items, ended = self._request.events.wait(0.0 if over else max(0.0, left))
            if items or ended or over or (deadline is not None and time.monotonic() >= deadline):
                return items, ended or over

    @property
    def settled(self) -> bool:
        return self.done or self._ended_unseen()

    def _ended_unseen(self) -> bool:
        """The watchdog: an engine thread that has died, or a fork, can't end the request; its reader does."""
        if not self._request.ended and not self._alive():
            time.sleep(0.02)  # a thread that ends by itself ends its requests first
            self._request.fail(EngineClosedError("the engine has ended without an answer; load it again."))
        return self._request.ended

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the end.

        :raises OmlxError: the request failed.
        :raises TimeoutError: it didn't end in time; it goes on running.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.settled:
            left = WATCH_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"request {self.number} is still running after {timeout} s")
            self._request.events.wait_ended(min(WATCH_S, left))
        self._raise()
        assert self._request.result is not None
        return self._request.result

    def _raise(self) -> None:
        error = self._request.error
        if error is None:
            return
        if isinstance(error, OmlxError):
            raise error
        raise RequestError(f"the request failed ({type(error).__name__}: {error}).") from error
