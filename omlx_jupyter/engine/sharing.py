"""Which of the rows that prefill computes the beginning of another's prompt right now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..cache.keys import BLOCK_TOKENS
from .row import Row

_WORTH_WAITING = 64  # tokens; fewer are computed again


def follow(row: Row, ahead: Sequence[Row], state_every: int) -> None:
    """Let `row` wait for the one of `ahead` that computes most of what the cache doesn't have of its prompt.

    Sets `row.follows` and `follows_to`, the tokens after which the other's blocks lie in the cache: a block's end.
    Where recurrent layers need a state to go on from, the other is asked to keep one at a chunk's end, a multiple
    of `state_every` (0: no such layers).
    """
    prefix = row.prefix
    if prefix is None or row.request.course.prefilled:
        return
    best = prefix.plan.length + _WORTH_WAITING
    for other in ahead:
        if other.prefix is None or (other.request.flags.background and not row.request.flags.background):
            continue
        end = min(_common(other.prefix.chain.symbols, prefix.chain.symbols), row.request.prompt.tokens - 1)
        if state_every:
            end -= end % state_every
        if end >= best and end > other.request.course.prefilled:
            stored = end if state_every else -(-end // BLOCK_TOKENS) * BLOCK_TOKENS
            row.follows, row.follows_to, best = other, min(stored, other.request.prompt.tokens - 1), end + 1
    if state_every and row.follows is not None and row.follows.prefix is not None:
        row.follows.prefix.asked.add(row.follows_to)


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many symbols two prompts share at their beginnings."""
    size = min(len(one), len(other))
    differing = np.nonzero(one[:size] != other[:size])[0]
    return int(differing[0]) if len(differing) else size
