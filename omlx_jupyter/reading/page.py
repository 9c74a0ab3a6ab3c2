"""The room's front door: a page's pixels -> lines of pieces, and their texts -> the page's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from .figures import Flat, drawn, figure_boxes, line_after, painted
from .fixed import indents
from .ink import InkMap, upright_ink
from .layout import Layout, Strip
from .marks import Marks, marks_of
from .pieces import PieceMaker
from .recipe import Recipe
from .types import Box, Figure, Line, Page, Piece

_LARGEST = 3_000_000  # pixels that are looked at; a piece's ink is small anyway
_ROUGH = 0.5  # of a strip's ink
_FEW = 4  # letters, of a line on a page that is a picture otherwise
_MISSED = 0.3  # of the edges; then the letters may be larger than was thought
_UNREAD = 0.2  # of a page without lines
_TALL = 56  # px; taller lines are looked at once more in a smaller picture, for their strokes


def cut(rgb: np.ndarray, recipe: Recipe, figures: bool = False) -> Page:
    """Cut a (H, W, 3) uint8 page into lines, in reading order. `figures` are looked for only where they are wanted."""
    height, width = rgb.shape[:2]
    factor = min(1.0, (_LARGEST / max(1, height * width)) ** 0.5)
    found, marks, strips = _look(rgb, factor)
    heights = [strip.height for strip in strips]
    usual = float(np.median(heights)) if heights else 0.0
    wide_strokes = found.missed > _MISSED and sum(not strip.solid for strip in strips) < 3
    if usual > _TALL or wide_strokes:
        again = _look(rgb, factor * (24 / usual if usual > _TALL else 0.25))
        better = [strip for strip in again[2] if not strip.solid and _letters(again[1], strip) > 1]
        if better and (usual > _TALL or again[0].missed < 0.5 * found.missed):
            found, marks, strips = again
    reason = _why_whole(found, marks, strips)
    if reason:
        return Page((), (width, height), found.skew, whole=True, reason=reason)
    pictures = sum(strip.solid for strip in strips)
    notes = (f"{pictures} part{'s' * (pictures != 1)} of the page without lines left out",) if pictures else ()
    lines = _lines(found, marks, [s for s in strips if not s.solid], recipe)
    shown = _figures(rgb, found, marks, strips, lines) if figures else ()
    return Page(tuple(lines), (width, height), found.skew, notes=notes, figures=shown)


def _look(rgb: np.ndarray, factor: float) -> tuple[InkMap, Marks, list[Strip]]:
    found = upright_ink(rgb, factor)
    marks = marks_of(found.ink, found.mask, found.doubt, found.noisy)
    layout = Layout(marks)
    strips = [replace(s, solid=s.solid or _is_rough(found, marks, s)) for s in layout.strips]
    return found, marks.split(layout.cuts) if layout.cuts else marks, strips


def _is_rough(found: InkMap, marks: Marks, strip: Strip) -> bool:
    """Whether a strip is part of a picture rather than a line: most of its ink has no even ground."""
    inked = marks.mask[strip.top : strip.bottom, strip.left : strip.right]
    rough = inked & found.rough[strip.top : strip.bottom, strip.left : strip.right]
    return int(rough.sum()) > _ROUGH * int(inked.sum())


def _why_whole(found: InkMap, marks: Marks, strips: list[Strip]) -> str:
    """Why the page can't be cut into lines; nothing if it can."""
    inked = int(marks.mask.sum())
    if not strips and not found.noisy and found.missed * found.edges > _UNREAD:
        return "the page has edges everywhere and no line of letters"
    if not inked:
        return ""
    if found.mask.mean() > 0.35:
        return "the page is one dense texture"
    solid = sum(int(marks.mask[s.top : s.bottom, s.left : s.right].sum()) for s in strips if s.solid)
    lines = sum(not s.solid and _letters(marks, s) >= _FEW for s in strips)
    if solid > 0.75 * inked and lines < 2:
        return "the page has no rows of white between lines"
    return ""


def _letters(marks: Marks, strip: Strip) -> int:
    """How many marks of a strip are as tall as letters are."""
    middles = (marks.boxes[:, 1] + marks.boxes[:, 3]) / 2
    tall = marks.boxes[:, 3] - marks.boxes[:, 1]
    inside = (middles >= strip.top) & (middles < strip.bottom) & (tall > 0.3 * strip.height)
    return int(inside.sum())


def _figures(
    rgb: np.ndarray, found: InkMap, marks: Marks, strips: list[Strip], lines: Sequence[Line]
) -> tuple[Figure, ...]:
    """The page's figures, in its own pixels."""
    scale = float(np.hypot(*found.back[:, 0]))  # of the page's pixels to those that were looked at
    seen = cv2.resize(rgb, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA) if scale > 1 else rgb
    boxes = [_flat(_turned(found, box)) for box in drawn(marks, [_box_of(s) for s in strips if s.solid])]
    boxes += [tuple(round(side * scale) for side in box) for box in painted(seen, marks.height)]  # type: ignore[misc]
    flat = [_flat(line.box) for line in lines]
    kept = figure_boxes(boxes, flat)
    return tuple(Figure(_corners(box), line_after(box, flat)) for box in kept)


def _box_of(strip: Strip) -> Flat:
    return strip.left, strip.top, strip.right, strip.bottom


def _flat(box: Box) -> Flat:
    x, y = [x for x, _ in box], [y for _, y in box]
    return round(min(x)), round(min(y)), round(max(x)), round(max(y))


def _corners(box: Flat) -> Box:
    left, top, right, bottom = (float(side) for side in box)
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _lines(found: InkMap, marks: Marks, strips: list[Strip], recipe: Recipe) -> list[Line]:
    maker = PieceMaker(found, marks, strips, recipe)
    made: list[Line] = []
    drawn = [maker.line(strip) for strip in strips]
    kept = [(strip, line) for strip, line in zip(strips, drawn, strict=True) if line is not None]
    blank = _blank_gaps([line.top for _, line in kept], [line.bottom for _, line in kept], [s.block for s, _ in kept])
    edges: dict[int, int] = {}
    for strip, line in kept:
        edges[strip.block] = min(edges.get(strip.block, line.left), line.left)
    for index, (strip, line) in enumerate(kept):
        pieces = tuple(
            Piece(p.drawn(recipe.ink), _turned(found, p.box), p.box[2] - p.box[0], p.before, p.drawn)
            for p in line.pieces
        )
        before = "" if not index else "\n\n" if blank[index] else "\n"
        box = _turned(found, (line.left, line.top, line.right, line.bottom))
        made.append(Line(pieces, box, before, float(line.left - edges[strip.block]), strip.block, line.tall))
    return made


def _blank_gaps(tops: list[int], bottoms: list[int], blocks: list[int]) -> list[bool]:
    """Whether a blank line stands before each line: the step to it is well over the block's usual one."""
    steps = [b - a for a, b in pairwise(bottoms)]
    made = [False]
    for index, step in enumerate(steps, 1):
        if blocks[index] != blocks[index - 1]:
            made.append(True)
            continue
        near = [s for s, b, c in zip(steps, blocks, blocks[1:], strict=False) if b == c == blocks[index]]
        tall = max(bottoms[index] - tops[index], bottoms[index - 1] - tops[index - 1])
        gap = tops[index] - bottoms[index - 1]
        usual = float(np.percentile(near, 30)) if len(near) >= 3 else 0.0
        made.append(gap > 0.6 * tall and step > 1.45 * usual if usual else gap > 1.35 * tall)
    return made


def _turned(found: InkMap, box: tuple[int, int, int, int]) -> Box:
    """Corners of an upright box in the original page's pixels."""
    left, top, right, bottom = box
    corners = np.array([(left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)], float)
    return tuple((round(float(x), 1), round(float(y), 1)) for x, y in corners @ found.back.T)


def join(page: Page, texts: Sequence[Sequence[str | None]]) -> str:
    """The page's text from its pieces' texts, a sequence a line; None leaves a piece out, and a line that has no
    text goes with its break. Lines of fixed-width type keep their indent as blanks."""
    made, pending = "", ""
    for line, parts, indent in zip(page.lines, texts, indents(page, texts), strict=True):
        pending = line.before if len(line.before) > len(pending) else pending
        text = ""
        for piece, part in zip(line.pieces, parts, strict=True):
            word = (part or "").strip()
            if word:
                text += (piece.before if text else "") + word
        if not text:
            continue
        made += (pending if made else "") + " " * indent + text
        pending = ""
    return made
