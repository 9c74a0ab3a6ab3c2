"""From disk to RAM: blocks that were restored into a row alone are read once more, after its first token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..cache.keys import Chain
from ..cache.planner import Plan
from ..cache.prefix_cache import Part, PrefixCache
from .guard import Guard


class Promotions:
    """Engine thread only; the reading is done on `io`. Modifies the RAM tier."""

    def __init__(self, cache: PrefixCache, io: ThreadPoolExecutor, guard: Guard) -> None:
        self._cache, self._io, self._guard = cache, io, guard
        self._reading: list[tuple[Chain, Plan, Future[Mapping[str, np.ndarray] | None]]] = []

    def read(self, chain: Chain, plan: Plan) -> None:
        """Start to read a plan's blocks, unless somebody does."""
        if all(plan.steps[-1].child.key != other.steps[-1].child.key for _, other, _ in self._reading):
            self._reading.append((chain, plan, self._io.submit(self._cache.reread(plan))))

    def collect(self) -> None:
        """Take in what was read, where that has ended."""
        waiting, self._reading = self._reading, []
        for chain, plan, reading in waiting:
            if not reading.done():
                self._reading.append((chain, plan, reading))
            elif (failed := reading.exception()) is not None:
                self._guard.cache(RuntimeError(f"a restore could not be read again ({failed})"))
            elif (found := reading.result()) is not None:
                self.keep(chain, plan, [Part(found, plan.length, False)])

    def keep(self, chain: Chain, plan: Plan, parts: Sequence[Part]) -> None:
        """Blocks that came from disk are in RAM from now on, as read-only views of what was read."""
        steps = list(plan.steps)
        fresh = Chain(chain.symbols, chain.spans, self._cache.root)
        for part in parts:
            at = 0
            while at < part.take and steps:
                step = steps.pop(0)
                if step.take == step.child.length:
                    block = fresh.cut(step.end, step.child.window)
                    if not part.ram:
                        views = {n: a[:, at : at + step.take] for n, a in part.payload.items()}
                        for view in views.values():
                            view.setflags(write=False)
                        self._cache.keep(block, views)
                at += step.take
