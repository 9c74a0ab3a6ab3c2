"""Marks -> lines in reading order: columns by white space, lines by rows of ink."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .marks import Marks

_GUTTER = 1.2  # line heights
_PROSE = 7.0  # line heights; cells this wide are a column's, narrower ones a table's
_FULL = 0.55  # of a column's width that its usual line fills


@dataclass(frozen=True)
class Strip:
    """Rows of one line, and the columns of the block that it stands in."""

    left: int
    top: int
    right: int
    bottom: int
    block: int
    solid: bool = False  # tall and without rows: a picture

    @property
    def height(self) -> int:
        return self.bottom - self.top


class Layout:
    """Collects a page's strips, top to bottom, a column after another."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._height = marks.height
        self.strips: list[Strip] = []
        self.cuts: list[tuple[int, int, int]] = []  # (left, right, row) between lines that touch
        self._blocks = 0
        rows, columns = marks.mask.shape
        if marks.height:
            self._region(0, 0, columns, rows)

    def _region(self, left: int, top: int, right: int, bottom: int) -> None:
        """Its bands of ink, or, where a gutter runs through several, its columns."""
        inked = self._marks.mask[top:bottom, left:right]
        bands = _bands(inked, self._height)
        filled = np.stack([inked[a:b].any(0) for a, b in bands]) if bands else np.zeros((0, right - left), bool)
        block, self._blocks = self._blocks, self._blocks + 1
        at = 0
        while at < len(bands):
            end, gutter = self._columns(bands, filled, at)
            if gutter is None:
                self._band(left, top + bands[at][0], right, top + bands[at][1], block)
                at += 1
                continue
            first, last = top + bands[at][0], top + bands[end - 1][1]
            self._region(left, first, left + gutter, last)
            self._region(left + gutter, first, right, last)
            block, self._blocks = self._blocks, self._blocks + 1
            at = end

    def _columns(self, bands: list[tuple[int, int]], filled: np.ndarray, at: int) -> tuple[int, int | None]:
        """(the band after the last that the gutter from band `at` on divides, where it is)."""
        free, inside = ~filled[at], filled[at]
        if _widest(free, inside, _GUTTER * self._height) is None:
            return at + 1, None
        end = at + 1
        while end < len(bands) and bands[end][0] - bands[end - 1][1] < 4 * self._height:
            more, either = free & ~filled[end], inside | filled[end]
            if _widest(more, either, _GUTTER * self._height) is None:
                break
            free, inside, end = more, either, end + 1
        gutter = _widest(free, inside, _GUTTER * self._height)
        assert gutter is not None
        if self._is_prose(bands[at:end], filled[at:end], gutter):
            return end, gutter
        return at + 1, None

    def _is_prose(self, bands: list[tuple[int, int]], filled: np.ndarray, gutter: int) -> bool:
        """Whether both sides hold running lines. Short cells side by side are a table's."""
        uneven = any(b - a > 2.2 * self._height for a, b in bands)  # lines that don't stand side by side
        for side in (filled[:, :gutter], filled[:, gutter:]):
            widths = np.array([_longest(row, 0.8 * _GUTTER * self._height) for row in side if row.any()])
            if not uneven and (len(widths) < 3 or np.median(widths) < _FULL * widths.max()):
                return False
            if np.median(widths) < (0.5 if uneven else 1) * _PROSE * self._height:
                return False
        return True

    def _band(self, left: int, top: int, right: int, bottom: int, block: int) -> None:
        """One line, or several whose descenders touch, or a picture."""
        if bottom - top <= 1.7 * self._height:
            self.strips.append(Strip(left, top, right, bottom, block))
            return
        inside = (self._marks.boxes[:, 1] >= top) & (self._marks.boxes[:, 3] <= bottom)
        tall = (self._marks.boxes[:, 3] - self._marks.boxes[:, 1])[inside]
        usual = max(self._height, 1.45 * float(np.median(tall)) if len(tall) else 0.0)
        if bottom - top <= 1.7 * usual:  # a heading
            self.strips.append(Strip(left, top, right, bottom, block))
            return
        cuts = _valleys(self._marks.mask[top:bottom, left:right].sum(1), usual)
        if not cuts:
            self.strips.append(Strip(left, top, right, bottom, block, solid=bottom - top > 2.6 * usual))
            return
        self.cuts += [(left, right, top + cut) for cut in cuts]
        edges = [0, *cuts, bottom - top]
        for a, b in pairwise(edges):
            self.strips.append(Strip(left, top + a, right, top + b, block, solid=b - a > 2.6 * usual))


def _bands(inked: np.ndarray, height: float) -> list[tuple[int, int]]:
    """Runs of rows with ink; dots and accents join the line that they belong to."""
    rows = np.concatenate(([False], inked.any(1), [False]))
    changes = np.flatnonzero(rows[1:] != rows[:-1])
    merged: list[list[int]] = []
    for top, bottom in changes.reshape(-1, 2).tolist():
        if merged:
            small = min(bottom - top, merged[-1][1] - merged[-1][0]) < 0.5 * height
            both = bottom - merged[-1][0] <= 1.4 * height
            if small and both and top - merged[-1][1] <= max(2.0, 0.3 * height):
                merged[-1][1] = bottom
                continue
        merged.append([top, bottom])
    return [(top, bottom) for top, bottom in merged if bottom - top >= 2]


def _widest(free: np.ndarray, inside: np.ndarray, least: float) -> int | None:
    """The middle of the widest free run with ink on both sides, if it is at least `least` wide."""
    inked = np.flatnonzero(inside)
    if len(inked) < 2:
        return None
    run = np.concatenate(([False], free[inked[0] : inked[-1] + 1], [False]))
    changes = np.flatnonzero(run[1:] != run[:-1]).reshape(-1, 2)
    if not len(changes):
        return None
    widths = changes[:, 1] - changes[:, 0]
    best = int(widths.argmax())
    return int(inked[0] + changes[best].sum() // 2) if widths[best] >= least else None


def _longest(row: np.ndarray, gap: float) -> int:
    """How wide the widest cell of a line is."""
    inked = np.flatnonzero(row)
    ends = np.flatnonzero(np.diff(inked) > gap)
    starts = np.concatenate(([0], ends + 1))
    return int((inked[np.concatenate((ends, [len(inked) - 1]))] - inked[starts]).max()) + 1


def _valleys(profile: np.ndarray, height: float) -> list[int]:
    """Rows between lines that touch: the least inked ones, a line apart."""
    smooth = np.convolve(profile, np.ones(3) / 3, "same")
    full = float(np.percentile(smooth, 75))
    found: list[int] = []
    for row in np.argsort(smooth, kind="stable").tolist():
        if smooth[row] > 0.4 * full:
            break
        if min(row, len(profile) - row) >= 0.7 * height and all(abs(row - other) >= 0.8 * height for other in found):
            found.append(row)
    return sorted(found)
