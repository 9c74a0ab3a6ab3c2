"""Encoded bytes, Pillow images and arrays -> decoded RGB."""

from __future__ import annotations

import io
import math
import time
import warnings
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .boundary import one_sentence
from .decoded import DecodedImage, shrunk_note
from .files import mib
from .limits import Limits, raising
from .pixels import to_rgb, within

Frames = Literal["first", "all"]

# EPS starts Ghostscript, a program that runs what the file says; the others are Pillow's names for formats
# that it knows but can't decode (or only on Windows).
_LEFT_OUT = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG")

# What a source pixel costs beside the 12 bytes that `Limits.max_pixels` counts on (measured: WebP 16.5 bytes,
# JPEG 2000 25, CMYK JPEG 12.3), or in seconds: decoders written in Python take up to 1.2 s a megapixel.
_COST = {"WEBP": 1.5, "JPEG2000": 2.2, "JPEG CMYK": 1.25}
_PYTHON_COST = 12.0


def from_bytes(data: bytes, source: str, limits: Limits, frames: Frames = "first") -> list[DecodedImage]:
    """Decode an encoded picture; every frame or page of it when `frames` is "all".

    :raises ImageError: empty, truncated, too large, or no picture at all.
    """
    if not data:
        raise ImageError(f"{source} is empty; it holds no picture.")
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"{source} has {len(data) / 2**20:.0f} MiB, over the limit of {mib(limits.max_bytes)}; "
            f"{raising('max_bytes')} or shrink the file."
        )
    # Not inside `with image`: the decoder's own memory goes as soon as the pixels are there.
    with one_sentence(source, "is damaged, cut short or of a kind that can't be decoded", "get a whole copy of it"):
        return _frames(_open(data, source), source, limits, frames)


def _open(data: bytes, source: str) -> Image.Image:
    """The picture's header; nothing is decoded yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=_readable())
    except UnidentifiedImageError:
        if _is_heif(data) and _heif_reader():
            return _open(data, source)
        raise ImageError(f"{source} is not a picture that Pillow can read ({_looks_like(data)}).") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{source} has more pixels than Pillow allows; shrink it or raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from None


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def _heif_reader() -> bool:
    """Whether pillow-heif can be told to Pillow just now: it is installed, and wasn't told before."""
    if "HEIF" in Image.OPEN:
        return False
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _readable() -> tuple[str, ...]:
    """Formats to try; asked each time, since a plugin may be registered at any time."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _LEFT_OUT)


def from_pil(image: Image.Image, source: str, limits: Limits, frames: Frames = "first") -> list[DecodedImage]:
    with one_sentence(source, mend="get a whole copy of the picture"):
        return _frames(image, source, limits, frames, owned=False)


def from_array(array: object, source: str, limits: Limits) -> DecodedImage:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4); integers in 0..255 or floats in 0..1.

    :raises ImageError: another shape or range, too large, or no array after all.
    """
    with one_sentence(source, "can't be made an array", "convert it to a numpy array yourself"):
        _check_shape(tuple(getattr(array, "shape", ())), source, limits)  # before a lazy array is computed
        values = np.asarray(array)
        _check_shape(values.shape, source, limits)
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[:, :, 0]
        _check_range(values, source)
        return _made(to_rgb(Image.fromarray(_to_uint8(values))), source, limits)


def _check_shape(shape: tuple[int, ...], source: str, limits: Limits) -> None:
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        raise ImageError(
            f"{source} has shape {tuple(shape)}; a picture is (height, width), (height, width, 3) or "
            "(height, width, 4)."
        )
    _check_size(int(shape[1]), int(shape[0]), source, limits)


def _check_range(values: np.ndarray, source: str) -> None:
    if values.dtype in (np.bool_, np.uint8):
        return
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise ImageError(f"{source} has dtype {values.dtype}; use uint8 or floats in 0..1.")
    low, high = values.min(), values.max()
    if np.issubdtype(values.dtype, np.floating):
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ImageError(f"{source} holds floats from {low:.3g} to {high:.3g}; scale them into 0..1.")
    elif low < 0 or high > 255:
        raise ImageError(f"{source} holds integers from {low} to {high}; scale them into 0..255.")


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Checked values as bytes, row by row: no second array of floats."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    factor = 255 if values.dtype == np.bool_ or np.issubdtype(values.dtype, np.floating) else 1
    made = np.empty(values.shape, np.uint8)
    for target, row in zip(made, values, strict=True):
        target[...] = np.rint(row * factor) if factor != 1 else row
    return made


def _frames(image: Image.Image, source: str, limits: Limits, frames: Frames, owned: bool = True) -> list[DecodedImage]:
    """The current frame, or all. `owned`: nobody else holds the picture, so it may be set up for decoding."""
    _check_pixels(image, source, limits)
    if frames != "all" or not getattr(image, "is_animated", False):
        size = image.size
        if owned:
            _draft(image, limits)
        image.load()
        return [_made(to_rgb(image), source, limits, size)]
    end = time.monotonic() + limits.decode_timeout_s
    arrays: list[tuple[np.ndarray, tuple[int, int]]] = []
    while _seek(image, len(arrays)):  # not n_frames: counting walks through the whole file, however many there are
        if len(arrays) == limits.max_frames:
            raise ImageError(
                f"{source} has more than {limits.max_frames} frames, the limit; choose some or {raising('max_frames')}."
            )
        if time.monotonic() > end:
            raise ImageError(
                f"{source} took over {limits.decode_timeout_s:g} s to decode; choose some of its frames or "
                f"{raising('decode_timeout_s')}."
            )
        _check_pixels(image, source, limits)
        image.load()
        small = within(to_rgb(image), limits.pixel_budget or limits.max_pixels)
        arrays.append((small, image.size))
        if sum(a.shape[0] * a.shape[1] for a, _ in arrays) > limits.all_pixels:
            raise ImageError(f"{source} has more frames than fit in memory at once; choose some of them.")
    return [
        _made(array, f"{source} [{number}/{len(arrays)}]", limits, size)
        for number, (array, size) in enumerate(arrays, 1)
    ]


def _seek(image: Image.Image, frame: int) -> bool:
    try:
        image.seek(frame)
    except EOFError:
        return False
    return True


def _draft(image: Image.Image, limits: Limits) -> None:
    """Let the format decode at a half, a quarter or an eighth (JPEG can), but not below the budget."""
    pixels = image.width * image.height
    if limits.pixel_budget and pixels > limits.pixel_budget:
        factor = (limits.pixel_budget / pixels) ** 0.5
        image.draft(image.mode, (math.ceil(image.width * factor), math.ceil(image.height * factor)))


def _made(pixels: np.ndarray, source: str, limits: Limits, size: tuple[int, int] | None = None) -> DecodedImage:
    """`size`: (width, height) in the file."""
    small = within(pixels, limits.pixel_budget) if limits.pixel_budget else pixels
    height, width = pixels.shape[:2]
    if size is not None and size[0] * size[1] > width * height:  # decoded reduced; upright as the pixels are
        width, height = size if (size[0] > size[1]) == (width > height) else size[::-1]
    note = shrunk_note(source, (width, height), small) if (height, width) != small.shape[:2] else ""
    return DecodedImage(small, source, note)


def _check_pixels(image: Image.Image, source: str, limits: Limits) -> None:
    form = getattr(image, "format", None) or ""
    cost = _COST.get("JPEG CMYK" if (form, image.mode) == ("JPEG", "CMYK") else form, 1.0)
    if any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())):
        cost = max(cost, _PYTHON_COST)
    _check_size(image.width, image.height, source, limits, form, cost)


def _check_size(width: int, height: int, source: str, limits: Limits, form: str = "", cost: float = 1.0) -> None:
    if width <= 0 or height <= 0:
        raise ImageError(f"{source} has no pixels ({width} x {height}).")
    most = limits.max_pixels / cost
    if width * height > most:
        kind = f" for a {form} of its kind" if cost > 1 else ""
        raise ImageError(
            f"{source} is {width} x {height}, over the limit of {most / 1e6:.3g} megapixels{kind}; "
            f"shrink it or {raising('max_pixels')}."
        )


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "it looks like an HTML page"
    if _is_heif(data):
        return "it is HEIC: install omlx_jupyter[heic]"
    if start.startswith(b"%!ps"):
        return "it looks like PostScript; print it to PDF first"
    if start.startswith((b"<?xml", b"<svg")):
        return "it looks like SVG or XML; render it to PNG first"
    return "not an image format that it knows"
