"""Which lines are of fixed-width type, as code is, and how far they are set in: their blanks are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .types import Line, Page

_BEARING = 0.25  # of a character at a piece's ends is paper
_LONG = 8  # characters; shorter pieces say little about a character's width
_ALIKE = 0.035  # of a character's width; the median of a page's lines is nearer than that to their middle
_SURE = 0.04  # every line of a paragraph is nearer than that

Texts = Sequence[Sequence[str | None]]


def indents(page: Page, texts: Texts) -> list[int]:
    """Blanks before each line; 0 outside of fixed-width type."""
    made = [0] * len(page.lines)
    if not any(line.indent > 0 for line in page.lines):
        return made
    advance = _advance(page.lines, texts)
    if advance:
        return [
            round(line.indent / advance) if _fits(line, parts, advance) else 0
            for line, parts in zip(page.lines, texts, strict=True)
        ]
    for start, end, found in _fixed_runs(page, texts):
        edge = min(line.indent for line in page.lines[start:end])
        for index in range(start, end):
            if _fits(page.lines[index], texts[index], found):
                made[index] = round((page.lines[index].indent - edge) / found)
    return made


def _fixed_runs(page: Page, texts: Texts) -> list[tuple[int, int, float]]:
    """(first line, line after the last, a character's width) of what is code on a page of other type."""
    made: list[tuple[int, int, float]] = []
    lines = page.lines
    starts = [i for i, line in enumerate(lines) if not i or line.before != "\n" or line.block != lines[i - 1].block]
    ends = [*starts[1:], len(lines)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        follows = bool(made) and made[-1][1] >= start and lines[start].block == lines[start - 1].block
        if follows and all(_fits(*pair, made[-1][2]) for pair in zip(lines[start:end], texts[start:end], strict=True)):
            made[-1] = (made[-1][0], max(end, made[-1][1]), made[-1][2])  # a blank line in a listing
            continue
        for more in ends[number : number + 2]:  # two lines and a blank one are few to tell by
            if lines[more - 1].block != lines[start].block:
                break
            widths = np.array(_widths(lines[start:more], texts[start:more]))
            found = _advance(lines[start:more], texts[start:more])
            if found and np.abs(widths - found).max() < _SURE * found:
                made.append((start, more, found))
                break
    return made


def _fits(line: Line, parts: Sequence[str | None], advance: float) -> bool:
    """Whether this line is of that type: a centred heading isn't set in."""
    widths = [(p.width, len(part.strip())) for p, part in zip(line.pieces, parts, strict=True) if part and part.strip()]
    letters = sum(count - _BEARING for _, count in widths)
    return letters < 4 or abs(sum(width for width, _ in widths) / letters - advance) < 0.12 * advance


def _widths(lines: Sequence[Line], texts: Texts) -> list[float]:
    """A character's width in each of the longer pieces."""
    return [
        piece.width / (len(part.strip()) - _BEARING)
        for line, parts in zip(lines, texts, strict=True)
        for piece, part in zip(line.pieces, parts, strict=True)
        if part and len(part.strip()) >= _LONG
    ]


def _advance(lines: Sequence[Line], texts: Texts) -> float:
    """A character's width where all have one width; else 0."""
    widths = _widths(lines, texts)
    if len(widths) < 3:
        return 0.0
    middle = float(np.median(widths))
    spread = float(np.median(np.abs(np.array(widths) - middle)))
    return middle if spread < _ALIKE * middle else 0.0
