"""What a run reads: anything that `omlx_jupyter.images` takes, by many, one after the other as there is room."""

from __future__ import annotations

import glob
import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ImageError, OmlxError, RunError
from ..images.decoded import DecodedImage, Limits
from ..images.pdf import PdfPage, pdf_pages
from ..images.source import is_image_source, natural, open_images
from .record import Key

KINDS = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".ppm", ".pdf"}
_FETCHED = (0, 0)  # the stamp of what is fetched: it isn't fetched again to see whether it has changed
COLUMN = "::"  # between a Parquet file and the column of it that holds pictures


@dataclass(frozen=True)
class Item:
    """One thing to read. `open` gives its pictures, on any thread; `stamp` is a file's time (ns) and size now."""

    source: str
    page: int | None
    open: Callable[[], list[DecodedImage]]
    stamp: tuple[int, int] | None = None
    column: str = ""

    @property
    def key(self) -> Key:
        return self.source, self.page, self.column

    def asked(self, columns: Iterable[str]) -> Iterator[Item]:
        """Itself once for each of several questions, opened once for all of them."""
        opened = _Once(self.open)
        for column in columns:
            yield replace(self, open=opened, column=column)


class _Once:
    """Pictures that several ask for are opened by the first and kept while one of them is on its way."""

    def __init__(self, open: Callable[[], list[DecodedImage]]) -> None:
        self._open, self._lock = open, threading.Lock()
        self._made: list[DecodedImage] | None = None

    def __call__(self) -> list[DecodedImage]:
        with self._lock:
            if self._made is None:
                self._made = self._open()
            return self._made


def items(sources: object, limits: Limits, documents: bool = False) -> Iterator[Item]:
    """The items of sources, lazily: of a path, a folder, a glob, a PDF (each of its pages), a URL,
    `file.parquet::column`, a column, or any iterable of these and of pictures. A picture without a name is called by
    its place, `#3`. With `documents` each file is one item with all of its pages or frames, and so is each list of
    pictures.

    :raises ImageError: a PDF that can't be opened.
    :raises RunError: sources that are nothing of these.
    """
    several = isinstance(sources, Iterable) and not isinstance(sources, str | bytes | bytearray)
    if not several or (not isinstance(sources, list | tuple) and is_image_source(sources)):
        sources = [sources]
    assert isinstance(sources, Iterable)
    if isinstance(sources, Mapping):
        raise RunError("sources are a dict; give its values, or a list.")
    alone = isinstance(sources, list) and len(sources) == 1
    for number, source in enumerate(sources, 1):
        try:
            yield from _items(source, number, limits, documents)
        except OmlxError as error:
            if alone:
                raise
            yield Item(_named(source, number), None, failing(error))  # an error in its place


def _items(source: object, number: int, limits: Limits, documents: bool) -> Iterator[Item]:
    if isinstance(source, Item):
        yield source
    elif isinstance(source, PdfPage):
        yield _page(source, limits)
    elif isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise ImageError("the source is an empty string; give a path, a glob or a URL.")
        yield from _of_text(os.fspath(source), limits, documents)
    else:
        yield Item(_named(source, number), None, lambda: open_images(source, limits))


def failing(error: OmlxError) -> Callable[[], list[DecodedImage]]:
    def fail() -> list[DecodedImage]:
        raise error

    return fail


def _named(source: object, number: int) -> str:
    """What a source is called; a file's name that is no text has its bytes shown."""
    text = source if isinstance(source, str | os.PathLike) else getattr(source, "source", "")
    return os.fspath(text or f"#{number}").encode("utf-8", "backslashreplace").decode()


def shortened(text: str) -> str:
    """A long URL's name in a run: alike in every process, as Python's own hash is not."""
    if len(text) <= 500:
        return text
    return f"{text[:480]}…{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def _of_text(text: str, limits: Limits, documents: bool) -> Iterator[Item]:
    if "://" in text[:12] or text.startswith("data:"):
        yield Item(shortened(text), None, lambda: open_images(text, limits), _FETCHED)
        return
    file, column, name = text.partition(COLUMN)
    if column and file.lower().endswith(".parquet"):
        yield from _of_column(Path(file).expanduser(), name, limits)
        return
    if text.lower().endswith(".parquet") and Path(text).expanduser().is_file():
        raise RunError(f"{text} is a Parquet file; name the column with the pictures: {text}{COLUMN}image.")
    path = Path(text).expanduser()
    if path.is_dir():
        found = sorted((entry for entry in path.iterdir() if entry.suffix.lower() in KINDS), key=natural)
        if not found:
            raise RunError(
                f"{path} holds no pictures and no PDFs; name files in it, or use a glob like {path}/**/*.png."
            )
        for entry in found:
            yield from _file(str(entry), limits, documents)
    elif glob.has_magic(text) and not path.exists() and not text.lower().endswith("]"):
        matches = [Path(name) for name in glob.iglob(str(path), recursive=True) if os.path.isfile(name)]
        if not matches:
            raise RunError(f"no file matches {text} in {Path.cwd()}; check the pattern.")
        for match in sorted(matches, key=natural):
            yield from _file(str(match), limits, documents)
    else:
        yield from _file(text, limits, documents)


def _file(text: str, limits: Limits, documents: bool) -> Iterator[Item]:
    if documents:
        yield Item(_named(text, 0), None, lambda: open_images(text, limits, "all"), stamp_of(text))
        return
    pages = pdf_pages(text, limits) if ".pdf" in text.lower() else None
    if pages is not None:
        for page in pages:
            yield _page(page, limits)
        return
    yield Item(_named(text, 0), None, lambda: open_images(text, limits), stamp_of(text))


def _page(page: PdfPage, limits: Limits) -> Item:
    return Item(_named(page.path, 0), page.number, lambda: [page.decoded(limits)], stamp_of(str(page.path)))


def _of_column(path: Path, column: str, limits: Limits) -> Iterator[Item]:
    """A row group at a time. :raises RunError: no pyarrow, no such file or column."""
    return rows_of(path, column, None, limits)


def rows_of(path: Path, column: str, wanted: Collection[int] | None, limits: Limits) -> Iterator[Item]:
    """The rows of a Parquet column that are wanted, from 1, or all; only their row groups are read.

    :raises RunError: no pyarrow, no such file or column.
    """
    parquet = parquet_of()
    try:
        file = parquet.ParquetFile(path)
        if column not in file.schema_arrow.names:
            raise RunError(f"{path} has no column {column}; it has {', '.join(file.schema_arrow.names)}.")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read as Parquet ({error}).") from None
    row = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if wanted is not None and not any(row < one <= row + count for one in wanted):
            row += count
            continue
        for batch in file.iter_batches(64, row_groups=[group], columns=[column]):
            for value in batch.column(0).to_pylist():
                row += 1
                if wanted is None or row in wanted:
                    held = value.get("bytes") or value.get("path") if isinstance(value, dict) else value  # datasets'
                    yield Item(f"{path}{COLUMN}{column}#{row}", None, _opener(held, limits))


def parquet_of() -> Any:
    """pyarrow's Parquet. :raises RunError: it isn't installed."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise RunError("reading a Parquet column needs pyarrow: pip install pyarrow.") from None
    return parquet


def _opener(held: object, limits: Limits) -> Callable[[], list[DecodedImage]]:
    return lambda: open_images(held, limits)


def stamp_of(text: str) -> tuple[int, int] | None:
    """A file's time and size; None where it is none."""
    try:
        status = os.stat(os.path.expanduser(text))
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
