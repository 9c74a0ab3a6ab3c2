"""A run in an SQLite file: the same records, and columns to ask for."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import RunError
from .record import Key, Known, Record

_SCHEMA = """CREATE TABLE IF NOT EXISTS records (
  n INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, page INTEGER, name TEXT NOT NULL, text TEXT, error TEXT,
  record TEXT NOT NULL)"""

_INSERT = "INSERT INTO records(source, page, name, text, error, record) VALUES (?, ?, ?, ?, ?, ?)"


class SQLiteStore:
    """`run.sqlite`: one row a record, committed as it comes; `record` is the JSON line."""

    def __init__(self, path: Path, writes: bool) -> None:
        """:raises RunError: it is no SQLite file, or can't be opened."""
        self.notes: list[str] = []
        self._path, self._lock = path, threading.Lock()
        try:
            target = str(path) if writes else f"file:{path}?mode=ro"
            self._db = sqlite3.connect(target, uri=not writes, check_same_thread=False, isolation_level=None)
            tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and "records" not in tables:
                self._db.close()
                raise RunError(f"{path} is there and isn't a run; name another file, or move it away.")
            if writes:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute(_SCHEMA)
            self._known = {r.key: Known.of(r) for r in self._every()}
        except sqlite3.Error as error:
            raise RunError(f"{path} can't be opened as SQLite ({error}); name another file.") from None

    def _every(self) -> Iterator[Record]:
        for (text,) in self._db.execute("SELECT record FROM records ORDER BY n"):
            yield Record.of_line(text)

    def known(self) -> dict[Key, Known]:
        return self._known

    def add(self, record: Record) -> None:
        row = (*record.key, record.text, record.error, record.line().decode())
        try:
            with self._lock:
                self._db.execute(_INSERT, row)
        except sqlite3.Error as error:
            raise RunError(f"{self._path} can't be written ({error}); make room and run it again.") from None
        self._known[record.key] = Known.of(record)

    def get(self, key: Key) -> Record:
        with self._lock:
            found = self._db.execute(
                "SELECT record FROM records WHERE source = ? AND page IS ? AND name = ? ORDER BY n DESC LIMIT 1", key
            ).fetchone()
        if found is None:
            raise KeyError(key)
        return Record.of_line(found[0])

    def records(self) -> Iterator[Record]:
        for key in list(self._known):
            yield self.get(key)

    def every(self) -> Iterator[Record]:
        with self._lock:
            yield from list(self._every())

    def sync(self) -> None:
        """Each row was committed; the log reaches the disk at a checkpoint."""
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self._db.close()
