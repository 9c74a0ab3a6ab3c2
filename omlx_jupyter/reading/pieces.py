"""A line's strip -> the pictures that the model reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from PIL import Image

from .ink import InkMap
from .layout import Strip
from .marks import Marks
from .recipe import Recipe

_MARGIN = 6  # px of paper left and right of the ink, in a piece
_TALLER = 80  # percentile of a line's letters by their height: ascenders, capitals and digits, which are alike
_SMALL = 0.5  # of the usual line height: dashes and dots alone aren't blown up to a letter's size


@dataclass(frozen=True, eq=False)
class DrawnPiece:
    drawn: Callable[[int], np.ndarray]  # by the height of its line's ink, in pixels
    box: tuple[int, int, int, int]
    before: str


@dataclass(frozen=True, eq=False)
class DrawnLine:
    """A line's ink box and its pieces, in the upright page's pixels."""

    left: int
    top: int
    right: int
    bottom: int
    pieces: list[DrawnPiece]
    tall: float  # its taller letters; with the descenders' reach the box says less about the type's size


class PieceMaker:
    """Draws the pieces of a page's lines."""

    def __init__(self, found: InkMap, marks: Marks, strips: list[Strip], recipe: Recipe) -> None:
        self._found, self._marks, self._recipe = found, marks, recipe
        self._usual = float(np.median([s.height for s in strips])) if strips else 0.0
        boxes = marks.boxes
        self._middles = (boxes[:, 1] + boxes[:, 3]) / 2
        self._centres = (boxes[:, 0] + boxes[:, 2]) / 2
        self._heights = boxes[:, 3] - boxes[:, 1]

    def line(self, strip: Strip) -> DrawnLine | None:
        """None where only specks stand in the strip."""
        own = (self._middles >= strip.top) & (self._middles < strip.bottom)
        own &= (self._centres >= strip.left) & (self._centres < strip.right)
        if not own.any():
            return None
        boxes = self._marks.boxes[own]
        inside = boxes[boxes[:, 3] - boxes[:, 1] <= 1.5 * strip.height]
        boxes = inside if len(inside) else boxes
        left, top = int(boxes[:, 0].min()), int(boxes[:, 1].min())
        right, bottom = int(boxes[:, 2].max()), int(boxes[:, 3].max())
        if max(right - left, bottom - top) < 0.2 * self._usual:
            return None
        ink, mask = self._alone(own, left, top, right, bottom)
        tall = max(bottom - top, _SMALL * self._usual, 6.0)
        level = _levels(ink, mask)
        pieces = []
        for start, end, before in self._cuts(mask, tall):
            own = np.array(ink[:, start:end])  # a copy: the page goes while its pieces may be drawn anew
            drawn = partial(_draw, own, tall, level, self._recipe)
            pieces.append(DrawnPiece(drawn, (left + start, top, left + end, bottom), before))
        letters = (boxes[:, 3] - boxes[:, 1])[boxes[:, 3] - boxes[:, 1] > 0.3 * tall]
        return DrawnLine(
            left, top, right, bottom, pieces, float(np.percentile(letters, _TALLER)) if len(letters) else tall
        )

    def _alone(self, own: np.ndarray, left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        """The line's ink and mask without what reaches in from its neighbours."""
        labels = self._marks.labels[top:bottom, left:right]
        ink = self._found.ink[top:bottom, left:right]
        mine = np.concatenate(([False], own))[labels]
        other = (labels > 0) & ~mine | self._marks.erased[top:bottom, left:right]
        if other.any():
            spread = cv2.dilate(other.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            ink = np.where(spread & ~mine, 0, ink)
        return ink, mine

    def _cuts(self, mask: np.ndarray, tall: float) -> list[tuple[int, int, str]]:
        """(start, end, what joins it) of a line's pieces: at wide gaps, then where they are too wide."""
        columns = np.asarray(mask.any(0))
        inked = np.flatnonzero(columns)
        breaks = np.flatnonzero(np.diff(inked) > self._recipe.gap * tall)
        starts = [int(inked[0]), *(int(inked[b + 1]) for b in breaks)]
        ends = [*(int(inked[b]) + 1 for b in breaks), int(inked[-1]) + 1]
        most = (self._recipe.widest - 2 * _MARGIN) * tall / (self._recipe.ink + self._recipe.again)
        made: list[tuple[int, int, str]] = []
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
            for number, (a, b) in enumerate(_halved(columns, start, end, most)):
                made.append((a, b, " " if number else "\t" if index else ""))
        return made


def _levels(ink: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(ink that is still paper, ink that is black)."""
    full = float(np.percentile(ink[mask], 97)) if mask.any() else 255.0
    grain = ink[~mask]
    paper = 1.5 * float(np.median(grain)) + 4 if grain.size else 4.0
    return min(paper, 0.4 * full), max(full, 8.0)


def _halved(columns: np.ndarray, start: int, end: int, most: float) -> list[tuple[int, int]]:
    """A span in parts of at most `most`, cut at the widest gap of the middle third."""
    if end - start <= most:
        return [(start, end)]
    a, b = start + (end - start) // 3, end - (end - start) // 3
    run = np.concatenate(([False], ~columns[a:b], [False]))
    changes = np.flatnonzero(run[1:] != run[:-1]).reshape(-1, 2)
    if not len(changes):
        middle = (start + end) // 2
        return _halved(columns, start, middle, most) + _halved(columns, middle, end, most)
    gap = changes[(changes[:, 1] - changes[:, 0]).argmax()]
    return _halved(columns, start, a + int(gap[0]), most) + _halved(columns, a + int(gap[1]), end, most)


def _draw(found: np.ndarray, tall: float, level: tuple[float, float], recipe: Recipe, ink: int) -> np.ndarray:
    """A piece of `found` ink (h, w), whose line is `tall`, as (recipe.height, width, 3) uint8: dark on white."""
    factor = ink / tall
    width = min(recipe.widest, max(1, round(found.shape[1] * factor)) + 2 * _MARGIN)
    paper, full = level
    grey = (255 - np.clip((found - paper) * (255 / (full - paper)), 0, 255)).astype(np.uint8)
    # The whole of what is drawn, with its margins, in the page's pixels.
    margin, over = _MARGIN / factor, (recipe.height / factor - grey.shape[0]) / 2
    pad = (int(over) + 2, int(margin) + 2)
    padded = np.pad(grey, ((pad[0], pad[0]), (pad[1], pad[1])), constant_values=255)
    box = (
        pad[1] - margin,
        pad[0] - over,
        pad[1] + grey.shape[1] + margin,
        pad[0] + grey.shape[0] + over,
    )
    drawn = Image.fromarray(padded).resize((width, recipe.height), Image.Resampling.LANCZOS, box=box)
    full_width = max(recipe.narrowest, -(-width // recipe.step) * recipe.step)
    made = np.full((recipe.height, min(full_width, recipe.widest), 3), 255, np.uint8)
    made[:, : min(width, made.shape[1])] = np.asarray(drawn)[:, : made.shape[1], None]
    return made
