"""A thread that looks at the system's memory and at other kernels now and then, off the engine's path."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psutil

from .budget import Account, Ledger
from .shares import Others, Shares

_log = logging.getLogger(__name__)
EVERY_S = 1.0
_SHORT = 0.10  # of the machine's memory: with less available, the RAM tier gives way
_EASY = 0.15


class MemoryWatch:
    """Sets the ledger's `others`, `due` and `pressure`; calls `changed` where the engine thread has to settle anew."""

    def __init__(self, ledger: Ledger, shares: Shares, together: int, changed: Callable[[], None]) -> None:
        """`together` bounds what all kernels hold; 0: this one goes by its own bound alone."""
        self._ledger, self._shares, self._together, self._changed = ledger, shares, together, changed
        self._wants = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="omlx-memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def claim(self, wants: int = 0) -> None:
        """Engine thread: say at once what is promised, or wanted and not there: two kernels can't take the same."""
        self._wants = wants
        self._take_in(self._shares.publish(self._ledger.claim(), self._ledger.yielded(), wants))

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._shares.leave()

    def look(self) -> None:
        """One look at the system and at the others."""
        before = self._ledger.others, self._ledger.due, self._ledger.pressure
        self._take_in(self._shares.publish(self._ledger.claim(), self._ledger.yielded(), self._wants))
        self._press()
        if before != (self._ledger.others, self._ledger.due, self._ledger.pressure):
            self._changed()

    def _run(self) -> None:
        while not self._closing.wait(EVERY_S):
            try:
                self.look()
            except Exception:
                _log.debug("memory could not be looked at", exc_info=True)

    def _take_in(self, others: Others) -> None:
        """What others have for good counts in full; of what gives way every kernel gets the same share in the end."""
        if not self._together:
            return
        spare = self._together - self._ledger.bound
        left = self._together - others.fixed - others.wants - self._ledger.claim()
        share = min(others.yielding, max(0, left) * others.count // (others.count + 1))
        self._ledger.others = max(0, others.fixed + others.yielding - spare)
        self._ledger.due = max(0, others.fixed + others.wants + share - spare)

    def _press(self) -> None:
        memory = psutil.virtual_memory()
        ledger = self._ledger
        held = ledger.stats().accounts.get(Account.RAM_TIER, 0)
        missing = int(_SHORT * memory.total) - memory.available
        if missing > 0:
            ledger.pressure = max(0, held - missing)
        elif ledger.pressure is not None and memory.available > _EASY * memory.total:
            ledger.pressure = None
