"""Looking after the folder: what is in it, is it sound, make it empty."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CacheError
from .files import Damaged, SegmentReader, checksum
from .index import READY, SCHEMA, Index, kind_of, set_aside, word
from .shelf import segment_path
from .ssd import SYMBOLS, extra_checksum, seed_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .index import BlockRow

_log = logging.getLogger(__name__)
_PREFIX = 2 * 16 + len("state:") * 2  # hex digits of the longest extra key


@dataclass(frozen=True)
class ModelEntry:
    """What the folder holds of one model."""

    name: str
    bytes: int
    blocks: int
    tokens: int


@dataclass(frozen=True)
class Report:
    """Outcome of a verification. `problems` are sentences, one for each damaged segment and for the index."""

    segments: int
    blocks: int
    extras: int
    bytes_counted: int
    bytes_on_disk: int
    index_ok: bool
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.index_ok and not self.problems


def exists(folder: Path) -> bool:
    """Whether there is an index, or something that keeps one from being looked for."""
    try:
        os.lstat(folder / f"index-v{SCHEMA}.sqlite3")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def entries(folder: Path) -> list[ModelEntry]:
    """One entry per model, by name; none where the index is damaged (`verify` says so)."""
    if not exists(folder):
        return []
    try:
        with contextlib.closing(Index(folder)) as index:
            return [
                ModelEntry(str(name), int(size), blocks, int(tokens))
                for _, name, size, blocks, tokens in index.models()
            ]
    except Exception as error:
        _log.warning("the prefix cache's index can't be read (%s)", word(error))
        return []


def clear(folder: Path, name: str | None = None) -> int:
    """Drop a model's entries, or everything; the bytes that were freed. Running kernels go on.

    A damaged index is moved away with everything that it named.

    :raises CacheError: the index is busy, or the folder can't be written.
    """
    if not exists(folder):
        return 0
    try:
        try:
            return _clear(folder, name)
        except Exception as error:
            if kind_of(error) != "damaged":
                raise
            return _clear_damaged(folder)
    except Exception as error:
        if kind_of(error) == "busy":
            raise CacheError(f"another kernel is writing into {folder}; clear it again in a moment.") from error
        raise CacheError(
            f"{folder} can't be emptied ({word(error)}); give yourself the right to write there, or set another "
            "Omlx.cache_folder."
        ) from error


def _clear_damaged(folder: Path) -> int:
    set_aside(folder)
    freed = 0
    for path in (folder / "segments").glob("*.safetensors"):
        freed += path.lstat().st_size
        path.unlink(missing_ok=True)
    return freed


def _clear(folder: Path, name: str | None) -> int:
    freed = 0
    with contextlib.closing(Index(folder)) as index:
        for model, found, size, *_ in index.models():
            if name is None or found == name:
                segments = index.doom_model(model)
                for segment in segments:
                    segment_path(folder, segment).unlink(missing_ok=True)
                index.drop_model(model, segments)
                freed += size
    return freed


def verify(folder: Path, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read every published segment and check every block and extra. Changes nothing."""
    if not exists(folder):
        return Report(0, 0, 0, 0, 0, True, ())
    try:
        return _verify(folder, progress)
    except Exception as error:
        found = {"busy": "is busy", "disk": "can't be read", "damaged": "is damaged"}[kind_of(error)]
        return Report(0, 0, 0, 0, _on_disk(folder), False, (f"the index {found} ({word(error)})",))


def _on_disk(folder: Path) -> int:
    size = 0
    with contextlib.suppress(OSError):
        for path in (folder / "segments").iterdir():
            with contextlib.suppress(OSError):  # evicted meanwhile
                size += path.lstat().st_size
    return size


def _verify(folder: Path, progress: Callable[[int, int], None] | None) -> Report:
    problems: list[str] = []
    blocks = extras = 0
    with contextlib.closing(Index(folder)) as index:
        segments = [row for row in index.segments() if row[2] == READY]
        for number, (segment, *_) in enumerate(segments):
            if progress is not None:
                progress(number, len(segments))
            try:
                rows, others = index.segment_blocks(segment), index.segment_extras(segment)
                with SegmentReader(segment_path(folder, segment)) as reader:
                    _check_segment(reader, rows, others)
                blocks, extras = blocks + len(rows), extras + len(others)
            except Damaged as error:
                if any(segment == row[0] and row[2] == READY for row in index.segments()):  # not evicted meanwhile
                    problems.append(f"segment {segment:012x}: {error}")
        counted, verdict = index.total_bytes(), index.check()
    sound = verdict == "ok"
    if not sound:
        problems.append(f"the index is damaged ({word(verdict)})")
    return Report(len(segments), blocks, extras, counted, _on_disk(folder), sound, tuple(problems))


def _check_segment(reader: SegmentReader, rows: Sequence[BlockRow], others: Sequence[tuple[bytes, int]]) -> None:
    names = sorted(name for name in reader.entries if name != SYMBOLS and len(name) < _PREFIX // 2)
    for name in (*names, SYMBOLS) if rows else ():
        reader.shape(name)
    arrays = {name: reader.read(name) for name in names} if rows else {}
    symbols = reader.read(SYMBOLS) if rows else None
    for row in rows:
        if not row.sound:
            raise Damaged("an index row is wrong")
        at, end = row.start, row.start + row.length
        parts = [array[:, at:end] for array in arrays.values()]
        if any(part.shape[1] != row.length for part in parts):
            raise Damaged("a block reaches beyond its file")
        if checksum(parts, seed_of(row.key, row.parent, row.window)) != row.crc:
            raise Damaged("a block's checksum is wrong")
        if symbols is None or checksum([symbols[:, at:end]], seed_of(row.key, row.parent)) != row.symbols_crc:
            raise Damaged("a block's tokens were altered")
    for key, crc in others:
        prefix = key.hex() + "."
        found = {name.removeprefix(prefix): reader.read(name) for name in reader.entries if name.startswith(prefix)}
        if not found or extra_checksum(key, found) != crc:
            raise Damaged("a state's or picture's checksum is wrong")
