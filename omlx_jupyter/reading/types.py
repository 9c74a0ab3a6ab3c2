"""What a cut page is. No OpenCV here: a page can be read whole without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[tuple[float, float], ...]  # four corners (x, y): left top, right top, right bottom, left bottom


@dataclass(frozen=True, eq=False)
class Piece:
    """`pixels` is (h, w, 3) uint8, ready for the model; `before` joins it to the piece before it in its line."""

    pixels: np.ndarray
    box: Box
    width: float  # of its ink, in pixels of the upright page
    before: str = ""


@dataclass(frozen=True, eq=False)
class Line:
    """A line in reading order. `before` is what stands between it and the line before it; `indent` is how far it
    stands in from its block's left edge, in pixels of the upright page."""

    pieces: tuple[Piece, ...]
    box: Box
    before: str
    indent: float
    block: int


@dataclass(frozen=True, eq=False)
class Page:
    """`whole` says that the page can't be cut and `reason` why; a page without ink has no lines and isn't whole."""

    lines: tuple[Line, ...]
    size: tuple[int, int]  # width, height
    skew: float = 0.0
    whole: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def pieces(self) -> list[Piece]:
        return [piece for line in self.lines for piece in line.pieces]
