"""One answer out of several requests: what follows from theirs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

from ..engine.phase import Phase
from ..engine.readable import Answer, Readable
from ..engine.request import Progress
from ..types import Generation, Usage

TICK_S = 0.05  # so soon after a part's end what follows from it is begun


class Several(Readable[Answer]):
    """Used as a request's handle is. `handles` are the requests', or others of this kind."""

    def __init__(self, handles: Sequence[Readable[Generation]], began: float) -> None:
        """`began`: of `time.monotonic()`."""
        self._handles, self._began = list(handles), began
        self._result: Answer | None = None

    @property
    def usage(self) -> Usage:
        """The whole's figures so far."""
        return self._result.usage if self._result else self.sums()

    @property
    def number(self) -> int:
        """The first piece's number; 0 for a page without ink."""
        return self._handles[0].number if self._handles else 0

    @property
    def done(self) -> bool:
        return all(handle.done for handle in self._handles)

    @property
    def settled(self) -> bool:
        return all(handle.settled for handle in self._handles)

    @property
    def progress(self) -> Progress:
        parts = [handle.progress for handle in self._handles]
        order = (Phase.DECODE, Phase.PREFILL, Phase.READING, Phase.QUEUED)
        phase = next((p for p in order if any(part.phase == p for part in parts)), Phase.DONE)
        return Progress(
            phase, sum(p.done for p in parts), sum(p.total for p in parts), sum(p.tokens for p in parts), images=1
        )

    def wait(self, timeout: float | None) -> bool:
        """Whether all have ended, waiting at most `timeout` seconds. Each is asked in turns, so that none that goes on
        when it is asked has to wait for those before it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.settled:
            waiting = [handle for handle in self._handles if not handle.settled]
            left = TICK_S if deadline is None else min(TICK_S, deadline - time.monotonic())
            if left <= 0:
                return False
            if waiting:
                waiting[0].poll(left)
        return True

    def in_background(self) -> Self:
        """Let requests that somebody waits for go first."""
        for handle in self._handles:
            handle.in_background()
        return self

    def cancel(self) -> None:
        """End the page within one step; lines that are read are kept. From any thread."""
        for handle in self._handles:
            handle.cancel()

    def sums(self) -> Usage:
        """Sums over the pieces; times are the whole's own."""
        parts = [handle.usage for handle in self._handles]
        now = time.monotonic() - self._began
        sums: dict[str, Any] = {
            name: sum(getattr(part, name) for part in parts)
            for name in (
                "prompt_tokens",
                "completion_tokens",
                "reasoning_tokens",
                "steps",
                "drafted",
                "accepted",
                "cached_tokens",
                "cached_tokens_ram",
                "cached_tokens_ssd",
                "saved_s",
            )
        }
        encoded = any(part.images_encoded for part in parts)
        first = min((part.ttft_s for part in parts if part.ttft_s), default=0.0)
        return Usage(
            **sums,
            accepted_from=sum((Counter(part.accepted_from) for part in parts), Counter()),
            images=1,
            images_encoded=int(encoded),
            images_reused=int(bool(parts) and not encoded and all(part.images_reused for part in parts)),
            queue_s=min((part.queue_s for part in parts), default=0.0),
            prepare_s=min((part.prepare_s for part in parts), default=0.0),
            ttft_s=first,
            total_s=now,
            decode_tokens_per_s=sums["completion_tokens"] / (now - first) if now > first > 0 else 0.0,
            peak_rows=max((part.peak_rows for part in parts), default=1),
        )
