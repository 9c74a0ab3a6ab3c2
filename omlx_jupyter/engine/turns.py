"""Whose turn it is to prefill, decided with integers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CPU_PER_S, _GPU_PER_S = 2e10, 1e13  # multiply-adds: two cores, a laptop's GPU; fixed, chunks don't follow the clock
_CPU_GAP_S, _GPU_GAP_S = 0.2, 0.05
_LEAST = 16  # tokens of a chunk


_CPU_ATTENTION = 5.0  # what a multiply-add of attention takes there, against one of a matrix product


@dataclass(frozen=True)
class Chunks:
    """Where prefill chunks end: at multiples of `size`, of half of it where attention to the tokens before has become
    as dear as the weights three times over, and so on. By position alone: tokens must not depend on timing."""

    size: int
    alike_at: float = math.inf  # tokens before a token, at which attention takes as long as the weights

    def after(self, prefilled: int) -> int:
        """Where the chunk ends that begins at `prefilled`."""
        begin = prefilled // self.size * self.size
        halvings = math.floor(math.log2(max(1.0, (1 + begin / self.alike_at) / 1.5)))
        size = max(min(_LEAST, self.size), self.size >> halvings)
        return (prefilled // size + 1) * size


def chunks_for(parameters: int, attention: int, on_gpu: bool) -> Chunks:
    """`attention` is a token's multiply-adds for each token before it, in all layers; 0: unknown."""
    cost = attention * (1 if on_gpu else _CPU_ATTENTION)
    return Chunks(chunk_for(parameters, on_gpu), parameters / cost if cost else math.inf)


@dataclass(frozen=True)
class Turn:
    """A row that prefills: its number in order of arrival, the tokens it still needs, and whether it may wait."""

    number: int
    left: int
    background: bool = False


def pick(rows: Sequence[Turn], count: int) -> int:
    """Which of `rows` goes on at the turn `count`: cells before background jobs; among them in turns the one with the
    least left and the oldest, so that neither a long prompt nor a stream of short ones holds the other up for long.
    """
    first = [row for row in rows if not row.background] or list(rows)
    chosen = min(first, key=lambda row: row.number if count % 2 else (row.left, row.number))
    return rows.index(chosen)


def gap_target(on_gpu: bool) -> float:
    """Seconds that running rows may wait for a token while others prefill."""
    return _GPU_GAP_S if on_gpu else _CPU_GAP_S


def chunk_for(parameters: int, on_gpu: bool) -> int:
    """Tokens of a prefill chunk: a power of two that takes about the gap, by the model's size alone."""
    rate, least, most = (_GPU_PER_S, 128, 512) if on_gpu else (_CPU_PER_S, 32, 256)
    fits = rate * gap_target(on_gpu) / max(1, parameters)
    return max(least, min(most, 1 << round(math.log2(max(1.0, fits)))))
