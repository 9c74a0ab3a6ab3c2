"""Draws lines of text into grey pictures and says where every character stands."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from .config import ASCII, CELL, CHAR_CLASS, CHARACTERS, LINE_CLASSES, SLOTS

HELD_OUT_FONTS = ("Carlito", "Inconsolata", "Cantarell", "Lato")
_NOT_PLAIN_TEXT = re.compile(
    r"Thin|Hairline|ExtraLight|Math|Black|Heavy|LightItalic|CondLight|ExtraBold|Symbol|D050000L"
    r"|fallback|Keyboard|Initials|Dingbat|Z003|Icons|RZ|_DR|VariableFont|\[wght\]"
)
_LATIN_NOTO = re.compile(r"Noto(Sans|Serif|SansMono|SansDisplay)-")


def font_folders() -> list[Path]:
    home = Path.home()
    return [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        home / ".local/share/fonts",
        Path("/System/Library/Fonts/Supplemental"),
        Path("/Library/Fonts"),
    ]


@cache
def fonts() -> tuple[list[str], list[int], list[str]]:
    """(training fonts, their weights, fonts never trained on)."""
    found = sorted(
        os.path.join(folder, name)
        for root in font_folders()
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith((".ttf", ".otf"))
        and not _NOT_PLAIN_TEXT.search(name)
        and ("Noto" not in name or _LATIN_NOTO.search(name))
    )
    found = [f for f in found if glyphs(f).issuperset(ASCII)]
    held = [f for f in found if any(h in f for h in HELD_OUT_FONTS)]
    train = [f for f in found if f not in held]
    weights = [1 if re.search("Ital|Obliq|Didot", f) else 3 for f in train]
    return train, weights, held


@cache
def glyphs(path: str) -> frozenset[str]:
    """The characters that a font can draw; others would come out as boxes."""
    with TTFont(path, lazy=True) as found:
        known = found.getBestCmap() or {}
    return frozenset(c for c in CHARACTERS if ord(c) in known)


@lru_cache(maxsize=4000)
def _font(path: str, size: int) -> tuple[ImageFont.FreeTypeFont, dict[str, float], int, int]:
    font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    ascent, descent = font.getmetrics()
    return font, {c: font.getlength(c) for c in glyphs(path)}, ascent, descent


@lru_cache(maxsize=1000)
def shaped_font(path: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font with kerning and ligatures, as browsers set it; None where Pillow has no Raqm."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.RAQM) if features.check("raqm") else None


@dataclass
class Placed:
    """A character, its horizontal extent and the vertical centre of its line, in pixels."""

    char: str
    left: float
    right: float
    middle: float
    line: int


@dataclass
class Picture:
    image: Image.Image
    lines: list[str]
    placed: list[Placed | None] = field(default_factory=list)  # None at a line break

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Style:
    """What a picture may look like. `smallest` and `largest` are font sizes in pixels."""

    smallest: int = 10
    largest: int = 24
    clean: bool = False


TextSource = Callable[[random.Random, int], str]


def _colours(r: random.Random, clean: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    if clean:
        return (255, 255, 255), (0, 0, 0)
    dark = r.random() < 0.14
    back = r.randint(0, 80) if dark else r.randint(175, 255)
    ink = r.randint(back + 120, 255) if dark else r.randint(0, back - 115)

    def tint(level: int) -> tuple[int, int, int]:
        spread = 0 if r.random() < 0.6 else 30
        return tuple(max(0, min(255, level + r.randint(-spread, spread))) for _ in range(3))  # type: ignore[return-value]

    return tint(back), tint(ink)


def _fit_line(text: str, advance: dict[str, float], left: float, limit: float, most: int) -> tuple[str, list]:
    x, spans = left, []
    for char in text[:most]:
        if char not in advance or x + advance[char] > limit:
            break
        spans.append((x, x + advance[char]))
        x += advance[char]
    text = text[: len(spans)].rstrip()
    return text, spans[: len(text)]


def draw(
    r: random.Random, width: int, height: int, lines: int, font_path: str, source: TextSource, style: Style, most: int
) -> Picture:
    """A width x height picture with up to `lines` lines of at most `most` characters."""
    roof = max(style.smallest, min(style.largest, int(height / (lines * 1.3)) if lines > 1 else height - 8))
    size = r.randint(style.smallest, roof)
    font, advance, ascent, descent = _font(font_path, size)
    pitch = max(size + 1, int((ascent + descent) * r.uniform(0.95, 1.25)))
    lines = max(1, min(lines, (height - 2) // pitch))
    back, ink = _colours(r, style.clean)
    image = Image.new("RGB", (width, height), back)
    canvas = ImageDraw.Draw(image)
    left = r.randint(2, max(3, min(24, width // 10)))
    top = r.randint(0, max(0, height - pitch * lines))
    picture = Picture(image, [])
    for index in range(lines):
        wanted = width // max(4, size // 2) if r.random() < 0.6 else r.randint(1, max(2, width // 8))
        text, spans = _fit_line(source(r, wanted)[: wanted + 4], advance, left, width - 2, most)
        if " " in text and r.random() < 0.5:
            text = text[: text.rindex(" ")].rstrip()
        if not text:
            text = "a"
            spans = [(left, left + advance["a"])]
        y = top + index * pitch
        canvas.text((left, y), text, font=font, fill=ink)
        middle = y + ascent - 0.33 * size
        if index:
            picture.placed.append(None)
        picture.placed += [Placed(c, a, b, middle, index) for c, (a, b) in zip(text, spans, strict=False)]
        picture.lines.append(text)
    return picture


def degrade(r: random.Random, picture: Picture, width: int, height: int) -> Picture:
    """Light blur, JPEG-like rescaling: what a screenshot or a scan goes through."""
    image = picture.image
    if r.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(r.uniform(0.2, 0.7)))
    if image.size != (width, height):  # the processor rounds sizes to multiples of the cell
        sx, sy = width / image.width, height / image.height
        for p in picture.placed:
            if p is not None:
                p.left, p.right, p.middle = p.left * sx, p.right * sx, p.middle * sy
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    picture.image = image
    return picture


def make(
    r: random.Random,
    width: int,
    height: int,
    lines: int,
    font_path: str,
    source: TextSource,
    style: Style | None = None,
    most: int = 60,
) -> Picture:
    """A degraded picture of exactly width x height (multiples of the cell)."""
    style = style or Style()
    jitter = style.clean or r.random() < 0.6
    drawn_width = width if jitter else max(32, width + r.randint(-7, 7))
    drawn_height = height if jitter else max(20, height + r.randint(-7, 7))
    picture = draw(r, drawn_width, drawn_height, lines, font_path, source, style, most)
    if style.clean:
        return picture
    return degrade(r, picture, width, height)


def cell_of(p: Placed, rows: int, columns: int) -> int:
    row = min(rows - 1, max(0, int(p.middle // CELL)))
    column = min(columns - 1, max(0, int((p.left + p.right) / 2 // CELL)))
    return row * columns + column


def dense_labels(picture: Picture, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """What the vision tower should see: (cells, SLOTS) characters and (cells, 2) line numbers.

    Slots 0-3 and 4-7 are the characters of the upper and the lower half of the cell in reading
    order, 8-11 what stands at each 4-pixel sub-column of the cell's main line.
    """
    half = CELL // 2
    chars = np.zeros((rows * 2, columns, 4), np.int64)
    lines = np.zeros((rows * 2, columns), np.int64)
    subcolumns = np.zeros((rows, columns * 4), np.int64)
    filled: dict[tuple[int, int], int] = {}
    for p in picture.placed:
        if p is None:
            continue
        row = min(rows * 2 - 1, max(0, int(p.middle // half)))
        column = min(columns - 1, max(0, int((p.left + p.right) / 2 // CELL)))
        slot = filled.get((row, column), 0)
        filled[row, column] = slot + 1
        if slot < 4:
            chars[row, column, slot] = CHAR_CLASS[p.char]
        lines[row, column] = min(LINE_CLASSES - 1, p.line + 1)
        first, last = int(-(-(p.left - 2) // 4)), int(-(-(p.right - 2) // 4))
        subcolumns[row // 2, max(0, first) : max(0, last)] = CHAR_CLASS[p.char]
    slots = np.concatenate(
        (
            chars.reshape(rows, 2, columns, 4).transpose(0, 2, 1, 3).reshape(rows * columns, 8),
            subcolumns.reshape(rows * columns, 4),
        ),
        1,
    )
    assert slots.shape[1] == SLOTS
    return slots, lines.reshape(rows, 2, columns).transpose(0, 2, 1).reshape(rows * columns, 2)


def to_grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float32) / 255
