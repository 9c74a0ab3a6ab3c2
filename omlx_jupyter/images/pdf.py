"""Pages of PDF files as pictures, through pypdfium2."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError

_SOURCE = re.compile(r"^(?P<path>.+\.pdf)(?:\[(?P<pages>[\d,\-\s]*)\])?$", re.IGNORECASE)
_LOCK = threading.Lock()  # PDFium isn't safe to call from several threads
DPI = 150


@dataclass(frozen=True)
class PdfPage:
    """One page of a file, counted from 1; drawn when it is needed."""

    path: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}[{self.number}]"

    def draw(self) -> Any:
        """A PIL image at 150 dots per inch.

        :raises ImageError: the file is damaged or locked.
        """
        with _LOCK, _open(self.path) as document:
            return document[self.number - 1].render(scale=DPI / 72).to_pil().convert("RGB")


def pdf_pages(text: str) -> list[Any] | None:
    """Pages that a source names: `report.pdf` all of them, `report.pdf[1-3,7]` four. None: it is no PDF.

    :raises ImageError: no such file or page.
    """
    match = _SOURCE.match(text.strip())
    if match is None or "://" in text:
        return None
    path = Path(match["path"]).expanduser()
    if not path.is_file():
        raise ImageError(f"there is no file {path}; check the path.")
    with _LOCK, _open(path) as document:
        count = len(document)
    return [PdfPage(path, number) for number in _numbers(match["pages"], count, path)]


def _open(path: Path) -> Any:
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise ImageError(f"{path} can't be read as a PDF ({error}); it may be damaged or locked.") from error


def _numbers(spec: str | None, count: int, path: Path) -> list[int]:
    if spec is None:
        return list(range(1, count + 1))
    numbers: list[int] = []
    for part in spec.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            begin, end = int(first or 1), int(last or count) if dash else int(first)
        except ValueError:
            raise ImageError(f"[{spec}] names no pages of {path}; write for example [1-3,7].") from None
        if not 1 <= begin <= end <= count:
            raise ImageError(f"{path} has pages 1 to {count}, not {part.strip()}.")
        numbers += range(begin, end + 1)
    return numbers
