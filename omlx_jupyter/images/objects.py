"""Things that live in a notebook and can show themselves as a picture: recognised by shape, not by import."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from ..errors import ImageError


def is_array(value: Any) -> bool:
    """numpy arrays and whatever converts to one (torch, mlx, jax), but no scalars or strings."""
    return isinstance(value, np.ndarray) or (
        hasattr(value, "__array__") and hasattr(value, "shape") and not hasattr(value, "_repr_png_")
    )


def figure_of(value: Any) -> Any | None:
    """The matplotlib figure behind a Figure, an Axes, an array of Axes or a grid of plots."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.size:
        value = value.flat[0]
    if _from_library(value, "matplotlib") and hasattr(value, "savefig"):
        return value
    figure = getattr(value, "figure", None)
    if figure is not None and hasattr(figure, "savefig") and _from_library(figure, "matplotlib"):
        return figure
    return None


def figure_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def display_image_source(value: Any) -> Any | None:
    """What an `IPython.display.Image` holds: its bytes, file name or URL."""
    if not _from_library(value, "IPython") or not hasattr(value, "filename"):
        return None
    for attribute in ("data", "filename", "url"):
        held = getattr(value, attribute, None)
        if held:
            return held
    return None


def own_png(value: Any, source: str) -> bytes | None:
    """The picture that an object draws of itself through IPython's display protocol."""
    for name in ("_repr_png_", "_repr_jpeg_"):
        method = getattr(value, name, None)
        if method is None or isinstance(value, type):
            continue
        try:
            made = method()
        except Exception as error:
            raise ImageError(f"{source} failed to draw itself ({type(error).__name__}: {error}).") from error
        if isinstance(made, tuple):
            made = made[0]
        if made:
            return base64.b64decode(made) if isinstance(made, str) else bytes(made)
    return None


def _from_library(value: Any, library: str) -> bool:
    return any(c.__module__.split(".")[0] == library for c in type(value).__mro__)
