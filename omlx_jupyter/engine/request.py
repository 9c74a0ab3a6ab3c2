"""A request's state and the handle that its owner holds. Plain Python."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from ..errors import EngineClosedError, OmlxError, ProcessError, RequestError
from ..types import Delta, FinishReason, Generation, SamplingParams, TokenLogprob, Usage
from .events import EventQueue
from .readable import Readable

Phase = Literal["queued", "reading", "prefill", "decode", "done"]
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
    """Written by the engine thread, except `cancelled`, which anyone may set."""

    sampling: SamplingParams
    prepare: Callable[[], Any]
    group: int = 0  # requests of one page have the same; 0 stands alone
    number: int = field(default_factory=lambda: next(_numbers))
    submitted: float = field(default_factory=time.monotonic)
    phase: Phase = "queued"
    cancelled: bool = False
    prompt: Any = None
    prompt_tokens: int = 0
    bytes_needed: int = 0  # estimate: KV of prompt and answer, and the vision tower's peak
    context_ends: bool = False  # the model's context ends before max_tokens would
    detached: bool = False  # runs to its end though nobody holds its handle
    background: bool = False  # gives its turn, and its row, to requests that aren't
    stop_loops: bool = False
    grammar: Any = None
    prefilled: int = 0
    images: int = 0
    images_encoded: int = 0
    images_reused: int = 0
    cached_tokens: int = 0
    cached_tokens_ram: int = 0
    cached_tokens_ssd: int = 0
    saved_s: float = 0.0
    peak_rows: int = 1
    prepared_at: float = 0.0
    admitted_at: float = 0.0
    first_token_at: float = 0.0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    events: EventQueue[Delta] = field(default_factory=EventQueue)
    result: Generation | None = None
    error: BaseException | None = None

    def usage(self) -> Usage:
        now = time.monotonic()
        first = self.first_token_at
        decoded = len(self.token_ids) - 1
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=len(self.token_ids),
            images=self.images,
            images_encoded=self.images_encoded,
            images_reused=self.images_reused,
            cached_tokens=self.cached_tokens,
            cached_tokens_ram=self.cached_tokens_ram,
            cached_tokens_ssd=self.cached_tokens_ssd,
            saved_s=self.saved_s,
            queue_s=max(0.0, self.admitted_at - self.prepared_at) if self.admitted_at else 0.0,
            prepare_s=max(0.0, self.prepared_at - self.submitted) if self.prepared_at else 0.0,
            ttft_s=first - self.submitted if first else 0.0,
            total_s=now - self.submitted,
            decode_tokens_per_s=decoded / (now - first) if first and decoded > 0 and now > first else 0.0,
            peak_rows=self.peak_rows,
        )

    def nothing_reused(self) -> None:
        """A restore failed: the prompt is computed from its first token."""
        self.prefilled = self.cached_tokens = self.cached_tokens_ram = self.cached_tokens_ssd = 0
        self.images_reused, self.saved_s = 0, 0.0

    @property
    def ended(self) -> bool:
        return self.result is not None or self.error is not None

    def finish(self, reason: FinishReason, detail: str = "") -> None:
        if self.ended:
            return
        self.phase = "done"
        self.result = Generation(
            text="".join(self.text),
            token_ids=list(self.token_ids),
            finish_reason=reason,
            usage=self.usage(),
            detail=detail,
            notes=tuple(self.notes),
            logprobs=list(self.logprobs) if self.sampling.logprobs is not None else None,
        )
        self._let_go()
        self.events.end()

    def fail(self, error: BaseException) -> None:
        if self.ended:
            return
        self.error = error
        self.phase = "done"
        self._let_go()
        self.events.end()

    def _let_go(self) -> None:
        """A handle may be kept for long: it holds the answer, not the model, its pixels or a grammar."""
        self.prepare, self.prompt, self.grammar = _spent, None, None


@dataclass(frozen=True)
class Progress:
    """Where a request is: `done` of `total` prompt tokens are prefilled, `tokens` are written."""

    phase: Phase
    done: int
    total: int
    tokens: int
    images: int


class RequestHandle(Readable[Generation]):
    """What `Engine.submit` returns. Iterate it (also with `async for`) for the pieces of the answer.

    A request whose handle nobody holds any longer is cancelled and gives its row back, unless it was detached.
    """

    def __init__(self, request: Request, wake: Callable[[], None], alive: Callable[[], bool]) -> None:
        self._request = request
        self._wake = wake
        self._alive = alive

    def __del__(self) -> None:
        if not (self._request.detached or self._request.ended or self._request.cancelled):
            self.cancel()

    def __reduce__(self) -> NoReturn:
        raise ProcessError("a request can't be pickled; send its `result()` instead.")

    def detach(self) -> RequestHandle:
        """Let the request run to its end though nobody holds its handle, say to warm the cache."""
        self._request.detached = True
        return self

    def in_background(self) -> RequestHandle:
        """Let requests that somebody waits for go first; the answer is the same."""
        self._request.background = True
        return self

    @property
    def number(self) -> int:
        return self._request.number

    @property
    def done(self) -> bool:
        return self._request.events.ended or self._request.ended

    @property
    def progress(self) -> Progress:
        r = self._request
        return Progress(r.phase, r.prefilled, r.prompt_tokens, len(r.token_ids), r.images)

    @property
    def usage(self) -> Usage:
        """The figures so far."""
        return self._request.result.usage if self._request.result else self._request.usage()

    def cancel(self) -> None:
        """End the request within one step; what was said so far is kept. From any thread."""
        self._request.cancelled = True
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
