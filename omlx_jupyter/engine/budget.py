"""One ledger of memory: every holder has an account, and one number bounds their sum. Plain Python.

Accounts are read where the bytes lie, so that none can drift. Three kinds: what is held whatever happens (weights,
pixels of requests, rows that were put aside, what waits for the disk), what was promised to rows when they were
admitted, and what gives way (the RAM tier first, then processed pictures, then features).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

_log = logging.getLogger("omlx_jupyter")


class Account(StrEnum):
    WEIGHTS = "weights"
    ROWS = "KV of rows"
    PARKED = "rows put aside"
    PIXELS = "prepared pictures"
    ACTIVATIONS = "activations"  # an estimate: they come and go within a step
    STAGING = "on the way to disk"
    RAM_TIER = "RAM tier"
    REMEMBERED = "processed pictures"
    FEATURES = "picture features"


class Yielding(Protocol):
    """A holder that gives way. `allow` drops what is over the allowance at once, and nothing may grow beyond it."""

    @property
    def nbytes(self) -> int: ...
    def allow(self, most: int) -> None: ...


@dataclass(frozen=True)
class Need:
    """What a request takes beside its prepared pixels: `kv` until it ends, `compute` while it prefills."""

    kv: int = 0
    compute: int = 0

    @property
    def total(self) -> int:
        return self.kv + self.compute


@dataclass(frozen=True)
class MemoryStats:
    """`accounts` in bytes by holder; `promised` is what rows may grow to; `others` is what other kernels hold."""

    bound: int = 0
    accounts: dict[str, int] = field(default_factory=dict)
    promised: int = 0
    others: int = 0
    pressed: bool = False  # the system is short of memory, so that the RAM tier was made smaller

    @property
    def total(self) -> int:
        return sum(self.accounts.values())


class Ledger:
    """Written by the engine thread, but `others`, `due` and `pressure`, which the watch sets. Read by anyone."""

    def __init__(
        self,
        bound: int,
        held: dict[Account, Callable[[], int]],
        rows: Callable[[], int],
        yielding: Sequence[tuple[Account, Yielding]],
    ) -> None:
        """`held` are readings of what doesn't give way, `rows` that of running rows; `yielding` in order of going."""
        self.bound = bound
        self._held, self._rows, self._yielding = held, rows, yielding
        self.promised = Need()
        self.others = 0  # what other kernels hold now of the memory that is shared by default
        self.due = 0  # what they will, once everyone who gives way has kept to their share
        self.pressure: int | None = None  # the most that the RAM tier may have while the system is short of memory

    def fixed(self) -> int:
        return sum(read() for read in self._held.values())

    def room(self) -> int:
        """Bytes that rows may be promised, the promised ones included: all that doesn't give way is left out."""
        return self.bound - self.others - self.fixed()

    def promise(self, need: Need) -> None:
        """What the admitted rows may grow to from now on; who gives way makes room for it."""
        self.promised = need
        self.settle()

    def settle(self) -> None:
        """Allow those that give way what is left, the last ones in their order first."""
        rows = max(self.promised.total, self._rows() + self.promised.compute)
        left = self.bound - self.due - self.fixed() - rows
        for place, (account, holder) in reversed([*enumerate(self._yielding)]):
            most = max(0, left)
            if account is Account.RAM_TIER and self.pressure is not None:
                most = min(most, self.pressure)
            held = _allow(holder, most)
            left -= held if place else 0

    def yielded(self) -> int:
        """Bytes of those that give way."""
        return sum(holder.nbytes for _, holder in self._yielding)

    def claim(self) -> int:
        """What this process has or has promised, without what gives way: for other kernels."""
        return self.fixed() + max(self.promised.total, self._rows())

    def stats(self) -> MemoryStats:
        accounts = {str(account): read() for account, read in self._held.items()}
        accounts[str(Account.ROWS)] = self._rows()
        accounts[str(Account.ACTIVATIONS)] = self.promised.compute
        accounts |= {str(account): holder.nbytes for account, holder in self._yielding}
        return MemoryStats(self.bound, accounts, self.promised.total, self.others, self.pressure is not None)


def _allow(holder: Yielding, most: int) -> int:
    """Let a holder keep at most so many bytes; how many it has then. One that fails keeps what it has: that is worth no
    request."""
    try:
        holder.allow(most)
        return holder.nbytes
    except Exception:
        _log.warning("what gives way for requests could not be made smaller", exc_info=True)
        return 0
