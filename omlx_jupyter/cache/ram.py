"""The RAM tier: blocks, states and features of one engine. Least recently used first to go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from .features import HasBytes
from .keys import Block
from .planner import Child

Parent = TypeVar("Parent", bound=Hashable)
Payload = Mapping[str, Any]  # name -> evaluated array


def payload_bytes(payload: Payload) -> int:
    return sum(int(array.nbytes) for array in payload.values())


def kept(payload: Payload) -> Payload:
    """A payload as it can be kept and handed out: no user can change it.

    numpy's arrays are read-only down to the memory they own. What is a view of memory that something else owns, such
    as a row's that is still written, is copied: MLX spares what other MLX arrays share, but doesn't see numpy's views.
    """
    return MappingProxyType({name: _frozen(array) for name, array in payload.items()})


def _frozen(array: HasBytes) -> HasBytes:
    if not isinstance(array, np.ndarray):
        return array
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if owner.base is not None or not owner.flags.owndata:
        array = owner = array.copy()
    owner.setflags(write=False)
    array.setflags(write=False)
    return array.view()  # who owns memory could make it writable again


@dataclass
class _Entry:
    payload: Payload
    nbytes: int
    block: Block | None = None  # None for a state


class RamTier:
    """Engine thread only. An entry in use is kept alive by whoever holds its arrays, so eviction can't hurt.

    What is handed out can't be changed by its user (see `kept`), and no array of a row is kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = self._allowed = budget
        self.nbytes = 0
        self.evictions = 0
        self._entries: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()
        self._children: dict[tuple[bytes, int], dict[bytes, Block]] = {}
        self._after: dict[bytes, dict[bytes, Block]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put_block(self, block: Block, payload: Payload) -> None:
        self._put(("block", block.key), _Entry(kept(payload), payload_bytes(payload) + block.symbols.nbytes, block))
        self._children.setdefault((block.parent, block.first), {})[block.key] = block
        self._after.setdefault(block.parent, {})[block.key] = block
        self._shrink()

    def put_state(self, key: bytes, payload: Payload) -> None:
        self._put(("state", key), _Entry(kept(payload), payload_bytes(payload)))
        self._shrink()

    def block(self, key: bytes) -> Payload | None:
        return self._get("block", key)

    def state(self, key: bytes) -> Payload | None:
        return self._get("state", key)

    def has_block(self, key: bytes) -> bool:
        return ("block", key) in self._entries

    def children(self, parent: bytes, first: int) -> Sequence[Child]:
        found = self._children.get((parent, first), {})
        return [Child(b.key, b.length, True, b.window, ("state", b.key) in self._entries) for b in found.values()]

    def after(self, parent: bytes) -> list[Block]:
        """All blocks after `parent`, whatever they begin with, the newest first."""
        return list(self._after.get(parent, {}).values())[::-1]

    def symbols(self, key: bytes) -> np.ndarray | None:
        entry = self._entries.get(("block", key))
        return entry.block.symbols if entry is not None and entry.block is not None else None

    def clear(self) -> None:
        self._entries.clear()
        self._children.clear()
        self._after.clear()
        self.nbytes = 0

    def allow(self, most: int) -> None:
        """Keep within `most` bytes, or the budget where that is less, from now on."""
        self._allowed = min(self.budget, most)
        self._shrink()

    def _get(self, kind: str, key: bytes) -> Payload | None:
        entry = self._entries.get((kind, key))
        if entry is None:
            return None
        self._entries.move_to_end((kind, key))
        return entry.payload

    def _put(self, name: tuple[str, bytes], entry: _Entry) -> None:
        old = self._entries.pop(name, None)
        self._entries[name] = entry
        self.nbytes += entry.nbytes - (old.nbytes if old else 0)

    def _shrink(self) -> None:
        while self.nbytes > self._allowed and self._entries:
            _, entry = self._entries.popitem(last=False)
            self._forget(entry)
            self.evictions += 1

    def _forget(self, entry: _Entry) -> None:
        self.nbytes -= entry.nbytes
        block = entry.block
        if block is not None:
            _drop(self._children, (block.parent, block.first), block.key)
            _drop(self._after, block.parent, block.key)


def _drop(families: dict[Parent, dict[bytes, Block]], parent: Parent, key: bytes) -> None:
    siblings = families.get(parent, {})
    siblings.pop(key, None)
    if not siblings:
        families.pop(parent, None)
