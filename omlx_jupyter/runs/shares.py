"""A run over many machines: sources in shares of some hundred, each a Parquet file once it is read.

A share's file has a name made of the share's sources and is put in its place whole. So one that is read twice, by a
task that is tried again or by a worker that outlives its killed driver, is there once; and what is left to do is
seen by looking into the folder. Ray, Dask or a plain loop hand out the shares: docs/ray.md, docs/dask.md.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypedDict

from ..errors import OmlxError, RunError
from ..images.decoded import Limits
from .record import Record
from .sources import COLUMN, KINDS, Item, failing, items, parquet_of, rows_of, shortened

SIZE = 256  # sources in a share
_STALE_S = 3600.0  # a draft of this age belongs to nobody


class Share(TypedDict):
    """Plain values, so that it may be a row of any table. `part` is the file's name, `sources` are paths, URLs or
    `pages.parquet::image#17`, the 17th row."""

    part: str
    sources: list[str]


def shares(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | Path,
    size: int = SIZE,
    *,
    shard: tuple[int, int] = (0, 1),
    retry: bool = False,
) -> Iterator[Share]:
    """What isn't in the folder `out` yet, lazily, in shares of `size` sources.

    `sources` is a folder, a glob, `pages.parquet::image` (or a folder or a glob of such files), a path or URL, or an
    iterable of these. With `shard=(k, n)` the k-th of n parts of them, from 0, by their names: for n drivers at a time.
    With `retry` instead those that failed, in the shares that they were in; their rows are replaced.

    :raises RunError: there are no such sources, or a file in `out` is no part of a run.
    """
    folder = Path(out).expanduser()
    _tidy(folder)
    if retry:
        yield from _failed(folder, shard)
        return
    done = {source for part in _parts(folder) for source in _columns(part, ["source"])["source"]}
    left = (name for name in _names(sources) if _called(name) not in done and _is_in(name, shard))
    for some in _chunks(left, size):
        digest = hashlib.blake2b("\0".join(some).encode("utf-8"), digest_size=10).hexdigest()
        yield {"part": f"part-{digest}.parquet", "sources": some}


def write_part(folder: Path, part: str, records: Iterable[Record]) -> None:
    """Put a share's records where they belong: columns source, page (of a PDF), text, value (JSON, where a schema
    was asked for), tokens, error. Rows of other sources that the file has are kept. Whole, by a rename.

    :raises RunError: it can't be written, or pyarrow isn't installed.
    """
    parquet = parquet_of()
    import pyarrow

    rows = {(row["source"], row["page"]): row for row in map(_row, records)}
    draft = folder / f".{part}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / part).exists():
            held = {(row["source"], row["page"]): row for row in parquet.read_table(folder / part).to_pylist()}
            rows = held | rows
        with open(draft, "wb") as file:
            parquet.write_table(pyarrow.Table.from_pylist(list(rows.values()), schema=_schema()), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / part)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise RunError(
            f"{folder / part} can't be written ({error.strerror or error}); make room, or name another."
        ) from None


def share_items(names: Iterable[str], limits: Limits) -> Iterator[Item]:
    """A share's sources, opened where they are asked for; one that can't be is an item that fails."""
    for place, some in groupby(names, key=_place):
        if place is None:
            yield from items(tuple(some), limits)
            continue
        left = {int(name.rpartition("#")[2]): name for name in some}
        try:
            for item in rows_of(Path(place[0]), place[1], frozenset(left), limits):
                left.pop(int(item.source.rpartition("#")[2]))
                yield item
            why: OmlxError = RunError(f"{place[0]} has no such row any longer; list its rows anew.")
        except OmlxError as error:
            why = error
        for name in left.values():
            yield Item(name, None, failing(why))


def _place(name: str) -> tuple[str, str] | None:
    """(file, column) of a row's name."""
    file, mark, rest = name.rpartition(COLUMN)
    column, hash_, row = rest.rpartition("#")
    return (file, column) if mark and hash_ and row.isdigit() and file.lower().endswith(".parquet") else None


def _names(sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Names of sources without opening pictures. :raises RunError: a folder or pattern of nothing."""
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        text = os.fspath(source)
        file, mark, column = text.partition(COLUMN)
        if mark and not column.rpartition("#")[2].isdigit():
            for path in _found(file, {".parquet"}):
                count = parquet_of().ParquetFile(path).metadata.num_rows
                yield from (f"{path}{COLUMN}{column}#{row}" for row in range(1, count + 1))
        elif mark or _is_url(text):
            yield text
        else:
            yield from _found(text, KINDS)


def _is_url(text: str) -> bool:
    return "://" in text[:12] or text.startswith("data:")


def _called(name: str) -> str:
    """A source's name in a part.

    :raises RunError: its bytes are no text, which no table can hold.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise RunError(f"the name {name!a} isn't UTF-8, so that no table can hold it; rename the file.") from None
    return shortened(name) if _is_url(name) else name


def _found(text: str, kinds: set[str]) -> list[str]:
    """The files of a folder or a pattern, sorted; a path that is neither as it is."""
    path = os.path.expanduser(text)
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            found = sorted(entry.path for entry in entries if os.path.splitext(entry.name)[1].lower() in kinds)
    elif glob.has_magic(path) and not os.path.exists(path):
        found = sorted(name for name in glob.iglob(path, recursive=True) if os.path.isfile(name))
    else:
        found = [path]
    if not found:
        raise RunError(f"{text} holds nothing to read; name files in it, or use a glob like {text}/**/*.png.")
    return found


def _is_in(name: str, shard: tuple[int, int]) -> bool:
    return zlib.crc32(name.encode("utf-8")) % shard[1] == shard[0]


def _chunks(names: Iterable[str], size: int) -> Iterator[list[str]]:
    if size < 1:
        raise RunError(f"a share of {size} sources is none; give a size of 1 or more.")
    rest = iter(names)
    while some := list(islice(rest, size)):
        yield some


def _failed(folder: Path, shard: tuple[int, int]) -> Iterator[Share]:
    for part in _parts(folder):
        if not _is_in(part.name, shard):
            continue
        held = _columns(part, ["source", "page", "error"])
        names = [
            source if page is None else f"{source}[{page}]"
            for source, page, error in zip(held["source"], held["page"], held["error"], strict=True)
            if error
        ]
        if names:
            yield {"part": part.name, "sources": names}


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _columns(part: Path, names: list[str]) -> dict[str, list[Any]]:
    """:raises RunError: it is no part of a run."""
    parquet = parquet_of()
    try:
        return dict(parquet.read_table(part, columns=names).to_pydict())
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{part} is no part of a run ({error}); move it away.") from None


def _tidy(folder: Path) -> None:
    """Drafts that nobody writes any longer."""
    for draft in folder.glob(".part-*"):
        if time.time() - draft.stat().st_mtime > _STALE_S:
            draft.unlink(missing_ok=True)


def _schema() -> Any:
    import pyarrow

    texts = [(name, pyarrow.string()) for name in ("text", "value", "error")]
    numbers = [("page", pyarrow.int64()), ("tokens", pyarrow.int64())]
    return pyarrow.schema([("source", pyarrow.string()), numbers[0], *texts[:2], numbers[1], texts[2]])


def _row(record: Record) -> dict[str, Any]:
    return {
        "source": record.source,
        "page": record.page,
        "text": record.text,
        "value": None if record.value is None else json.dumps(record.value, ensure_ascii=False),
        "tokens": int(record.usage.get("completion_tokens", 0)),
        "error": record.error,
    }
