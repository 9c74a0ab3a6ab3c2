"""Pages of PDF files as pictures, drawn by PDFium in a process of its own (`pdf_worker.py`)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from ..errors import ImageError
from .boundary import one_line
from .decoded import DecodedImage
from .files import mib
from .limits import Limits, raising

_SOURCE = re.compile(r"^(?P<path>.+\.pdf)(?:\[(?P<pages>[\d,\-\s]*)\])?$", re.IGNORECASE)
_WORKER = Path(__file__).with_name("pdf_worker.py")
_BASE_BYTES = 2**30  # Python and PDFium themselves, and the file's own tables
DPI = 150
MOST_PAGE_PIXELS = 36_000_000  # A0 at 150 dots per inch


class _Reply(TypedDict, total=False):
    error: str
    pages: int
    picture: list[int]
    width: int
    height: int
    dpi: float
    text: str


@dataclass(frozen=True)
class PdfPage:
    """One page of a file, counted from 1; drawn when it is needed."""

    path: Path
    number: int
    name: str = ""  # of what isn't a file of the user's

    def __str__(self) -> str:
        return f"{self.name or self.path}[{self.number}]"

    def draw(self, limits: Limits | None = None) -> Image.Image:
        """A PIL image, see `decoded`."""
        return self.decoded(limits).pil()

    def decoded(self, limits: Limits | None = None) -> DecodedImage:
        """The page at 150 dots per inch, or at fewer where it would have more pixels than it may.

        :raises ImageError: the file is damaged or locked, or the page costs more than the limits allow.
        """
        return draw_pages([self], limits or Limits())[0]


class _Worker:
    """A process that answers about one file, for at most `limits.decode_timeout_s` altogether."""

    def __init__(self, path: Path, limits: Limits, name: str = "") -> None:
        """`name` is what the file is called where its path says nothing."""
        self._path, self._limits, self._late = path, limits, False
        self._name = one_line(name or str(path))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise ImageError(f"{self._name} can't be drawn, since no process starts ({error.strerror}).") from None
        self._timer = threading.Timer(limits.decode_timeout_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Worker:
        self._timer.start()
        memory = _BASE_BYTES + 12 * max(self._limits.max_pixels, MOST_PAGE_PIXELS)
        self._send({"sys_path": sys.path, "memory_bytes": memory})
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()

    def _end(self) -> None:
        self._late = True
        self._process.kill()

    def _send(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it has ended: reading its answer says how
            return

    def ask(self, page: int | None) -> tuple[_Reply, bytes]:
        """The number of pages (`page` is None), or a page with its RGB bytes."""
        limits, path = self._limits, self._name
        budget = min(limits.pixel_budget or MOST_PAGE_PIXELS, MOST_PAGE_PIXELS, limits.max_pixels)
        self._send(
            {
                "path": str(self._path.absolute()),
                "page": page,
                "dpi": DPI,
                "page_pixels": budget,
                "picture_pixels": limits.max_pixels,
            }
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply: _Reply = json.loads(line) if line.endswith(b"\n") else {}
        size = reply.get("width", 0) * reply.get("height", 0) * 3
        pixels = self._process.stdout.read(size)
        where = path if page is None else f"{path}[{page}]"
        if self._late:
            raise ImageError(
                f"{where} took over {limits.decode_timeout_s:g} s to read; print it to a new PDF or "
                f"{raising('decode_timeout_s')}."
            )
        if not reply or len(pixels) != size:
            raise ImageError(f"{where} ended the PDF reader (damaged, or more memory than allowed); print it anew.")
        if "error" in reply:
            raise ImageError(
                f"{where} can't be read as a PDF ({one_line(reply['error'])}); it may be damaged or locked."
            )
        if "picture" in reply:
            wide, high = reply["picture"]
            raise ImageError(
                f"{where} holds a picture of {wide} x {high}, over the limit of {limits.max_pixels / 1e6:.0f} "
                f"megapixels; print it at a lower resolution or {raising('max_pixels')}."
            )
        return reply, pixels


def draw_pages(pages: Sequence[PdfPage], limits: Limits) -> list[DecodedImage]:
    """Pages of one file, through one process.

    :raises ImageError: as `PdfPage.decoded`; or together they have more pixels than allowed.
    """
    made: list[DecodedImage] = []
    with _Worker(_checked(pages[0].path, limits), limits, pages[0].name) as worker:
        for page in pages:
            reply, pixels = worker.ask(page.number)
            array = np.frombuffer(pixels, np.uint8).reshape(reply["height"], reply["width"], 3)
            made.append(DecodedImage(array, str(page), _note(page, reply), text=reply.get("text", "")))
            if sum(image.width * image.height for image in made) > limits.all_pixels:
                raise ImageError(
                    f"{len(pages)} pages of {page.name or page.path} are more than fit in memory at once; name fewer, "
                    "for example [1-20]."
                )
    return made


def pages_of_bytes(data: bytes, source: str, limits: Limits) -> list[DecodedImage]:
    """All pages of a PDF that is no file of the user's: what was downloaded, or read from an open file.

    :raises ImageError: it is damaged or locked, or has more pages or pixels than allowed.
    """
    with tempfile.TemporaryDirectory(prefix="omlx-") as folder:
        path = Path(folder) / "document.pdf"
        path.write_bytes(data)
        with _Worker(path, limits, source) as worker:
            count = worker.ask(None)[0]["pages"]
        if count > limits.max_pages:
            raise ImageError(
                f"{source} has {count} pages, over the limit of {limits.max_pages}; save it, choose some, for example "
                f"file.pdf[1-20], or {raising('max_pages')}."
            )
        return draw_pages([PdfPage(path, number, source) for number in range(1, count + 1)], limits) if count else []


def is_pdf(data: bytes) -> bool:
    """Whether bytes begin as a PDF does; a few stray bytes before it are common."""
    return data[:1024].lstrip(b"\xef\xbb\xbf\0 \r\n\t").startswith(b"%PDF-")


def _note(page: PdfPage, reply: _Reply) -> str:
    if reply["dpi"] > DPI - 0.01:
        return ""
    return (
        f"{page} was drawn at {reply['dpi']:.0f} instead of {DPI} dots per inch ({reply['width']} x "
        f"{reply['height']}); raise the pixel budget to keep more of it."
    )


def pdf_pages(text: str, limits: Limits | None = None) -> list[PdfPage] | None:
    """Pages that a source names: `report.pdf` all of them, `report.pdf[1-3,7]` four. None: it is no PDF.

    :raises ImageError: no such file or page, or more pages than allowed.
    """
    match = _SOURCE.match(text.strip())
    if match is None or "://" in text:
        return None
    limits = limits or Limits()
    path = _checked(Path(match["path"]).expanduser(), limits)
    with _Worker(path, limits) as worker:
        count = worker.ask(None)[0]["pages"]
    ranges = _ranges(match["pages"], count, path)
    named = sum(len(numbers) for numbers in ranges)
    if named > limits.max_pages:
        raise ImageError(
            f"{path} names {named} pages, over the limit of {limits.max_pages}; choose some, for example [1-20], "
            f"or {raising('max_pages')}."
        )
    return [PdfPage(path, number) for numbers in ranges for number in numbers]


def _checked(path: Path, limits: Limits) -> Path:
    """The path of a plain file (never a pipe, which would keep the reader waiting) within the limit."""
    try:
        if not path.is_file():
            raise ImageError(f"there is no file {one_line(str(path))}; check the path.")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ImageError(f"{one_line(str(path))} can't be read ({error}); check its name and permissions.") from None
    if size > limits.max_pdf_bytes:
        raise ImageError(
            f"{path} is over the limit of {mib(limits.max_pdf_bytes)}; {raising('max_pdf_bytes')} or split it."
        )
    return path


def _ranges(spec: str | None, count: int, path: Path) -> list[range]:
    if spec is None:
        return [range(1, count + 1)]
    ranges: list[range] = []
    for part in spec.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            begin, end = int(first or 1), int(last or count) if dash else int(first)
        except ValueError:
            raise ImageError(f"[{one_line(spec)}] names no pages of {path}; write for example [1-3,7].") from None
        if not 1 <= begin <= end <= count:
            raise ImageError(f"{path} has pages 1 to {count}, not {part.strip()}.")
        ranges.append(range(begin, end + 1))
    return ranges
