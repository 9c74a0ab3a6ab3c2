"""The rows that prefill: who goes on next, and who waits for another's prefix instead of computing it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .row import Row
from .turns import Turn, pick


class PrefillQueue:
    """Engine thread only."""

    def __init__(self, follow: Callable[[Row, Sequence[Row]], None]) -> None:
        """`follow` sets what a row waits for, if it should wait for one of the rows that came before it."""
        self.rows: list[Row] = []
        self._follow = follow
        self._count = 0

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, row: Row) -> None:
        self._follow(row, self.rows)
        self.rows.append(row)

    def remove(self, row: Row) -> None:
        self.rows = [other for other in self.rows if other is not row]

    def clear(self) -> list[Row]:
        """Empty it; what was in it."""
        rows, self.rows = self.rows, []
        return rows

    def next(self, tried: set[Row]) -> Row | None:
        """Whose turn it is: none of `tried`, which wait for the disk, and none that waits for another's prefix."""
        able = [row for row in self.rows if row not in tried and not self._waits(row)]
        if not able:
            return None
        self._count += 1
        turns = [
            Turn(r.number, r.prompt.tokens - r.course.prefilled, r.flags.background)
            for r in (row.request for row in able)
        ]
        return able[pick(turns, self._count)]

    def _waits(self, row: Row) -> bool:
        """Whether what it would compute next is being computed for another row right now."""
        ahead = row.follows
        if ahead is None:
            return False
        if ahead in self.rows and ahead.request.course.prefilled < row.follows_to:
            return True
        row.follows = None
        row.followed = True  # what it waited for is cached now: look it up again
        if ahead.request.course.prefilled < row.follows_to:  # it ended before
            self._follow(row, self.rows[: self.rows.index(row)])
        return row.follows is not None
