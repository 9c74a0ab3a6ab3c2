"""Pages drawn for the tests, with Pillow's own font so that no system font is needed."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from omlx_jupyter.reading.page import Page, cut
from omlx_jupyter.reading.recipe import Recipe

WORDS = [
    "First gate opens",
    "Tax 12.50 due",
    "jumping dogs play",
    "Monday 4 June",
    "Return ticket, please",
    "End of page",
]


def blank(width: int = 520, height: int = 300, paper: str = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), paper)
    return image, ImageDraw.Draw(image)


def write(
    canvas: ImageDraw.ImageDraw,
    lines: list[str],
    left: int = 30,
    top: int = 20,
    size: int = 16,
    pitch: int = 27,
    ink: str = "black",
) -> list[tuple[int, int, int, int]]:
    """Draws lines; the box of each one's ink."""
    font = ImageFont.load_default(size)
    made = []
    for index, line in enumerate(lines):
        canvas.text((left, top + index * pitch), line, font=font, fill=ink)
        box = canvas.textbbox((left, top + index * pitch), line, font=font)
        made.append(tuple(round(edge) for edge in box))
    return made


def page_of(image: Image.Image) -> Page:
    return cut(np.asarray(image.convert("RGB")), Recipe())


def bounds(box: tuple[tuple[float, float], ...]) -> tuple[float, float, float, float]:
    """The upright box around four corners."""
    xs, ys = zip(*box, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def assert_boxes(page: Page, wanted: list[tuple[int, int, int, int]], off: float = 3) -> None:
    """The lines' boxes, in order, within `off` pixels."""
    found = [bounds(line.box) for line in page.lines]
    assert len(found) == len(wanted), found
    assert np.abs(np.array(found) - np.array(wanted)).max() <= off, (found, wanted)
