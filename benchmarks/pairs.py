"""Two things measured in turns, so that a slow minute of the machine hits both."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

PAIRS = 7


@dataclass(frozen=True)
class Pair:
    """Medians of the two, and of their ratio (first to second) with its quartiles."""

    first: float
    second: float
    ratio: float
    low: float
    high: float


def alternate(first: Callable[[], float], second: Callable[[], float], times: int = PAIRS) -> Pair:
    """Each once unmeasured, then `times` pairs, which of the two goes first in turns."""
    first(), second()
    ones, others = [], []
    for turn in range(times):
        if turn % 2:
            others.append(second())
            ones.append(first())
        else:
            ones.append(first())
            others.append(second())
    ratios = [a / b for a, b in zip(ones, others, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Pair(statistics.median(ones), statistics.median(others), statistics.median(ratios), low, high)
