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
        """Take in what is there; where the next record begins.

        :raises RunError: it is somebody's file and no run: it stays as it is.
        """
        end, damaged, last = 0, 0, b""
        with os.fdopen(os.dup(self._handle), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    last = line
                    break
                damaged += not self._understood(line, end) and bool(line.strip())
                end += len(line)
        if (damaged or last) and not self._known and not last.startswith(b'{"source":'):
            raise RunError(f"{self._path} is there and isn't a run; name another file, or move it away.")
        if damaged:
            self.notes.append(f"{damaged} lines are no records; their sources are done again")
        return self._mended(last, end)

    def _understood(self, line: bytes, offset: int) -> bool:
        try:
            self._take(Record.of_line(line), offset)
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        return True

    def _mended(self, last: bytes, end: int) -> int:
        """A last line without its end: a record that somebody's editor left so is kept, a torn one is cut off."""
        if not last:
            return end
        whole = self._understood(last, end)
        if self._writes and whole:
            os.pwrite(self._handle, b"\n", end + len(last))
        elif self._writes:
            os.ftruncate(self._handle, end)
            self.notes.append("the last line was torn and is done again")
        return end + len(last) + 1 if whole else end

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
        if self._writes and not self._is_there():
            self._write_anew()
        os.fsync(self._handle)
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _is_there(self) -> bool:
        try:
            there, mine = os.stat(self._path), os.fstat(self._handle)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _write_anew(self) -> None:
        """The file was removed or replaced under the run: nothing of it is lost as long as it is open.

        :raises RunError: another file lies in its place, or it can't be written.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            at = 0
            while piece := os.pread(self._handle, _PIECE, at):
                at += os.pwrite(handle, piece, at)
        except OSError as error:
            raise RunError(
                f"{self._path} was removed while the run wrote it, and can't be written anew ({error.strerror})."
            ) from None
        os.close(self._handle)
        self._handle = handle
        self.notes.append("the file was removed while the run wrote it, and was written anew")

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
