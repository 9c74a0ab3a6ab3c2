"""Pictures on a page: ink that isn't writing, and painted patches, far larger than letters."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .marks import Marks

Flat = tuple[int, int, int, int]  # left, top, right, bottom
_LEAST = 3.0  # line heights, each way
_JOINED = 0.8  # line heights; ink nearer than that belongs to one figure
_STROKE = 0.5  # line heights; a patch of paint is wider than any stroke of a letter
_PAINT = 24  # of 255, from the paper's colour
_EDGE = 12  # of 255, along a picture's edge; a shadow has none
_WRITING = 0.15  # of a patch's area; with more lines in it, it is a frame around them


def drawn(marks: Marks, solid: Sequence[Flat]) -> list[Flat]:
    """On the upright page: what was erased from the writing as no letters, and the `solid` parts between lines."""
    if not marks.height:
        return []
    mask = marks.erased.copy()
    for left, top, right, bottom in solid:
        mask[top:bottom, left:right] |= marks.mask[top:bottom, left:right]
    return _patches(mask, marks.height)


def painted(rgb: np.ndarray, height: float) -> list[Flat]:
    """Of a (H, W, 3) uint8 page whose lines are `height` pixels tall: patches that aren't of the paper's colour and
    have an edge, as photographs and plots do and shadows don't."""
    if not height:
        return []
    paper = np.median(rgb.reshape(-1, 3)[:: max(1, rgb.size // 300_000)], 0)
    far = np.abs(rgb.astype(np.int16) - paper.astype(np.int16)).max(2) > _PAINT
    side = max(2, round(_STROKE * height))
    solid = cv2.morphologyEx(far.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return [box for box in _patches(solid > 0, height) if _has_edge(edges, box)]


def _has_edge(edges: np.ndarray, box: Flat) -> bool:
    left, top, right, bottom = box
    across, down = slice(left, right), slice(top, bottom)
    rim = [edges[max(0, y - 3) : y + 3, across].max(0) for y in (top, bottom)]
    rim += [edges[down, max(0, x - 3) : x + 3].max(1) for x in (left, right)]
    return float(np.median(np.concatenate(rim))) > _EDGE


def _patches(mask: np.ndarray, height: float) -> list[Flat]:
    reach = 2 * max(1, round(_JOINED * height / 2)) + 1
    joined = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    least = _LEAST * height
    return [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:] if w >= least and h >= least]


def figure_boxes(found: Sequence[Flat], lines: Sequence[Flat]) -> list[Flat]:
    """What of `found` is a figure: no frames round lines, nothing twice."""
    kept = [box for box in dict.fromkeys(found) if not _framed(box, lines)]
    outer = [box for box in kept if not any(_inside(box, other) for other in kept)]
    return sorted(outer, key=lambda box: box[1])


def line_after(box: Flat, lines: Sequence[Flat]) -> int:
    """The number of the line that a figure stands before: the first one under its middle, of the lines that share its
    columns; `len(lines)` where it stands last."""
    middle = (box[1] + box[3]) / 2
    beside = [n for n, line in enumerate(lines) if line[0] < box[2] and line[2] > box[0]]
    under = [n for n in beside if (lines[n][1] + lines[n][3]) / 2 > middle]
    if under:
        return under[0]
    return beside[-1] + 1 if beside else next((n for n, x in enumerate(lines) if x[1] > middle), len(lines))


def _framed(box: Flat, lines: Sequence[Flat]) -> bool:
    written = sum(_area(line) for line in lines if _inside(line, box))
    return written > _WRITING * _area(box)


def _area(box: Flat) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _inside(box: Flat, other: Flat) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return box != other and other[0] <= x < other[2] and other[1] <= y < other[3] and _area(box) < _area(other)
