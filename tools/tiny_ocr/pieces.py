"""Single lines as the reading recipe hands them over: dark on white, the ink scaled to one height.

A line is drawn at some size, goes through what screens, scanners and the recipe's own cutting do to
it (skew, blur, JPEG, rescaling, noise, a contrast stretch), and comes out PIECE_HEIGHT pixels tall.
"""

from __future__ import annotations

import io
import itertools
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .render import Picture, Placed, TextSource, _font, glyphs, shaped_font

INK = 16  # pixels of ink that a cut line is scaled to
PIECE_HEIGHT = 32
SMALLEST, LARGEST = 9, 56  # font sizes in pixels before scaling
_SHAPED = 0.6  # of the pieces have kerning and ligatures
_FILTERS = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


def make_piece(r: random.Random, width: int, font_path: str, source: TextSource) -> Picture:
    """A width x PIECE_HEIGHT picture with one line, or, now and then, with nothing to read."""
    if r.random() < 0.025:
        return nothing(r, width, PIECE_HEIGHT)
    size = round(SMALLEST * (LARGEST / SMALLEST) ** (r.random() ** 1.6))
    ink = INK * (r.uniform(0.94, 1.06) if r.random() < 0.8 else r.uniform(0.8, 1.25))
    # A piece of a line keeps the line's scale and rows: "5.60" stands beside letters that reach further.
    neighbour = "" if r.random() < 0.6 else r.choice(("g", "Ag", "(y", "Q|", "\u00c1j" if r.random() < 0.3 else "hp"))
    left = r.uniform(2, 12)
    font = (shaped_font(font_path, size) if r.random() < _SHAPED else None) or _font(font_path, size)[0]
    text, spans, box = _fitted(r, font_path, font, ink, width - left - 3, source, neighbour)
    back, dark = r.randint(225, 255), r.randint(0, 110)
    margin = size
    drawn = Image.new("L", (int(spans[-1][1]) + 2 * margin, box[3] - box[1] + 2 * margin), back)
    ImageDraw.Draw(drawn).text((margin, margin - box[1]), text, font=font, fill=dark)
    drawn = _worn(r, drawn, back)
    factor = ink / max(1, box[3] - box[1])
    top = (PIECE_HEIGHT - ink) / 2 + r.uniform(-1.5, 1.5)
    image = _placed(r, drawn, width, factor, (left - margin * factor, top - margin * factor), back)
    middle = top + (-box[1] + _font(font_path, size)[2] - 0.33 * size) * factor
    placed = [Placed(c, left + a * factor, left + b * factor, middle, 0) for c, (a, b) in zip(text, spans, strict=True)]
    return Picture(_finished(r, image, back), [text], list(placed))


def _fitted(
    r: random.Random,
    font_path: str,
    font: ImageFont.FreeTypeFont,
    ink: float,
    room: float,
    source: TextSource,
    neighbour: str,
) -> tuple[str, list[tuple[float, float]], tuple[int, int, int, int]]:
    """Text that fits `room` once its ink is scaled: the text, its characters' extents, its box in drawn pixels."""
    known = glyphs(font_path)
    # Short texts are what narrow cells of a table hold; most lines fill what there is.
    wanted = max(1, int(room / 7)) if r.random() < 0.75 else r.randint(1, max(2, int(room / 9)))
    text = "".join(c for c in source(r, wanted)[: wanted + 6] if c in known).strip() or "a"
    while True:
        box = font.getbbox(text + neighbour)
        least = 0.5 * sum(font.getmetrics())  # of a line of small signs alone
        if box[3] - box[1] < least:
            middle = (box[1] + box[3]) / 2
            box = (box[0], round(middle - least / 2), box[2], round(middle + least / 2))
        factor = ink / max(1, box[3] - box[1])
        edges = [font.getlength(text[:end]) for end in range(len(text) + 1)]
        fits = sum(edge * factor <= room for edge in edges) - 1
        if fits >= len(text):
            return text, list(itertools.pairwise(edges)), box
        cut = text[: max(1, fits)]
        space = cut.rfind(" ")
        text = (cut[:space] if space > len(cut) * 0.5 else cut).strip() or "a"
        if len(text) == 1 and edges[1] * factor > room:  # one wide letter in a narrow piece
            return text, [(0.0, edges[1])], box


def _worn(r: random.Random, image: Image.Image, back: int) -> Image.Image:
    if r.random() < 0.35:
        turn = r.uniform(-0.6, 0.6) if image.width > 300 else r.uniform(-1.2, 1.2)
        image = image.rotate(turn, resample=Image.Resampling.BICUBIC, fillcolor=back)
    if r.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(r.uniform(0.2, 0.035 * image.height / 2 + 0.2)))
    if r.random() < 0.15:  # a screenshot that was shrunk or enlarged before
        factor = r.uniform(0.6, 1.6)
        small = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
        image = image.resize(small, r.choice(_FILTERS)).resize(image.size, r.choice(_FILTERS))
    if r.random() < 0.2:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=r.randint(25, 85))
        image = Image.open(data).convert("L")
    if r.random() < 0.25:
        noise = np.random.default_rng(r.getrandbits(32)).standard_normal((image.height, image.width), np.float32)
        image = Image.fromarray((np.asarray(image) + noise * r.uniform(2, 20)).clip(0, 255).astype(np.uint8))
    return image


def _placed(
    r: random.Random, drawn: Image.Image, width: int, factor: float, corner: tuple[float, float], back: int
) -> Image.Image:
    """`drawn` scaled by `factor`, its corner at `corner`, on a piece of its own."""
    size = (max(1, round(drawn.width * factor)), max(1, round(drawn.height * factor)))
    scaled = drawn.resize(size, Image.Resampling.LANCZOS if r.random() < 0.6 else r.choice(_FILTERS))
    image = Image.new("L", (width, PIECE_HEIGHT), back)
    image.paste(scaled, (round(corner[0]), round(corner[1])))
    return image


def _finished(r: random.Random, image: Image.Image, back: int) -> Image.Image:
    """The recipe's contrast stretch, most of the time; traces of neighbouring lines and of rules at the edge."""
    if r.random() < 0.08:
        y = r.choice((0, 1, PIECE_HEIGHT - 2, PIECE_HEIGHT - 1))
        start = r.randint(0, image.width - 1)
        ImageDraw.Draw(image).line((start, y, start + r.randint(4, image.width), y), fill=r.randint(60, 200))
    if r.random() < 0.85:
        grey = np.asarray(image, np.float32)
        low = np.percentile(grey, 0.5)
        high = back - r.uniform(0.05, 0.16) * (back - low)
        image = Image.fromarray(((grey - low) / max(1, high - low) * 255).clip(0, 255).astype(np.uint8))
    return image


def nothing(r: random.Random, width: int, height: int) -> Picture:
    """Blank paper, texture, a rule, blots: what a cutter may take for a line. Its answer is empty."""
    noise = np.random.default_rng(r.getrandbits(32))
    back = r.randint(220, 255)
    grey = np.full((height, width), back, np.float32)
    kind = r.random()
    if kind < 0.4:
        coarse = noise.standard_normal((height, width)) * r.uniform(5, 120)
        grey += coarse if r.random() < 0.5 else np.repeat(np.repeat(coarse[::4, ::4], 4, 0), 4, 1)[:height, :width]
    image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if 0.4 <= kind < 0.8:
        canvas = ImageDraw.Draw(image)
        for _ in range(r.randint(1, 6)):
            x, y, w, h = r.randint(0, width), r.randint(0, height - 4), r.randint(1, width), r.choice((1, 2, 3, 8, 16))
            shape = canvas.ellipse if r.random() < 0.5 else canvas.rectangle
            shape((x, y, x + (w if h < 4 else h), y + h), fill=r.randint(0, 150))
        if r.random() < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(r.uniform(0.5, 3)))
    return Picture(image, [""])
