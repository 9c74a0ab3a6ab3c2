"""The longest prefix that can be restored exactly, found with plain values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .keys import Span, block_key

MOST_NODES = 4096  # blocks looked at for one prompt
MOST_READS = 16  # blocks whose tokens are fetched to compare them one by one


@dataclass(frozen=True)
class Child:
    """A stored block, as its parent's index entry gives it."""

    key: bytes
    length: int
    ram: bool
    window: int = 0
    state: bool = False  # the recurrent layers' state at its end is stored


class Index(Protocol):
    def children(self, parent: bytes, first: int) -> Sequence[Child]:
        """Stored blocks after `parent` whose first symbol is `first`."""

    def symbols(self, key: bytes) -> np.ndarray | None:
        """A block's symbols; None if they can't be had."""


@dataclass(frozen=True)
class Step:
    """Use `take` tokens of a block that begins at `start`."""

    child: Child
    start: int
    take: int

    @property
    def end(self) -> int:
        return self.start + self.take


@dataclass(frozen=True)
class Plan:
    """Restore `length` tokens from `steps`; with `stateful`, the state of the last step's block as well."""

    length: int = 0
    steps: tuple[Step, ...] = ()
    stateful: bool = False

    def tokens(self, ram: bool) -> int:
        return sum(step.take for step in self.steps if step.child.ram == ram)


@dataclass(frozen=True)
class Needs:
    """What a model's layers ask of a plan. `window` is the sliding window in tokens, 0 for none."""

    window: int = 0
    stateful: bool = False


def plan_restore(
    index: Index, root: bytes, symbols: np.ndarray, spans: Sequence[Span], limit: int, needs: Needs
) -> Plan:
    """The longest n <= limit that is stored, doesn't end inside a picture and meets the model's needs."""
    paths, others = _walk(index, root, symbols, spans, limit)
    best = Plan()
    for path in paths:
        best = max(best, _settle(path, spans, needs), key=lambda plan: plan.length)
    if needs.stateful:
        return best
    reads = 0
    for path, child in sorted(others, key=lambda o: -(_end(o[0]) + o[1].length)):
        at = _end(path)
        if at + min(child.length, limit - at) <= best.length or reads >= MOST_READS:
            break
        reads += 0 if child.ram else 1
        known = index.symbols(child.key)
        if known is None:
            continue
        count = min(len(known), limit - at)
        same = known[:count] == symbols[at : at + count]
        common = count if same.all() else int(np.argmin(same))
        if common:
            found = _settle([*path, Step(child, at, common)], spans, needs)
            best = max(best, found, key=lambda plan: plan.length)
    return best


def _end(path: Sequence[Step]) -> int:
    return path[-1].end if path else 0


def _walk(
    index: Index, root: bytes, symbols: np.ndarray, spans: Sequence[Span], limit: int
) -> tuple[list[list[Step]], list[tuple[list[Step], Child]]]:
    """Every path of blocks that match as a whole, and at each of their nodes the blocks that don't."""
    paths: list[list[Step]] = []
    others: list[tuple[list[Step], Child]] = []
    stack: list[tuple[bytes, list[Step]]] = [(root, [])]
    seen = 0
    while stack and seen < MOST_NODES:
        parent, path = stack.pop()
        seen += 1
        at = _end(path)
        if path:
            paths.append(path)
        if at >= limit:
            continue
        keys: dict[int, bytes] = {}
        for child in index.children(parent, int(symbols[at])):
            if child.length <= limit - at:
                if child.length not in keys:
                    keys[child.length] = block_key(parent, symbols, at, at + child.length, spans)
                if keys[child.length] == child.key:
                    stack.append((child.key, [*path, Step(child, at, child.length)]))
                    continue
            others.append((path, child))
    return _leaves(paths), others


def _leaves(paths: list[list[Step]]) -> list[list[Step]]:
    """Paths that no other goes on from. With states all are kept short by `_settle`."""
    inner = {path[-2].child.key for path in paths if len(path) > 1}
    return [path for path in paths if path[-1].child.key not in inner]


def _settle(path: Sequence[Step], spans: Sequence[Span], needs: Needs) -> Plan:
    """Shorten a path until it ends outside pictures and what its end needs is there."""
    steps = list(path)
    while steps:
        if needs.stateful and not (steps[-1].child.state and steps[-1].take == steps[-1].child.length):
            steps.pop()
            continue
        end = steps[-1].end
        floor = _outside(end, spans)
        if floor < end:
            if needs.stateful or floor <= steps[-1].start:
                steps.pop()
            else:
                steps[-1] = Step(steps[-1].child, steps[-1].start, floor - steps[-1].start)
            continue
        if needs.window and not _window_is_there(steps, end - needs.window):
            steps.pop()
            continue
        return Plan(end, tuple(steps), needs.stateful)
    return Plan()


def _outside(end: int, spans: Sequence[Span]) -> int:
    """`end`, or the start of the picture that it would cut."""
    return next((span.start for span in spans if span.start < end < span.end), end)


def _window_is_there(steps: Sequence[Step], since: int) -> bool:
    return all(step.end <= since or step.start + step.child.window <= max(since, step.start) for step in steps)
