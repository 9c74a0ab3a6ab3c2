"""Who may have memory now: the engine's ledger, filled with its holders, and what it decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache.defaults import default_folder
from ..visible import size
from .budget import Account, Ledger, MemoryStats, Need, Yielding
from .pixels import Remembered
from .registry import Registry
from .row import Row
from .shares import Shares
from .watch import MemoryWatch

if TYPE_CHECKING:
    from .runner import Runner

_PIXEL_SHARE = 8  # 1/8 of what the weights leave is kept for pictures that are being prepared
_STAGING_SHARE = 16  # and 1/16 for what waits for the disk
_PATIENCE_S = 20.0  # for memory that other kernels hold, while nothing runs here


class Keeper:
    """Engine thread only, but `stats`."""

    def __init__(
        self, runner: Runner, held: Registry, rows: Callable[[], Sequence[Row]], parked: Callable[[], Sequence[Row]],
        folder: Path | None, changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._runner: Any = runner  # None once closed
        self._held = held
        self._weights = int(runner.weights)
        cache = runner.reuse.cache
        writer = cache.writer if cache is not None else None
        staging: Callable[[], int] = (lambda: writer.queued_bytes) if writer is not None else (lambda: 0)
        remembered = Remembered(runner.model.vision, held.pixels)
        yielding: list[tuple[Account, Yielding]] = [
            (Account.REMEMBERED, remembered),
            (Account.FEATURES, runner.pictures.features),
        ]
        readings = {
            Account.WEIGHTS: lambda: self._weights,
            Account.PARKED: lambda: sum(row.aside for row in parked()),
            Account.PIXELS: lambda: held.pixels.nbytes,
            Account.STAGING: staging,
        }
        self.ledger = Ledger(
            runner.bound,
            readings,
            lambda: runner.batch.nbytes + sum(row.nbytes for row in rows()),
            [(Account.RAM_TIER, cache.ram), *yielding] if cache is not None else yielding,
        )
        left = max(0, runner.bound - self._weights)
        self._for_pixels, self._for_staging = left // _PIXEL_SHARE, left // _STAGING_SHARE if writer is not None else 0
        if writer is not None:
            writer.allow(self._for_staging)
        self._staging = staging
        self._watch = MemoryWatch(self.ledger, Shares(folder or default_folder()), runner.together, changed)
        self._watch.claim()
        self._watch.start()
        self._settled: tuple[Any, ...] = ()
        self._stuck_since = 0.0
        self._wanted = 0  # by the request that waits while nothing runs
        held.pixel_room = self._pixel_room  # last: other threads ask from here on

    def stats(self) -> MemoryStats:
        return self.ledger.stats()

    def together(self, needs: Sequence[Need]) -> Need:
        """What rows need side by side: where they don't own their KV, each takes the longest's."""
        if not needs:
            return Need()
        most = max(need.kv for need in needs)
        own = self._runner.own_kv or len(needs) == 1
        kv = sum(need.kv for need in needs) if own else most * len(needs)
        step = self._runner.step_bytes * len(needs) + int(kv * self._runner.copied)
        return Need(kv, max(need.compute for need in needs) + step)

    def fits(self, needs: Sequence[Need]) -> bool:
        room = self.ledger.room()
        preparing = self._held.preparing_bytes()
        room -= preparing
        if len(needs) > 1:  # the other accounts may grow meanwhile; one request alone has all there is
            room -= max(0, self._for_pixels - self._held.pixels.nbytes - preparing)
            room -= max(0, self._for_staging - self._staging())
        return self.together(needs).total <= room

    def _pixel_room(self) -> int:
        """Bytes that pictures may have together, those of running requests included."""
        ledger = self.ledger
        return ledger.room() + self._held.pixels.nbytes - max(ledger.promised.total, self._wanted)

    def promise(self, needs: Sequence[Need]) -> bool:
        """The rows that are there now, or are about to be; who gives way gives it before they compute. False: another
        kernel was faster, and there isn't as much any more."""
        made, before = self.together(needs), self.ledger.promised
        now = (made, self._held.pixels.nbytes, self.ledger.others, self.ledger.due, self.ledger.pressure)
        if now != self._settled:
            self.ledger.promise(made)
            self._settled = now
            if made.total > before.total:
                self._watch.claim()
                return not self.ledger.others or made.total <= self.ledger.room()
        return True

    def settle(self) -> None:
        """Somebody else's figures have changed."""
        self._settled = ()
        self.ledger.settle()

    def want(self, need: Need) -> None:
        """`need` is the next to be admitted: no pictures are prepared instead."""
        self._wanted = need.total

    def wait(self, need: Need) -> bool:
        """Nothing runs and `need` doesn't fit: ask the other kernels for it. False: it was asked for long enough."""
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        self._watch.claim(need.total)
        self.settle()
        return not self.ledger.others or now - self._stuck_since < _PATIENCE_S

    def waited(self) -> None:
        """What had to wait was admitted, or has ended."""
        self._wanted = 0
        if self._stuck_since:
            self._stuck_since = 0.0
            self._watch.claim()

    def why(self, needs: Sequence[Need], need: Need) -> str:
        """Why `need` doesn't fit beside `needs`, for people."""
        free = max(0, self.ledger.room() - self.together(needs).total)
        others = f"; other kernels hold {size(self.ledger.others)}" if self.ledger.others else ""
        return f"memory: it needs about {size(need.total)}, {size(free)} of {size(self.ledger.bound)} are free{others}"

    def close(self) -> None:
        """End the watch, and hold nothing of the model any more."""
        self._watch.close()
        self._held.pixel_room = lambda: 0
        self._runner = None
        self.ledger = Ledger(0, {}, lambda: 0, ())
