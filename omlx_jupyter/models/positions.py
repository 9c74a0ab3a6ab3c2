"""M-RoPE positions, computed per request and passed explicitly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .prepared import ImageSpan


@dataclass(frozen=True)
class Positions:
    """`ids` is (3, N) int32 (time, row, column); a token after the prompt at index i has i + delta on all axes."""

    ids: np.ndarray
    delta: int


def mrope_positions(
    length: int, spans: Sequence[ImageSpan], grids: Sequence[tuple[int, int, int]], image_cells: Sequence[np.ndarray]
) -> Positions:
    """Positions of a prompt of `length` tokens.

    `grids` are (t, h, w) in merged cells, `image_cells[i]` says which tokens of span i are cells (a
    span may hold row breaks or start and end marks). Text counts on by one on every axis; a picture
    holds its start on the time axis while rows and columns count; what follows goes on after the
    largest position used (Qwen2-VL, section 2.1, and GLM-4.1V's published code).
    """
    positions = np.zeros((3, length), np.int32)
    at = done = 0

    def text(until: int) -> None:
        nonlocal at, done
        count = until - done
        positions[:, done:until] = at + np.arange(count, dtype=np.int32)
        at, done = at + count, until

    for span, (frames, rows, columns), cells in zip(spans, grids, image_cells, strict=True):
        inside = np.flatnonzero(cells)
        first, last = span.start + int(inside[0]), span.start + int(inside[-1]) + 1
        text(first)
        frame = np.repeat(np.arange(frames, dtype=np.int32), rows * columns)
        row = np.tile(np.repeat(np.arange(rows, dtype=np.int32), columns), frames)
        column = np.tile(np.arange(columns, dtype=np.int32), frames * rows)
        positions[:, first:last] = at + np.stack((frame, row, column))
        at += int(max(frames, rows, columns))
        done = last
    text(length)
    return Positions(positions, at - length)
