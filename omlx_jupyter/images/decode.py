"""Encoded bytes, Pillow images and arrays -> decoded RGB."""

from __future__ import annotations

import io
import warnings
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from ..errors import ImageError
from .decoded import DecodedImage, Limits

Frames = Literal["first", "all"]


def from_bytes(data: bytes, source: str, limits: Limits, frames: Frames = "first") -> list[DecodedImage]:
    """Decode an encoded picture; every frame or page of it when `frames` is "all".

    :raises ImageError: empty, truncated, too large, or no picture at all.
    """
    if not data:
        raise ImageError(f"{source} is empty; it holds no picture.")
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"{source} has {len(data) / 2**20:.0f} MiB, over the limit of {limits.max_bytes / 2**20:.0f} MiB; "
            "raise max_bytes or shrink the file."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
        _check_pixels(image, source, limits)
        return _frames(image, source, limits, frames)
    except UnidentifiedImageError:
        raise ImageError(f"{source} is not a picture that Pillow can read ({_looks_like(data)}).") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{source} has more pixels than allowed; shrink it first.") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ImageError(f"{source} is damaged or cut short ({error}); get a whole copy of the file.") from None


def from_pil(image: Image.Image, source: str, limits: Limits, frames: Frames = "first") -> list[DecodedImage]:
    _check_pixels(image, source, limits)
    try:
        return _frames(image, source, limits, frames)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{source} can't be decoded ({error}); get a whole copy of the picture.") from None


def from_array(array: Any, source: str) -> DecodedImage:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4); integers in 0..255 or floats in 0..1.

    :raises ImageError: another shape or range.
    """
    values = np.asarray(array)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)) or 0 in values.shape:
        raise ImageError(
            f"{source} has shape {tuple(values.shape)}; a picture is (height, width), (height, width, 3) or "
            "(height, width, 4)."
        )
    return DecodedImage(np.asarray(flatten(Image.fromarray(_to_uint8(values, source)))), source)


def _to_uint8(values: np.ndarray, source: str) -> np.ndarray:
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise ImageError(f"{source} has dtype {values.dtype}; use uint8 or floats in 0..1.")
    low, high = values.min(), values.max()
    if np.issubdtype(values.dtype, np.floating):
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ImageError(f"{source} holds floats from {low:.3g} to {high:.3g}; scale them into 0..1.")
        return np.rint(values * 255).astype(np.uint8)
    if low < 0 or high > 255:
        raise ImageError(f"{source} holds integers from {low} to {high}; scale them into 0..255.")
    return values.astype(np.uint8)


def flatten(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, transparency over white, 16-bit scaled down rather than clipped."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode != "F" or values.max() > 255 else (255.0 if values.max() > 1 else 1.0)
        image = Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _frames(image: Image.Image, source: str, limits: Limits, frames: Frames) -> list[DecodedImage]:
    count = getattr(image, "n_frames", 1)
    if frames == "all" and count > 1:
        if count > limits.max_frames:
            raise ImageError(
                f"{source} has {count} frames, over the limit of {limits.max_frames}; choose some of them."
            )
        return [
            _one(frame.copy(), f"{source} [{number}/{count}]")
            for number, frame in enumerate(ImageSequence.Iterator(image), 1)
        ]
    return [_one(image, source)]


def _one(image: Image.Image, source: str) -> DecodedImage:
    image.load()
    upright = ImageOps.exif_transpose(image)
    return DecodedImage(np.array(flatten(upright)), source)


def _check_pixels(image: Image.Image, source: str, limits: Limits) -> None:
    pixels = image.width * image.height
    if pixels > limits.max_pixels:
        raise ImageError(
            f"{source} is {image.width} x {image.height}, over the limit of {limits.max_pixels / 1e6:.0f} megapixels; "
            "shrink it or raise max_pixels."
        )
    if pixels == 0:
        raise ImageError(f"{source} has no pixels ({image.width} x {image.height}).")


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "it looks like an HTML page"
    if start.startswith(b"%pdf"):
        return "it looks like a PDF"
    if start.startswith((b"<?xml", b"<svg")):
        return "it looks like SVG or XML; render it to PNG first"
    return "not an image format that it knows"
