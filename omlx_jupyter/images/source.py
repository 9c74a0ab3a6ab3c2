"""The front door of the room: anything that may be a picture -> decoded pictures."""

from __future__ import annotations

import binascii
import difflib
import glob
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeGuard
from urllib.parse import unquote, unquote_to_bytes, urlparse

from PIL import Image

from ..errors import ImageError
from . import objects
from .boundary import one_line, one_sentence
from .decode import Frames, from_array, from_pil
from .decode import from_bytes as from_picture
from .decoded import DecodedImage, Limits, Origin
from .files import mib, read_regular
from .kept import KeptImage
from .limits import raising
from .pdf import PdfPage, draw_pages, is_pdf, pages_of_bytes, pdf_pages

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_EXTENSIONS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".ico",
    ".ppm",
    ".heic",
    ".heif",
)


def open_images(
    source: object, limits: Limits | None = None, frames: Frames = "first", label: str = ""
) -> list[DecodedImage]:
    """Decode one source, which may hold several pictures (a glob, a list, all frames of a file).

    Takes a path (str or Path, `~` expanded), a glob, `file://`, data and http(s) URLs, bare base64,
    bytes (a PDF's too), a readable file, `PIL.Image`, an array, a matplotlib Figure or Axes,
    `IPython.display.Image`, anything with `_repr_png_`, and lists of these.

    :raises ImageError: one sentence that names the source and the mend.
    """
    with one_sentence(label or f"the {type(source).__name__}", "can't be read", "give it as a file or bytes"):
        return _open_images(source, limits or Limits(), frames, label)


def _open_images(source: object, limits: Limits, frames: Frames, label: str) -> list[DecodedImage]:
    if isinstance(source, DecodedImage):
        return [source]
    if isinstance(source, KeptImage):
        return [source.opened()]
    if isinstance(source, str):
        return _from_text(source, limits, frames)
    if isinstance(source, os.PathLike):
        return _from_path(Path(source), limits, frames)
    if isinstance(source, list | tuple | set | frozenset):
        if not source:
            raise ImageError(f"{label or 'the list'} is empty; it holds no pictures.")
        return [image for item in source for image in open_images(item, limits, frames)]
    return _from_object(source, limits, frames, label)


def is_image_source(value: object) -> bool:
    """Whether a value (not a string) is one that `open_images` takes as a picture. Never raises."""
    try:
        return _is_image_source(value)
    except Exception:  # somebody's properties, or a list that holds itself
        return False


def _is_image_source(value: object) -> bool:
    if isinstance(value, DecodedImage | KeptImage | Image.Image | PdfPage | bytes | bytearray):
        return True
    if isinstance(value, os.PathLike):
        return Path(value).suffix.lower() in _EXTENSIONS
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_image_source(item) for item in value)
    if objects.figure_of(value) is not None or objects.display_image_source(value) is not None:
        return True
    if objects.is_array(value):
        shape = tuple(getattr(value, "shape", ()))
        return len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 1
    return any(callable(getattr(value, name, None)) for name in ("_repr_png_", "_repr_jpeg_"))


def expand(source: object, limits: Limits | None = None) -> list[Any]:
    """One entry per picture, not opened yet: a glob's files, a PDF's pages, a list's items; else the source."""
    if isinstance(source, list | tuple):
        return [item for entry in source for item in expand(entry, limits)]
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str) or source.startswith("data:") or "://" in source[:12]:
        return [source]
    pages: list[Any] | None = pdf_pages(source, limits)
    if pages is not None:
        return pages
    path = os.path.expanduser(source)
    if glob.has_magic(path) and not os.path.exists(path):
        return [entry for p in _matches(source) for entry in _pages_or(p, limits)]
    return [source]


def _pages_or(path: Path, limits: Limits | None) -> list[Any]:
    pages: list[Any] | None = pdf_pages(str(path), limits)
    return pages or [path]


def from_bytes(data: bytes, source: str, limits: Limits, frames: Frames = "first") -> list[DecodedImage]:
    """An encoded picture, or the pages of a PDF.

    :raises ImageError: damaged, too large, or neither.
    """
    return pages_of_bytes(data, source, limits) if is_pdf(data) else from_picture(data, source, limits, frames)


def _from_object(source: object, limits: Limits, frames: Frames, label: str) -> list[DecodedImage]:
    name = label or f"the {type(source).__name__}"
    if isinstance(source, bytes | bytearray | memoryview):
        size = source.nbytes if isinstance(source, memoryview) else len(source)
        if size > limits.max_bytes:  # before a copy is made
            raise ImageError(
                f"{name} is over the limit of {mib(limits.max_bytes)}; {raising('max_bytes')} or shrink it."
            )
        return from_bytes(bytes(source), label or f"{size} bytes", limits, frames)
    if isinstance(source, PdfPage):
        return [source.decoded(limits)]
    if isinstance(source, Image.Image):
        return from_pil(source, label or getattr(source, "filename", "") or "the PIL image", limits, frames)
    figure = objects.figure_of(source)
    if figure is not None:
        return from_bytes(objects.figure_png(figure, label or "the figure", limits), label or "the figure", limits)
    held = objects.display_image_source(source)
    if held is not None:
        return open_images(held, limits, frames, label)
    if _is_open_file(source):
        return _from_file_object(source, limits, frames, label)
    if objects.is_array(source):
        return [from_array(source, label or "the array", limits)]
    data = objects.own_png(source, name, limits)
    if data:
        return from_bytes(data, name, limits, frames)
    raise ImageError(
        f"{name} is not a picture; give a path, URL, bytes, PIL image, array, figure or something with _repr_png_."
    )


def _is_open_file(source: object) -> TypeGuard[IO[bytes] | IO[str]]:
    return hasattr(source, "read") and callable(source.read)


def _from_file_object(source: IO[bytes] | IO[str], limits: Limits, frames: Frames, label: str) -> list[DecodedImage]:
    name = label or str(getattr(source, "name", "the open file"))
    seekable = hasattr(source, "seekable") and source.seekable()
    start = source.tell() if seekable else 0
    data = source.read(limits.max_bytes + 1)
    if seekable:
        source.seek(start)  # so that the same object can be read again
    if isinstance(data, str):
        raise ImageError(f'{name} is open as text; open it with mode "rb".')
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(f"{name} gave a {type(data).__name__} instead of bytes; read it yourself and give the bytes.")
    data = bytes(data)
    return from_bytes(data, name, limits, frames)


def _from_text(text: str, limits: Limits, frames: Frames) -> list[DecodedImage]:
    text = text.strip()
    head = text[:12].lower()
    pages = pdf_pages(text, limits) if ".pdf" in text[-40:].lower() or ".pdf[" in text[-4096:].lower() else None
    if pages is not None:
        return draw_pages(pages, limits) if pages else []
    if not text:
        raise ImageError("the source is an empty string; give a path, a glob or a URL.")
    if head.startswith("data:"):
        return from_bytes(_data_url(text, limits), f"the data URL {text[:32]}…", limits, frames)
    if head.startswith(("http://", "https://")):
        from .fetch import fetch  # with httpx, which only URLs need

        return from_bytes(fetch(text, limits), text if len(text) <= 120 else text[:117] + "…", limits, frames)
    if head.startswith("file:"):
        return _from_path(Path(unquote(urlparse(text).path)), limits, frames)
    if len(text) <= 4096 and "\n" not in text and "\0" not in text:
        path = _there(text)
        if path is not None:
            return _from_path(path, limits, frames)
        if glob.has_magic(text):
            return [image for found in _matches(text) for image in _from_path(found, limits, frames)]
    data = _bare_base64(text, limits)
    if data is not None:
        return from_bytes(data, f"the base64 text {text[:16]}…", limits, frames)
    if "://" in text[:12]:
        raise ImageError(f"{one_line(text)[:120]} isn't fetched: URLs are http, https, file or data ones.")
    raise ImageError(_no_such_file(text))


def _there(text: str) -> Path | None:
    """The file of that name; none also where the name is no name: too long, or in the home of a user who isn't."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _from_path(path: Path, limits: Limits, frames: Frames) -> list[DecodedImage]:
    path = path.expanduser()
    if path.is_dir():
        raise ImageError(f"{path} is a folder; write {path / '*.png'} or name a file in it.")
    origin = Origin.of(path, limits, frames)  # first: a file that changes meanwhile isn't taken for what was read
    try:
        data = read_regular(path, limits)
    except FileNotFoundError:
        raise ImageError(_no_such_file(str(path))) from None
    return [replace(image, origin=origin) for image in from_bytes(data, str(path), limits, frames)]


def _matches(pattern: str) -> list[Path]:
    """A glob's files, page2 before page10.

    :raises ImageError: there are none.
    """
    found = [Path(p) for p in glob.glob(os.path.expanduser(pattern), recursive=True)]
    paths = sorted((p for p in found if p.is_file()), key=natural)
    if not paths:
        raise ImageError(f"no file matches {pattern} in {Path.cwd()}.")
    return paths


def natural(path: Path) -> list[tuple[int, int, str]]:
    """page2 before page10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]


def _data_url(text: str, limits: Limits) -> bytes:
    name = f"the data URL {text[:32]}…"
    header, comma, body = text.partition(",")
    if not comma:
        raise ImageError(f"{name} has no comma, so no data; copy it whole.")
    if len(body) > 4 * limits.max_bytes:  # three characters stand for a byte at most, so this holds more
        raise ImageError(f"{name} is over the limit of {mib(limits.max_bytes)}; {raising('max_bytes')} or shrink it.")
    if ";base64" not in header.lower():
        return unquote_to_bytes(body)
    try:
        return objects.decode_base64(unquote(body), name, limits)
    except (binascii.Error, ValueError):
        raise ImageError(f"{name} is not valid base64; copy it whole.") from None


def _bare_base64(text: str, limits: Limits) -> bytes | None:
    compact = "".join(text.split())
    if len(compact) < 40 or not _BASE64.fullmatch(compact):
        return None
    try:
        return objects.decode_base64(compact, f"the base64 text {text[:16]}…", limits)
    except (binascii.Error, ValueError):
        return None


def _no_such_file(text: str) -> str:
    shown = one_line(text if len(text) <= 120 else text[:117] + "…")
    try:
        folder = Path(text).expanduser().parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    except (OSError, ValueError, RuntimeError):
        names = []
    close = difflib.get_close_matches(Path(text).name, names, n=1)
    hint = f" Did you mean {folder / close[0]}?" if close else f" The current folder is {Path.cwd()}."
    return f"there is no file {shown}.{hint}"
