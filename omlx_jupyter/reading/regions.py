"""A cut page's regions by white space: titles, paragraphs, code, tables, figures, running heads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from .fixed import indents
from .types import Box, Kind, Line, Page, Region

Texts = Sequence[Sequence[str | None]]
_TITLE = 1.25  # of the page's usual line
_HEAD = 1.1  # the same, of a running head at most
_MOST_TITLE = 3  # lines
_WORD = re.compile(r"\w\w")  # a figure's label has one; a dot of its pattern that was read has none
_RIM = 0.1  # of the page's height
_APART = 1.5  # line heights between a running head and the page


def regions_of(page: Page, texts: Texts | None = None) -> list[Region]:
    """In reading order. With the pieces' `texts`, lines that said nothing are left out, and code is told by its
    indents."""
    said = [texts is None or any(part for part in texts[n]) for n in range(len(page.lines))]
    labels = {n for n in range(len(page.lines)) if any(_stands_in(page.lines[n].box, f.box) for f in page.figures)}
    blanks = indents(page, texts) if texts is not None else [0] * len(page.lines)
    made: list[Region] = []
    starts = {figure.before for figure in page.figures}
    for group in _groups(page, [told and n not in labels for n, told in enumerate(said)], starts):
        made += _of_figures(page, made, group[0])
        made.append(Region(_kind(page, group, blanks), around([page.lines[n].box for n in group]), tuple(group)))
    made += _of_figures(page, made, len(page.lines))
    words = texts or []
    mine = {n for n in labels if words and _WORD.search(" ".join(part for part in words[n] if part))}
    return _running(page, [_with_labels(page, region, mine) for region in made])


def _with_labels(page: Page, region: Region, labels: set[int]) -> Region:
    """A figure with the lines that were read in it."""
    if region.kind != "figure":
        return region
    return replace(region, lines=tuple(n for n in sorted(labels) if _stands_in(page.lines[n].box, region.box)))


def _stands_in(box: Box, other: Box) -> bool:
    (left, top), _, (right, bottom), _ = around([other])
    x, y = sum(x for x, _ in box) / 4, sum(y for _, y in box) / 4
    return left <= x <= right and top <= y <= bottom


def around(boxes: Sequence[Box]) -> Box:
    """The corners of a box round several."""
    x, y = ([corner[axis] for box in boxes for corner in box] for axis in (0, 1))
    return (min(x), min(y)), (max(x), min(y)), (max(x), max(y)), (min(x), max(y))


def cells(line: Line, texts: Sequence[str | None]) -> list[tuple[float, float, str]]:
    """(left, right, text) of each cell of a line."""
    made: list[tuple[float, float, str]] = []
    for piece, text in zip(line.pieces, texts, strict=True):
        left, right = piece.box[0][0], piece.box[1][0]
        if made and piece.before != "\t":
            made[-1] = (made[-1][0], right, f"{made[-1][2]} {(text or '').strip()}".strip())
        else:
            made.append((left, right, (text or "").strip()))
    return [cell for cell in made if cell[2]]


def table_rows(page: Page, region: Region, texts: Texts) -> list[list[str]]:
    """A table's rows, each with as many cells as it has columns. Columns are those of its fullest rows."""
    found = [row for row in (cells(page.lines[n], texts[n]) for n in region.lines) if row]
    most = max(map(len, found), default=0)
    full = [row for row in found if len(row) == most]
    columns = [(min(row[i][0] for row in full), max(row[i][1] for row in full)) for i in range(most)]
    made = []
    for row in found:
        placed = [""] * most
        for left, right, text in row:
            shared = [min(right, b) - max(left, a) for a, b in columns]
            at = int(np.argmax(shared))
            placed[at] = f"{placed[at]} {text}".strip()
        made.append(placed)
    return made


def _groups(page: Page, said: Sequence[bool], figures: set[int]) -> Iterator[list[int]]:
    """Runs of lines that belong together: between blank lines, columns and figures; tables and titles apart."""
    group: list[int] = []
    usual = _usual(page)
    broken = False
    for number, line in enumerate(page.lines):
        broken = broken or line.before == "\n\n" or number in figures
        if not said[number]:
            continue
        if group:
            last = page.lines[group[-1]]
            changes = _is_row(line) != _is_row(last) or _is_tall(line, usual) != _is_tall(last, usual)
            # The rows of a table may stand wide apart
            both = _is_row(line) and _is_row(last) and line.block == last.block and number not in figures
            if (broken and not both) or changes or line.block != last.block:
                yield group
                group = []
        group.append(number)
        broken = False
    if group:
        yield group


def _kind(page: Page, group: Sequence[int], blanks: Sequence[int]) -> Kind:
    lines = [page.lines[n] for n in group]
    if len(lines) > 1 and all(map(_is_row, lines)):
        return "table"
    if sum(blanks[n] > 0 for n in group) > 0:
        return "code"
    if len(lines) <= _MOST_TITLE and all(_is_tall(line, _usual(page)) for line in lines):
        tallest = max(line.tall for line in page.lines)
        return "title" if max(line.tall for line in lines) > 0.85 * tallest else "heading"
    return "text"


def _is_row(line: Line) -> bool:
    return any(piece.before == "\t" for piece in line.pieces)


def _is_tall(line: Line, usual: float) -> bool:
    return line.tall > _TITLE * usual


def _usual(page: Page) -> float:
    return float(np.median([line.tall for line in page.lines])) if page.lines else 0.0


def _of_figures(page: Page, made: Sequence[Region], number: int) -> list[Region]:
    """The figures that stand before line `number` and aren't there yet."""
    there = {region.box for region in made}
    return [Region("figure", f.box) for f in page.figures if f.before <= number and f.box not in there]


def _running(page: Page, made: list[Region]) -> list[Region]:
    """Single lines at the page's rim, well apart from all else, are running heads and feet."""
    if len(made) < 3:
        return made
    height, usual = page.size[1], _usual(page)
    tops, bottoms = ([region.box[corner][1] for region in made] for corner in (0, 3))
    found = list(made)
    for at, region in enumerate(made):
        if region.kind != "text" or len(region.lines) > 1 or page.lines[region.lines[0]].tall > _HEAD * usual:
            continue
        others = [n for n in range(len(made)) if n != at]
        if bottoms[at] < _RIM * height and min(tops[n] for n in others) - bottoms[at] > _APART * usual:
            found[at] = Region("header", region.box, region.lines)
        if tops[at] > (1 - _RIM) * height and tops[at] - max(bottoms[n] for n in others) > _APART * usual:
            found[at] = Region("footer", region.box, region.lines)
    return found
