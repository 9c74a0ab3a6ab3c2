"""Where a run's records are: a JSON line each, only ever appended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..errors import RunError
from .record import Key, Known, Record

_PIECE = 64 * 1024
SYNC_S, SYNC_RECORDS = 1.0, 64  # after so long, or so many, what was written is on the disk itself


class Store(Protocol):
    """A run's records. Of several of one source the last counts."""

    notes: list[str]  # what was mended when it was opened

    def known(self) -> dict[Key, Known]:
        """Every source that has a record, in the order of its first one."""

    def add(self, record: Record) -> None: ...
    def get(self, key: Key) -> Record:
        """The last record of a source. :raises KeyError: it has none."""

    def records(self) -> Iterator[Record]:
        """The last record of each source, in the order of the first ones."""

    def every(self) -> Iterator[Record]:
        """All records, the older of a source before the newer."""

    def sync(self) -> None:
        """What was added is on the disk."""

    def close(self) -> None: ...


class JsonLines:
    """`run.jsonl`. A line that was torn by a kill is cut off when the file is opened for writing."""

    def __init__(self, path: Path, writes: bool) -> None:
        """:raises RunError: it can't be read or written."""
        self.notes: list[str] = []
        self._path, self._writes = path, writes
        self._offsets: dict[Key, int] = {}  # of each source's last record
        self._known: dict[Key, Known] = {}
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC if writes else os.O_RDONLY | os.O_CLOEXEC
        try:
            self._handle = os.open(path, flags, 0o644)
        except OSError as error:
            raise RunError(f"{path} can't be opened ({error.strerror}); name a file that can.") from None
        self._end = self._read()
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _read(self) -> int:
        """Take in what is there; where the next record begins."""
        end, damaged = 0, 0
        with os.fdopen(os.dup(self._handle), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    if self._writes:
                        os.ftruncate(self._handle, end)
                        self.notes.append("the last line was torn and is done again")
                    break
                try:
                    self._take(Record.of_line(line), end)
                except (ValueError, TypeError, KeyError, RecursionError):
                    damaged += bool(line.strip())
                end += len(line)
        if damaged:
            self.notes.append(f"{damaged} lines are no records; their sources are done again")
        return end

    def _take(self, record: Record, offset: int) -> None:
        self._offsets[record.key] = offset
        self._known[record.key] = Known.of(record)

    def known(self) -> dict[Key, Known]:
        return self._known

    def add(self, record: Record) -> None:
        line, at = record.line(), self._end
        try:
            while line:
                written = os.pwrite(self._handle, line, self._end)
                self._end += written
                line = line[written:]
        except OSError as error:
            raise RunError(f"{self._path} can't be written ({error.strerror}); make room and run it again.") from None
        self._take(record, at)
        self._unsynced += 1
        if self._unsynced >= SYNC_RECORDS or time.monotonic() - self._synced_at > SYNC_S:
            self.sync()

    def get(self, key: Key) -> Record:
        at, line = self._offsets[key], b""
        while not line.endswith(b"\n"):  # without a place in the file, which other threads would move
            piece = os.pread(self._handle, _PIECE, at + len(line))
            line += piece.partition(b"\n")[0] + b"\n" * (b"\n" in piece)
            if not piece:
                break
        return Record.of_line(line)

    def records(self) -> Iterator[Record]:
        for key in list(self._known):
            yield self.get(key)

    def every(self) -> Iterator[Record]:
        with open(self._path, "rb") as file:
            for line in file:
                try:
                    yield Record.of_line(line)
                except (ValueError, TypeError, KeyError, RecursionError):
                    continue

    def sync(self) -> None:
        os.fsync(self._handle)
        self._unsynced, self._synced_at = 0, time.monotonic()

    def close(self) -> None:
        if self._writes:
            self.sync()
        os.close(self._handle)


def open_store(path: Path, writes: bool) -> Store:
    """By the file's ending: .jsonl, .parquet (a folder of parts), .sqlite or .db.

    :raises RunError: another ending, or it can't be opened.
    """
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        return JsonLines(path, writes)
    if ending in (".sqlite", ".db"):
        from .sqlite_store import SQLiteStore

        return SQLiteStore(path, writes)
    if ending == ".parquet":
        from .parquet_store import ParquetParts

        return ParquetParts(path, writes)
    raise RunError(f"{path} has no ending that a run is saved under; name it .jsonl, .parquet or .sqlite.")
