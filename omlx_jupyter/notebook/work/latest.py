"""`%vlm last`: answers of this kernel again, where a cell's output was cleared or its page was closed."""

from __future__ import annotations

from collections import deque
from typing import Any

from IPython.core.error import UsageError

from .jobs import listing

KEPT = 20
_kept: deque[Any] = deque(maxlen=KEPT)


def add(value: Any) -> None:
    """Remember what a cell answered; the same value once."""
    if not any(value is held for held in _kept):
        _kept.append(value)


def last(words: str) -> Any:
    """`last [N]`: the N-th answer from the end.

    :raises UsageError: there is none, or other words.
    """
    command, _, number = words.strip().partition(" ")
    if command != "last" or (number.strip() and not number.strip().isdigit()):
        raise UsageError(
            "%vlm last [N] shows an earlier answer again, 1 is the last; to ask, begin the cell with %%vlm."
        )
    back = int(number or 1)
    if not 1 <= back <= len(_kept):
        running = [job.number for job in listing() if not job.done]
        more = f" Job {running[-1]} still runs (%omlx jobs)." if running else ""
        raise UsageError(f"there {_are(len(_kept))} of this kernel; a kernel that was restarted has none.{more}")
    value = _kept[-back]
    if hasattr(value, "unshown"):
        value.unshown()
    return value


def _are(count: int) -> str:
    return "is 1 answer" if count == 1 else f"are {count} answers"


def forget() -> None:
    _kept.clear()
