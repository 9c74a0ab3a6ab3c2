"""Write-behind: a thread that puts new blocks on disk within about a second and never makes anyone wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .keys import Block
from .ram import payload_bytes
from .ssd import Run, SsdTier

_log = logging.getLogger(__name__)
GATHER_S = 0.6  # blocks that come within this time go into one file
_REST = 1.0  # while rows decode, rest this many times as long as a piece took to write


@dataclass
class _Pending:
    """New blocks of one chain."""

    since: float
    blocks: list[Block] = field(default_factory=list)
    payloads: list[Mapping[str, Any]] = field(default_factory=list)
    extras: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)
    nbytes: int = 0


class Writer:
    """`put` never waits: what doesn't fit into `limit` bytes is dropped and counted.

    Payloads are evaluated arrays that numpy can read.
    """

    def __init__(self, tier: SsdTier, limit: int, busy: Callable[[], bool]) -> None:
        self._tier, self._limit, self._busy = tier, limit, busy
        self._changed = threading.Condition()
        self._pending: list[_Pending] = []
        self._writing = False
        self._closing = False
        self.queued_bytes = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="omlx-cache-writer", daemon=True)
        self._thread.start()

    def allow(self, most: int) -> None:
        """Queue no more than `most` bytes, or the usual limit where that is less."""
        self._limit = min(self._limit, most)

    def put(self, block: Block | None, payload: Mapping[str, Any], extra: bytes | None = None) -> None:
        """Queue a block, or with `extra` a state or features under that key."""
        size = payload_bytes(payload)
        with self._changed:
            if self._closing or self._tier.paused:
                return
            if self.queued_bytes + size > self._limit:
                self.dropped += 1
                return
            self.queued_bytes += size
            pending = self._place(block)
            pending.nbytes += size
            if extra is not None:
                pending.extras[extra] = payload
            elif block is not None:
                pending.blocks.append(block)
                pending.payloads.append(payload)
            self._changed.notify_all()

    def _place(self, block: Block | None) -> _Pending:
        """The run that `block` goes on from, else a new one. Extras go to the newest run."""
        for pending in reversed(self._pending):
            last = pending.blocks[-1] if pending.blocks else None
            if block is None or (last is not None and last.key == block.parent):
                return pending
        self._pending.append(_Pending(time.monotonic()))
        return self._pending[-1]

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything queued so far is on disk; False if it took longer."""
        deadline = time.monotonic() + timeout
        with self._changed:
            for pending in self._pending:
                pending.since = 0.0
            self._changed.notify_all()
            while self._pending or self._writing:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(left)
        return True

    def close(self, timeout: float = 10.0) -> bool:
        """Write what is queued, then end the thread; False if it hasn't ended in time."""
        self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._tier.sweep()
        except Exception:
            _log.warning("the prefix cache could not be swept", exc_info=True)
        while True:
            pending = self._next()
            try:
                if pending is None:
                    self._tier.tend(0.0)
                    return
                self._tier.store(_run_of(pending), self._rest)
                self._tier.tend()
            except Exception:
                _log.warning("a run of the prefix cache could not be written", exc_info=True)
                self.dropped += 1
                if pending is None:
                    return
            with self._changed:
                self.queued_bytes -= pending.nbytes
                self._writing = False
                self._changed.notify_all()

    def _next(self) -> _Pending | None:
        with self._changed:
            while True:
                now = time.monotonic()
                if self._pending and (self._closing or now - self._pending[0].since >= GATHER_S):
                    self._writing = True
                    return self._pending.pop(0)
                if self._closing:
                    return None
                self._changed.wait(GATHER_S - (now - self._pending[0].since) if self._pending else None)

    def _rest(self, seconds: float) -> None:
        if self._busy() and not self._closing:
            time.sleep(min(0.1, seconds * _REST))


def _run_of(pending: _Pending) -> Run:
    arrays: dict[str, np.ndarray] = {}
    if pending.payloads:
        names = sorted(pending.payloads[0])
        arrays = {name: np.concatenate([np.asarray(p[name]) for p in pending.payloads], axis=1) for name in names}
    extras = {key: {n: np.asarray(a) for n, a in payload.items()} for key, payload in pending.extras.items()}
    return Run(pending.blocks, arrays, extras)
