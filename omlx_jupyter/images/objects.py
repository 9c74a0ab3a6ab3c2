"""Things that live in a notebook and can show themselves as a picture: recognised by shape, not by import."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ..errors import ImageError
from .boundary import one_sentence
from .files import mib
from .limits import Limits, raising

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def is_array(value: object) -> bool:
    """numpy arrays and whatever converts to one (torch, mlx, jax), but no scalars or strings."""
    return isinstance(value, np.ndarray) or (
        hasattr(value, "__array__") and hasattr(value, "shape") and not hasattr(value, "_repr_png_")
    )


def figure_of(value: object) -> Figure | None:
    """The matplotlib figure behind a Figure, an Axes, an array of Axes or a grid of plots."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.size:
        value = value.flat[0]
    if _is_figure(value):
        return value
    figure = getattr(value, "figure", None)
    return figure if _is_figure(figure) else None


def _is_figure(value: object) -> TypeGuard[Figure]:
    return _from_library(value, "matplotlib") and hasattr(value, "savefig")


def figure_png(figure: Figure, source: str, limits: Limits) -> bytes:
    """A figure as savefig draws it.

    :raises ImageError: it fails to draw itself, or would have more pixels than allowed.
    """
    with one_sentence(source, "failed to draw itself", "see that its savefig works"):
        width, height = figure.get_size_inches()
        _check_inches(width, height, figure.dpi, source, limits)  # measuring draws at this size
        extent = figure.get_tightbbox()  # what is drawn outside of the figure widens it
        _check_inches(extent.width, extent.height, figure.dpi, source, limits)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def _check_inches(width: float, height: float, dpi: float, source: str, limits: Limits) -> None:
    if not width * dpi * height * dpi <= limits.max_pixels:
        raise ImageError(
            f"{source} is {width * dpi:.0f} x {height * dpi:.0f} pixels, over the limit of "
            f"{limits.max_pixels / 1e6:.0f} megapixels; make it smaller or lower its dpi."
        )


def display_image_source(value: object) -> Any | None:
    """What an `IPython.display.Image` holds: its bytes, file name or URL."""
    if not _from_library(value, "IPython") or not hasattr(value, "filename"):
        return None
    for attribute in ("data", "filename", "url"):
        held = getattr(value, attribute, None)
        if held:
            return held
    return None


def own_png(value: object, source: str, limits: Limits) -> bytes | None:
    """The picture that an object draws of itself through IPython's display protocol."""
    with one_sentence(source, "failed to draw itself", "see that its _repr_png_ or _repr_jpeg_ gives bytes"):
        for name in ("_repr_png_", "_repr_jpeg_"):
            method = getattr(value, name, None)
            if method is None or isinstance(value, type):
                continue
            made = method()
            if isinstance(made, tuple):
                made = made[0]
            if isinstance(made, str):
                return decode_base64(made, source, limits)
            if made:
                return bytes(memoryview(made))  # not bytes(5), which is five zeros
    return None


def decode_base64(text: str, source: str, limits: Limits) -> bytes:
    """Base64 in either alphabet, with or without padding and white space.

    :raises ImageError: it would be over the limit, which is seen before decoding.
    :raises ValueError: it is no base64.
    """
    if len(text) * 3 // 4 > limits.max_bytes + len(text) // 16:  # white space and padding beside
        raise ImageError(f"{source} is over the limit of {mib(limits.max_bytes)}; {raising('max_bytes')} or shrink it.")
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)


def _from_library(value: object, library: str) -> bool:
    return any(c.__module__.split(".")[0] == library for c in type(value).__mro__)
