"""The models of a server: loaded by need, put out by least use where memory is short, never while rows run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from ..errors import RequestError

if TYPE_CHECKING:
    from ..chat.client import Engine
    from ..engine.front import Front

_ROOM = 1.3  # of a checkpoint's files: weights and what a first request needs
_WAIT_S = 300.0  # for rows of another model to end
_LOOK_S = 0.2


class NoSuchModelError(RequestError):
    """A model that the server doesn't have."""


@dataclass
class Slot:
    """One model that clients may name."""

    name: str
    engine: Engine | None = None
    used: float = 0.0
    size: int = 0  # bytes of its files


class House:
    """`load(name)` makes an engine, in a thread. `bound` is in bytes; 0 is what the machine has free."""

    def __init__(self, names: list[str], load: Callable[[str], Engine], bound: int = 0) -> None:
        self.slots = {name: Slot(name) for name in names}
        self._load, self._bound = load, bound
        self._loading = asyncio.Lock()
        self.active = time.monotonic()  # when somebody last asked for something

    @property
    def names(self) -> list[str]:
        return list(self.slots)

    def slot(self, name: str | None) -> Slot:
        """:raises NoSuchModelError: a model that the server doesn't have."""
        wanted = name or self.names[0]
        found = self.slots.get(wanted)
        if found is None:
            raise NoSuchModelError(f"the server has no model {wanted[:100]!r}; it has: {', '.join(self.names)}.")
        return found

    def loaded(self, name: str | None) -> Engine | None:
        """The engine of a model that is in memory, else None."""
        return self.slot(name).engine

    async def engine(self, name: str | None) -> Engine:
        """The engine of a model, loaded if need be.

        :raises RequestError: no such model, or no memory for it while rows run.
        :raises ModelError: it can't be loaded.
        """
        slot = self.slot(name)
        slot.used = self.active = time.monotonic()
        if slot.engine is None:
            async with self._loading:
                if slot.engine is None:
                    await self._make_room(slot)
                    slot.engine = await asyncio.to_thread(self._load, slot.name)
        return slot.engine

    async def _make_room(self, slot: Slot) -> None:
        slot.size = slot.size or await asyncio.to_thread(size_of, slot.name)
        need, deadline = room_for(slot.size), time.monotonic() + _WAIT_S
        while self._free() < need:
            others = [(other, other.engine) for other in self.slots.values() if other.engine is not None]
            idle = sorted(((other, held) for other, held in others if not busy(held)), key=lambda pair: pair[0].used)
            if idle:
                other, ended = idle[0]
                other.engine = None
                await asyncio.to_thread(ended.close)
            elif not others:
                return  # it is the only one: the engine's own budget decides
            elif time.monotonic() > deadline:
                raise RequestError(f"there is no memory for {slot.name} while other models answer; try again later.")
            else:
                await asyncio.sleep(_LOOK_S)

    def _free(self) -> int:
        return free(self._bound, [s.engine for s in self.slots.values() if s.engine is not None])

    def running(self) -> int:
        """Requests that aren't finished."""
        return sum(len(s.engine.requests()) for s in self.slots.values() if s.engine is not None)

    def queued(self) -> int:
        """Requests that have no row yet."""
        stats = [s.engine.stats() for s in self.slots.values() if s.engine is not None]
        return sum(one.waiting + one.preparing for one in stats)

    def close(self) -> None:
        for slot in self.slots.values():
            if slot.engine is not None:
                slot.engine.close()


def free(bound: int, engines: Sequence[Front]) -> int:
    """Bytes that are left for another model beside the loaded `engines`; a `bound` of 0 is what the machine has."""
    if not bound:
        return int(psutil.virtual_memory().available)
    return bound - sum(engine.stats().memory.total for engine in engines)


def room_for(size: int) -> int:
    """Bytes that a model wants whose files have `size` bytes: its weights and what a first request needs."""
    return int(size * _ROOM)


def busy(engine: Front | None) -> bool:
    return engine is not None and bool(engine.requests())


def size_of(name: str) -> int:
    """Bytes of a checkpoint's weights.

    :raises ModelError: there is no such model.
    """
    from ..models.hub import resolve_model

    return sum(path.stat().st_size for path in resolve_model(name).glob("*.safetensors"))
