"""The prefix cache of one engine: plans over both tiers, restores, and takes in what was computed."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .keys import Block, Chain, Span, block_key, feature_key, root_key, symbols_of
from .planner import Child, Needs, Plan, plan_restore
from .ram import RamTier
from .ssd import SsdTier, state_key
from .writer import Writer

if TYPE_CHECKING:
    from .features import HasBytes
    from .index import BlockRow
    from .ram import Payload

Allocate = Callable[[Mapping[str, tuple[tuple[int, ...], Any]]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class CacheSettings:
    """Byte budgets and the folder; `folder` None keeps to RAM, `ram_bytes` 0 turns the cache off."""

    ram_bytes: int
    ssd_bytes: int = 0
    folder: Path | None = None
    queue_bytes: int = 512 * 2**20


@dataclass(frozen=True)
class CacheStats:
    """Counts since the engine was loaded. Tokens by where they came from, bytes by tier."""

    ram_bytes: int = 0
    ram_budget: int = 0
    ram_entries: int = 0
    ram_evictions: int = 0
    ssd_bytes: int = 0
    ssd_budget: int = 0
    ssd_evictions: int = 0
    ssd_damaged: int = 0
    ssd_paused: str = ""
    queued_bytes: int = 0
    dropped: int = 0
    tokens_asked: int = 0
    tokens_ram: int = 0
    tokens_ssd: int = 0
    saved_s: float = 0.0

    @property
    def ram_hit_rate(self) -> float:
        return self.tokens_ram / self.tokens_asked if self.tokens_asked else 0.0

    @property
    def ssd_hit_rate(self) -> float:
        return self.tokens_ssd / self.tokens_asked if self.tokens_asked else 0.0


@dataclass
class Part:
    """Consecutive tokens of a restore: `take` tokens of a payload (heads, tokens, width)."""

    payload: Payload
    take: int
    ram: bool


@dataclass
class Restored:
    """Everything a plan needs, in order. `state` is empty for models without recurrent layers."""

    length: int
    parts: list[Part]
    state: Mapping[str, Any]


class PrefixCache:
    """Engine thread only, but `read` may run elsewhere. `names` are a block's arrays in sorted order."""

    def __init__(
        self,
        identity: str,
        name: str,
        needs: Needs,
        names: Sequence[str],
        settings: CacheSettings,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._identity, self._needs, self._names = identity, needs, sorted(names)
        self.root = root_key(identity)
        self.ram = RamTier(settings.ram_bytes)
        self.ssd: SsdTier | None = None
        self.writer: Writer | None = None
        if settings.folder is not None and settings.ssd_bytes > 0:
            self.ssd = SsdTier(settings.folder, settings.ssd_bytes, identity, name)
            self.writer = Writer(self.ssd, settings.queue_bytes, busy)
        self._symbols: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self.tokens_asked = self.tokens_ram = self.tokens_ssd = 0
        self.saved_s = 0.0

    # -- planning ---------------------------------------------------------------------------

    def children(self, parent: bytes, first: int) -> Sequence[Child]:
        found = {child.key: child for child in self.ram.children(parent, first)}
        if self.ssd is not None:
            for child in self.ssd.children(parent, first, self._needs.stateful):
                have = found.get(child.key)
                if have is None:
                    found[child.key] = child
                elif child.state and not have.state:
                    found[child.key] = Child(have.key, have.length, True, have.window, True)
        return list(found.values())

    def symbols(self, key: bytes) -> np.ndarray | None:
        known = self.ram.symbols(key)
        if known is None:
            known = self._symbols.get(key)
        if known is None and self.ssd is not None:
            known = self.ssd.symbols(key)
            if known is not None:
                self._symbols[key] = known
                while len(self._symbols) > 256:
                    self._symbols.popitem(last=False)
        return known

    def chain(self, ids: Sequence[int], spans: Sequence[Span]) -> Chain:
        return Chain(symbols_of(ids, spans), spans, self.root)

    def plan(self, chain: Chain, limit: int) -> Plan:
        """The longest prefix of at most `limit` tokens that can be restored now."""
        return plan_restore(self, self.root, chain.symbols, chain.spans, limit, self._needs)

    # -- restoring --------------------------------------------------------------------------

    def fetch(self, plan: Plan, allocate: Allocate | None = None) -> tuple[bool, Callable[[], Restored | None]]:
        """Takes what RAM holds at once. The returned function reads the rest, which the flag says there is,
        and gives the whole, or None where something has gone: plan again. It may run on any thread.

        Where all comes from disk, it is read into what `allocate` gives for (heads, tokens, width) and dtype.
        """
        held = [self.ram.block(step.child.key) if step.child.ram else None for step in plan.steps]
        state: Mapping[str, Any] | None = {}
        if plan.stateful and plan.steps:
            state = self.ram.state(plan.steps[-1].child.key)
        missing = [step.child.key for step, payload in zip(plan.steps, held, strict=True) if payload is None]
        rows = self.ssd.locate(missing) if self.ssd and missing else []
        incomplete = rows is None or len(rows) < len(missing)
        into: Mapping[str, np.ndarray] | None = None
        fit = rows and [row.length for row in rows] == [step.child.length for step in plan.steps]
        if allocate is not None and rows and fit and self.ssd is not None:
            shapes = self.ssd.shapes(rows[0], self._names)
            total = sum(row.length for row in rows)
            into = allocate({n: ((s[0], total, *s[2:]), t) for n, (s, t) in shapes.items()}) if shapes else None

        def read() -> Restored | None:
            return None if incomplete else self._read(plan, held, list(rows or ()), state, into)

        return bool(missing) or state is None, read

    def _read(
        self,
        plan: Plan,
        held: list[Payload | None],
        rows: list[BlockRow],
        state: Payload | None,
        into: Mapping[str, np.ndarray] | None,
    ) -> Restored | None:
        if state is None:
            state = self.ssd.read_extra(state_key(plan.steps[-1].child.key)) if self.ssd else None
            if state is None:
                return None
        parts: list[Part] = []
        steps = list(zip(plan.steps, held, strict=True))
        for from_ram, group in itertools.groupby(steps, key=lambda pair: pair[1] is not None):
            members = list(group)
            if from_ram:
                parts += [Part(payload, step.take, True) for step, payload in members if payload is not None]
                continue
            here, rows = rows[: len(members)], rows[len(members) :]
            payload = self.ssd.read(here, self._names, into) if self.ssd else None
            if payload is None:
                return None
            parts.append(Part(payload, sum(step.take for step, _ in members), False))
        return Restored(plan.length, parts, state)

    def reread(self, plan: Plan) -> Callable[[], Mapping[str, Any] | None]:
        """What reads a plan's blocks from disk once more, for RAM. It may run on any thread."""
        rows = self.ssd.locate([step.child.key for step in plan.steps]) if self.ssd else None
        return lambda: self.ssd.read(rows, self._names) if self.ssd and rows else None

    def used(self, plan: Plan, chain: Chain) -> None:
        """Note a restore that worked: the chain goes on after the last whole block."""
        self.tokens_ram += plan.tokens(ram=True)
        self.tokens_ssd += plan.tokens(ram=False)
        for step in plan.steps:
            if step.take == step.child.length:
                chain.parent, chain.done = step.child.key, step.end
                chain.blocks.append(step.child.key)
        for key in reversed(chain.blocks):  # the beginning of a chain is the last to go
            self.ram.block(key)

    def holds(self, chain: Chain, end: int) -> bool:
        """Whether the block that goes on from the chain to `end` is stored, in either tier."""
        if end > len(chain.symbols):
            return False
        key = block_key(chain.parent, chain.symbols, chain.done, end, chain.spans)
        return self.ram.has_block(key) or (self.ssd is not None and self.ssd.locate([key]) is not None)

    # -- taking in --------------------------------------------------------------------------

    def put(self, block: Block, payload: Payload) -> None:
        if not self.ram.has_block(block.key):
            self.ram.put_block(block, payload)
            if self.writer is not None:
                self.writer.put(block, payload)

    def keep(self, block: Block, payload: Payload) -> None:
        """A block that came from disk: RAM only."""
        if not self.ram.has_block(block.key):
            self.ram.put_block(block, payload)

    def put_state(self, key: bytes, payload: Payload) -> None:
        self.ram.put_state(key, payload)
        if self.writer is not None:
            self.writer.put(None, payload, state_key(key))

    def put_features(self, digest: str, features: HasBytes) -> None:
        if self.writer is not None:
            self.writer.put(None, {"features": features}, feature_key(self._identity, digest))

    def features(self, digest: str) -> np.ndarray | None:
        """A picture's features from disk (RAM has its own store)."""
        found = self.ssd.read_extra(feature_key(self._identity, digest)) if self.ssd is not None else None
        return found.get("features") if found else None

    def stats(self) -> CacheStats:
        ssd, writer = self.ssd, self.writer
        return CacheStats(
            ram_bytes=self.ram.nbytes,
            ram_budget=self.ram.budget,
            ram_entries=len(self.ram),
            ram_evictions=self.ram.evictions,
            ssd_bytes=ssd.total_bytes() if ssd else 0,
            ssd_budget=ssd.budget if ssd else 0,
            ssd_evictions=ssd.evictions if ssd else 0,
            ssd_damaged=ssd.damaged if ssd else 0,
            ssd_paused=ssd.paused if ssd else "",
            queued_bytes=writer.queued_bytes if writer else 0,
            dropped=writer.dropped if writer else 0,
            tokens_asked=self.tokens_asked,
            tokens_ram=self.tokens_ram,
            tokens_ssd=self.tokens_ssd,
            saved_s=self.saved_s,
        )

    def close(self) -> None:
        ended = self.writer is None or self.writer.close()
        if self.ssd is not None and ended:  # a connection isn't closed under a thread that a slow disk holds
            self.ssd.close()
        self.ram.clear()
