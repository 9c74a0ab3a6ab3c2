"""What of the ink is writing: connected marks, without rules, boxes, grain and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

_GRAIN = 3  # px; marks with fewer aren't counted when sizes are measured
_REACH = 0.45  # of a line's height; descenders reach less far into the next line
_DOUBT = 0.03  # of a mark's pixels
_RULE = 3.0  # line heights; what is longer and thin is no letter
_EVEN = 0.45  # of a run's strong ink that its faint ink has; measured: rules 0.65 and more, joined letters 0.3 and less


@dataclass(frozen=True)
class Marks:
    """Connected marks of a page.

    `boxes` is (n, 4): left, top, right, bottom; `labels` (h, w) numbers them from 1, 0 is paper.
    `erased` is ink that is no writing, such as rules.
    `height` is the usual height of a line's ink, in pixels, 0 if there is none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    erased: np.ndarray
    height: float

    def split(self, cuts: list[tuple[int, int, int]]) -> Marks:
        """Letters of two lines that touch at a cut (left, right, row) as two marks. What only reaches over it, as a
        descender does, stays whole."""
        mask, least = self.mask.copy(), _REACH * self.height
        for left, right, row in cuts:
            over = (self.boxes[:, 1] <= row - least) & (self.boxes[:, 3] >= row + least)
            both = np.concatenate(([False], over))[self.labels[row, left:right]]
            mask[row, left:right] &= ~both
        boxes, _, labels = _connected(mask)
        return replace(self, boxes=boxes, labels=labels, mask=mask)


def marks_of(ink: np.ndarray, mask: np.ndarray, doubt: np.ndarray, noisy: bool) -> Marks:
    """Marks of a (h, w) bool mask of `ink` that may be writing; `doubt` is the part of it that may be none. In a
    `noisy` page single pixels are grain, in others they may be dots."""
    everything = mask
    boxes, areas, labels = _connected(mask)
    doubtful = np.bincount(labels[doubt], minlength=len(boxes) + 1)[1:]
    sure = (doubtful < 4) | (doubtful < _DOUBT * areas)
    if not sure.all():
        mask = np.concatenate(([False], sure))[labels]
        boxes, areas = boxes[sure], areas[sure]
    height = _line_height(boxes, areas)
    if not height:
        return Marks(np.zeros((0, 4), np.int64), np.zeros(mask.shape, np.int32), np.zeros_like(mask), everything, 0.0)
    gone = _rules(ink, mask, height)
    mask = mask & ~gone
    boxes, areas, labels = _connected(mask)
    near = cv2.dilate(gone.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    beside = np.bincount(labels[near], minlength=len(boxes) + 1)[1:] > 0
    grain = np.maximum(*_sizes(boxes)) < max(2.0, 0.09 * height) if noisy else np.zeros(len(boxes), bool)
    keep = ~grain & ~_drawings(boxes, height) & ~(beside & _bars(boxes, areas, height))
    numbers = np.concatenate(([0], np.where(keep, np.cumsum(keep), 0))).astype(np.int32)
    writing = np.concatenate(([False], keep | grain))[labels]
    labels = numbers[labels]
    boxes, areas = boxes[keep], areas[keep]
    return Marks(boxes, labels, labels > 0, everything & ~writing, _line_height(boxes, areas))


def _sizes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(widths, heights)."""
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def _connected(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes, areas, labels)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stats = stats[1:].astype(np.int64)
    boxes = np.stack((stats[:, 0], stats[:, 1], stats[:, 0] + stats[:, 2], stats[:, 1] + stats[:, 3]), 1)
    return boxes, stats[:, 4], labels


def _line_height(boxes: np.ndarray, areas: np.ndarray) -> float:
    """From the marks alone: letters without ascender and with one are about 0.55 and 0.75 of their line."""
    wide, tall = _sizes(boxes)
    letters = (areas > _GRAIN) & (tall >= 5) & (wide < 6 * tall)
    return float(np.median(tall[letters])) * 1.45 if letters.any() else 0.0


def _rules(ink: np.ndarray, mask: np.ndarray, height: float) -> np.ndarray:
    """Long thin straight runs: rules, underlines, frames, the bars of tables."""
    plain = mask.astype(np.uint8)
    thin = max(3, round(0.3 * height))
    length = max(24, round(_RULE * height))
    gone: np.ndarray = np.zeros_like(plain)
    for along, across, least in ((0, 1, length), (1, 0, round(1.3 * length))):
        run = cv2.morphologyEx(plain, cv2.MORPH_OPEN, _bar(along, least))
        thick = cv2.morphologyEx(run, cv2.MORPH_OPEN, _bar(across, thin + 1))
        gone = cv2.max(gone, cv2.subtract(run, thick))
    return _even(ink, gone)


def _even(ink: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """The runs whose ink is alike all along. A word whose letters have run together, small and blurred, has such
    runs too, but the ink between its letters is faint."""
    boxes, _, labels = _connected(runs)
    keep = np.zeros(len(boxes) + 1, bool)
    for number, (left, top, right, bottom) in enumerate(boxes.tolist(), 1):
        own = labels[top:bottom, left:right] == number
        along = np.where(own, ink[top:bottom, left:right], 0).max(0 if right - left >= bottom - top else 1)
        faint, strong = np.percentile(along, (15, 90))
        keep[number] = faint >= _EVEN * strong
    kept: np.ndarray = keep[labels]
    return kept


def _bar(vertical: int, length: int) -> np.ndarray:
    return np.ones((length, 1) if vertical else (1, length), np.uint8)


def _bars(boxes: np.ndarray, areas: np.ndarray, height: float) -> np.ndarray:
    """Straight pieces, of a frame if a rule is beside them."""
    wide, tall = _sizes(boxes)
    thin = np.minimum(wide, tall) <= max(3.0, 0.25 * height)
    found: np.ndarray = thin & (np.maximum(wide, tall) >= 0.7 * height) & (areas >= 0.8 * wide * tall)
    return found


def _drawings(boxes: np.ndarray, height: float) -> np.ndarray:
    wide, tall = _sizes(boxes)
    rule = (wide > _RULE * height) & (tall < 0.3 * height)  # with gaps, so that no run was long
    return rule | (tall > 5 * height) | (wide > 12 * height) & (tall > 1.6 * height)
