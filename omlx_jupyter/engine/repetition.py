"""An OCR model that repeats itself for ever is told apart from a document that repeats itself. Plain Python."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PERIOD = 80
CHECK_EVERY = 16
_LEAST_TOKENS = 160  # a ruled line or a row of dots may be long; a page of it is a loop
_LEAST_TIMES = 8


def loop_period(tokens: Sequence[int]) -> int | None:
    """The period of a loop that the tokens end in, or None.

    A loop is a unit of at most `LONGEST_PERIOD` tokens that has come at least eight times in a row and
    fills at least 160 tokens.
    """
    count = len(tokens)
    for period in range(1, LONGEST_PERIOD + 1):
        span = max(_LEAST_TOKENS, _LEAST_TIMES * period)
        if span > count:
            return None
        start = count - span
        if all(tokens[i] == tokens[i + period] for i in range(start, count - period)):
            return period
    return None
