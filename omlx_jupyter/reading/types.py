"""What a cut page is. No OpenCV here: a page can be read whole without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Box = tuple[tuple[float, float], ...]  # four corners (x, y): left top, right top, right bottom, left bottom


@dataclass(frozen=True, eq=False)
class Piece:
    """`pixels` is (h, w, 3) uint8, ready for the model; `before` joins it to the piece before it in its line;
    `drawn(ink)` gives the same with its line's ink so many pixels tall."""

    pixels: np.ndarray
    box: Box
    width: float  # of its ink, in pixels of the upright page
    before: str
    drawn: Callable[[int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Line:
    """A line in reading order. `before` is what stands between it and the line before it; `indent` is how far it
    stands in from its block's left edge, `tall` how tall its taller letters are, in pixels of the upright page."""

    pieces: tuple[Piece, ...]
    box: Box
    before: str
    indent: float
    block: int
    tall: float = 0.0


@dataclass(frozen=True, eq=False)
class Figure:
    """A part of the page that isn't writing. It stands before the line of number `before`."""

    box: Box
    before: int


Kind = Literal["title", "heading", "text", "code", "table", "formula", "figure", "header", "footer"]


@dataclass(frozen=True)
class Region:
    """A part of a page, in reading order. `lines` are the numbers of the page's lines in it, where it was cut into
    lines; `score` is how sure a detector was, 0 to 1."""

    kind: Kind
    box: Box
    lines: tuple[int, ...] = ()
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class Page:
    """`whole` says that the page can't be cut and `reason` why; a page without ink has no lines and isn't whole."""

    lines: tuple[Line, ...]
    size: tuple[int, int]  # width, height
    skew: float = 0.0
    whole: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def pieces(self) -> list[Piece]:
        return [piece for line in self.lines for piece in line.pieces]
