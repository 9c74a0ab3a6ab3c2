"""What a model may do with a picture to see more of it: cut out, enlarge, turn."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..errors import ImageError
from .decoded import DecodedImage

THOUSANDTHS = 1000  # in which boxes are given, of the picture's width and height
_ENLARGED = 1024  # pixels of the longer side that `zoom` makes, where it has fewer
_MOST_TIMES = 8  # that it enlarges


def pixel_box(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """[left, top, right, bottom] in thousandths of a picture -> its pixels, at least one each way.

    :raises ImageError: not four numbers, or nothing of the picture lies in it.
    """
    if len(box) != 4 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in box):
        raise ImageError(f"the box is {list(box)!r}; give [left, top, right, bottom] in thousandths.")
    left, top, right, bottom = (min(max(float(n), 0.0), THOUSANDTHS) for n in box)
    if not (left < right and top < bottom):
        raise ImageError(
            f"the box {list(box)!r} is empty; it is [left, top, right, bottom] in thousandths (0 to 1000)."
        )
    x, y = int(left * width / THOUSANDTHS), int(top * height / THOUSANDTHS)
    return (
        min(x, width - 1),
        min(y, height - 1),
        min(width, max(x + 1, -int(-right * width // THOUSANDTHS))),
        min(height, max(y + 1, -int(-bottom * height // THOUSANDTHS))),
    )


def crop(picture: DecodedImage, box: Sequence[float]) -> DecodedImage:
    """A part of it at its own size. :raises ImageError: the box is none."""
    left, top, right, bottom = pixel_box(box, picture.width, picture.height)
    return DecodedImage(
        picture.pixels[top:bottom, left:right].copy(), f"{picture.source} [{left}, {top}, {right}, {bottom}]"
    )


def zoom(picture: DecodedImage, box: Sequence[float]) -> DecodedImage:
    """A part of it, enlarged to about a thousand pixels. :raises ImageError: the box is none."""
    part = crop(picture, box)
    times = min(_MOST_TIMES, _ENLARGED / max(part.width, part.height))
    if times <= 1:
        return part
    size = (max(1, round(part.width * times)), max(1, round(part.height * times)))
    return _made(part.pil().resize(size, Image.Resampling.LANCZOS), part.source)


def rotate(picture: DecodedImage, degrees: float) -> DecodedImage:
    """Turned clockwise; what is not covered is white."""
    turned = picture.pil().rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    return _made(turned, f"{picture.source}, turned by {degrees:g}°")


def _made(image: Image.Image, source: str) -> DecodedImage:
    import numpy as np

    return DecodedImage(np.asarray(image.convert("RGB")).copy(), source)
