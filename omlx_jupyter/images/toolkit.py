"""What a model may do with a picture to see more of it: cut out, enlarge, turn."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from .decoded import DecodedImage
from .grounding import THOUSANDTHS, Grounding

_ENLARGED = 1024  # pixels of the longer side that `zoom` makes, where it has fewer
_MOST_TIMES = 8  # that it enlarges


def crop(picture: DecodedImage, box: Sequence[float], grounding: Grounding = THOUSANDTHS) -> DecodedImage:
    """A part of it at its own size. :raises ImageError: the box is none."""
    left, top, right, bottom = grounding.pixels(box, picture.width, picture.height)
    return DecodedImage(
        picture.pixels[top:bottom, left:right].copy(), f"{picture.source} [{left}, {top}, {right}, {bottom}]"
    )


def zoom(picture: DecodedImage, box: Sequence[float], grounding: Grounding = THOUSANDTHS) -> DecodedImage:
    """A part of it, enlarged to about a thousand pixels. :raises ImageError: the box is none."""
    part = crop(picture, box, grounding)
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
