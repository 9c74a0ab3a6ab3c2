"""Vision features by picture, least recently used first to go."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class HasBytes(Protocol):
    """An array of any library."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=HasBytes)


class FeatureCache(Generic[Value]):
    """Byte-budgeted LRU. Values need `.nbytes`; bytes are counted as they change."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = self._allowed = budget_bytes
        self._items: OrderedDict[str, Value] = OrderedDict()
        self.nbytes = 0

    def get(self, key: str) -> Value | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: str, value: Value) -> None:
        """Keep a value; one larger than the whole budget isn't kept."""
        old = self._items.pop(key, None)
        self.nbytes -= old.nbytes if old is not None else 0
        if value.nbytes > self._allowed:
            return
        self.nbytes += value.nbytes
        self._items[key] = value
        self._shrink()

    def allow(self, most: int) -> None:
        """Keep within `most` bytes, or the budget where that is less, from now on."""
        self._allowed = min(self._budget, most)
        self._shrink()

    def _shrink(self) -> None:
        while self.nbytes > self._allowed:
            _, dropped = self._items.popitem(last=False)
            self.nbytes -= dropped.nbytes

    def __len__(self) -> int:
        return len(self._items)

    def clear(self) -> None:
        self._items.clear()
        self.nbytes = 0
