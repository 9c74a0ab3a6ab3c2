"""The index of the SSD tier: one SQLite file (WAL) that every kernel on the machine reads and writes."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

SCHEMA = 2  # another schema has another file name, so it is never read by mistake
WRITING, READY, DOOMED = 0, 1, 2  # a segment's life
MOST_CHILDREN = 256  # newest siblings looked at for one parent and first symbol
_TABLES = """
CREATE TABLE IF NOT EXISTS models(
  id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, name TEXT NOT NULL, seconds_per_token REAL NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS segments(
  id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, bytes INTEGER NOT NULL, ready INTEGER NOT NULL,
  owner INTEGER NOT NULL, made REAL NOT NULL, used REAL NOT NULL);
CREATE INDEX IF NOT EXISTS segments_used ON segments(used);
CREATE TABLE IF NOT EXISTS blocks(
  key BLOB NOT NULL UNIQUE, parent BLOB NOT NULL, first INTEGER NOT NULL, segment INTEGER NOT NULL,
  start INTEGER NOT NULL, length INTEGER NOT NULL, crc INTEGER NOT NULL, window INTEGER NOT NULL,
  symbols_crc INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS blocks_parent ON blocks(parent, first);
CREATE INDEX IF NOT EXISTS blocks_segment ON blocks(segment);
CREATE TABLE IF NOT EXISTS extras(key BLOB NOT NULL UNIQUE, segment INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS extras_segment ON extras(segment);
CREATE TABLE IF NOT EXISTS totals(id INTEGER PRIMARY KEY CHECK (id = 0), bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES (0, 0);
CREATE TRIGGER IF NOT EXISTS segment_in AFTER INSERT ON segments BEGIN
  UPDATE totals SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER IF NOT EXISTS segment_out AFTER DELETE ON segments BEGIN
  UPDATE totals SET bytes = bytes - OLD.bytes; END;
"""

# name -> the statement as SQLite keeps it; another one is another version, whatever its names
_STATEMENTS = {
    found[2]: f"CREATE {found[1]} {found[2]}{found[3]}"
    for found in re.finditer(r"CREATE (TABLE|INDEX|TRIGGER) IF NOT EXISTS (\w+)(.+?(?:\)| END));\n", _TABLES, re.S)
}
_MAGIC = b"SQLite format 3\0"
_COLUMNS = "key, parent, first, segment, start, length, crc, window, symbols_crc"

Error = sqlite3.Error
_PAUSES = ("unable to open", "readonly", "read-only", "disk i/o", "full", "permission")


class UnsafeFolder(Exception):
    """A folder that others could put files into."""


def kind_of(error: Exception) -> Literal["busy", "disk", "damaged"]:
    """What an exception means that came out of the index: wait, leave the disk alone, or begin anew.

    A damaged file gives more than SQLite's own errors: text where a number was, bytes that are no text, no row.
    """
    text = str(error).lower()
    if isinstance(error, sqlite3.Error):
        if "locked" in text or "busy" in text:
            return "busy"
        return "disk" if any(word in text for word in _PAUSES) else "damaged"
    return "disk" if isinstance(error, OSError | UnsafeFolder | MemoryError) else "damaged"


def word(error: object) -> str:
    """An error's text for a notice: one line, no character that a terminal acts on, whatever a damaged file holds."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:300]


def check_folder(folder: Path) -> None:
    """Make the folder where it isn't there yet.

    :raises UnsafeFolder: it belongs to somebody else, or others can write into it.
    :raises OSError: it can't be made.
    """
    make_folder(folder)
    about = os.stat(folder)
    if about.st_uid != os.geteuid():
        raise UnsafeFolder(f"{folder} belongs to another user; set another cache folder")
    if about.st_mode & 0o022:
        raise UnsafeFolder(f"others can write into {folder}; run: chmod 700 {folder}")


def make_folder(folder: Path) -> None:
    """:raises OSError: there is something else in its place."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.name == "segments" and folder.is_symlink():
        raise NotADirectoryError(f"{folder} is a link")


def set_aside(folder: Path) -> None:
    """Move a damaged index away, whatever it is."""
    path = folder / f"index-v{SCHEMA}.sqlite3"
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            os.rename(f"{path}{end}", f"{path}{end}.damaged")


@dataclass(frozen=True)
class BlockRow:
    """Where a block lies: tokens [start, start + length) of a segment."""

    key: bytes
    parent: bytes
    first: int
    segment: int
    start: int
    length: int
    crc: int
    window: int
    symbols_crc: int

    @property
    def sound(self) -> bool:
        """Whether the values can be what was stored; a damaged row may hold anything."""
        numbers = (self.first, self.segment, self.start, self.length, self.crc, self.window, self.symbols_crc)
        return (
            isinstance(self.key, bytes)
            and isinstance(self.parent, bytes)
            and all(isinstance(n, int) for n in numbers)
            and min(self.segment, self.start, self.window) >= 0
            and self.length > 0
            and self.window < 2**31
        )


class Index:
    """One connection; use it from one thread at a time.

    :raises Error: the file can't be opened, is locked for long or damaged.
    """

    def __init__(self, folder: Path, busy_s: float = 5.0) -> None:
        make_folder(folder)
        self.path = folder / f"index-v{SCHEMA}.sqlite3"
        # A pipe would wait for ever, a link could lead anywhere: only a file of its own is opened.
        handle = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise sqlite3.DatabaseError("the index is no regular file")
            head = os.pread(handle, 20, 0)
            # A file of a later format can only be read, says SQLite, as it says of one on a read-only disk.
            if head and not (head.startswith(_MAGIC) and len(head) == 20 and max(head[18:]) <= 2):
                raise sqlite3.DatabaseError("the index is no SQLite file")
        finally:
            os.close(handle)
        self._db = sqlite3.connect(self.path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA cache_size = -8192")
            known = dict(self._db.execute("SELECT name, sql FROM sqlite_master"))
            if not known:
                self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            elif wrong := [name for name, statement in _STATEMENTS.items() if known.get(name) != statement]:
                raise sqlite3.DatabaseError(f"the index lacks {wrong[0]}")
        except BaseException:
            self._db.close()
            raise
        self._inode = os.stat(self.path).st_ino

    def close(self) -> None:
        self._db.close()

    def alive(self) -> bool:
        """Whether the file that was opened is still the one in the folder."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    @contextmanager
    def writing(self) -> Any:
        """One transaction that other processes wait for."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- look-ups ---------------------------------------------------------------------------

    def children(self, parent: bytes, first: int) -> list[tuple[bytes, int, int]]:
        """(key, length, window) of the newest blocks after `parent` that begin with symbol `first`."""
        return self._db.execute(
            "SELECT key, length, window FROM blocks WHERE parent = ? AND first = ? ORDER BY rowid DESC LIMIT ?",
            (parent, first, MOST_CHILDREN),
        ).fetchall()

    def after(self, parent: bytes, most: int) -> list[bytes]:
        """Keys of the newest blocks after `parent`, whatever they begin with."""
        rows = self._db.execute("SELECT key FROM blocks WHERE parent = ? ORDER BY rowid DESC LIMIT ?", (parent, most))
        return [key for (key,) in rows if isinstance(key, bytes)]

    def blocks(self, keys: Sequence[bytes]) -> dict[bytes, BlockRow]:
        found: dict[bytes, BlockRow] = {}
        for at in range(0, len(keys), 500):
            part = keys[at : at + 500]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM blocks WHERE key IN ({marks})", part)
            found.update((row[0], BlockRow(*row)) for row in rows)
        return found

    def extra(self, key: bytes) -> tuple[int, int] | None:
        """(segment, crc) of a state or of a picture's features."""
        row = self._db.execute("SELECT segment, crc FROM extras WHERE key = ?", (key,)).fetchone()
        return (row[0], row[1]) if row and isinstance(row[0], int) and isinstance(row[1], int) else None

    def is_ready(self, segment: int) -> bool:
        row = self._db.execute("SELECT ready FROM segments WHERE id = ?", (segment,)).fetchone()
        return row is not None and row[0] == READY

    def segment_blocks(self, segment: int) -> list[BlockRow]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM blocks WHERE segment = ?", (segment,))
        return [BlockRow(*row) for row in rows]

    def segment_extras(self, segment: int) -> list[tuple[bytes, int]]:
        return self._db.execute("SELECT key, crc FROM extras WHERE segment = ?", (segment,)).fetchall()

    def segments(self) -> list[tuple[int, int, int, int, float]]:
        """(id, bytes, ready, owner, made), oldest use first."""
        return self._db.execute("SELECT id, bytes, ready, owner, made FROM segments ORDER BY used").fetchall()

    def total_bytes(self) -> int:
        row = self._db.execute("SELECT bytes FROM totals").fetchone()
        if row is None or not isinstance(row[0], int):
            raise sqlite3.DatabaseError("the index has no total")
        return int(row[0])

    def models(self) -> list[tuple[int, str, int, int, int]]:
        """(id, name, bytes, blocks, tokens) per model."""
        return self._db.execute(
            "SELECT m.id, m.name, (SELECT COALESCE(SUM(bytes), 0) FROM segments WHERE model = m.id),"
            " COUNT(b.key), COALESCE(SUM(b.length), 0) FROM models m"
            " LEFT JOIN segments s ON s.model = m.id LEFT JOIN blocks b ON b.segment = s.id"
            " GROUP BY m.id ORDER BY m.name"
        ).fetchall()

    def seconds_per_token(self, identity: str) -> float:
        row = self._db.execute("SELECT seconds_per_token FROM models WHERE identity = ?", (identity,)).fetchone()
        rate = 0.0 if row is None else float(row[0])
        return rate if 0 <= rate < 3600 else 0.0

    # -- changes ----------------------------------------------------------------------------

    def model_id(self, identity: str, name: str, seconds_per_token: float = 0.0) -> int:
        self._db.execute(
            "INSERT INTO models(identity, name, seconds_per_token) VALUES (?, ?, ?) "
            "ON CONFLICT(identity) DO UPDATE SET name = excluded.name, seconds_per_token = "
            "CASE WHEN excluded.seconds_per_token > 0 THEN excluded.seconds_per_token ELSE seconds_per_token END",
            (identity, name, seconds_per_token),
        )
        return int(self._db.execute("SELECT id FROM models WHERE identity = ?", (identity,)).fetchone()[0])

    def reserve(self, model: int, size: int, budget: int) -> int | None:
        """A new segment's id, if `size` bytes fit into the budget now. Its bytes count from here on, before
        anything is written, so that all processes together keep the budget."""
        now = time.time()
        with self.writing():
            if self.total_bytes() + size > budget:
                return None
            cursor = self._db.execute(
                "INSERT INTO segments(model, bytes, ready, owner, made, used) VALUES (?, ?, ?, ?, ?, ?)",
                (model, size, WRITING, os.getpid(), now, now),
            )
        return int(cursor.lastrowid or 0)

    def make_room(self, size: int, budget: int) -> list[int]:
        """Doom the least recently used segments until `size` bytes will fit: their blocks are gone from the
        index, their bytes count until `drop`. Unlink the files between the two: a process killed anywhere
        leaves neither a row without a file nor a file that no budget counts."""
        doomed: list[int] = []
        with self.writing():
            total = self.total_bytes()
            # Segments being written belong to somebody; the sweep knows when they don't any more.
            rows = self._db.execute("SELECT id, bytes FROM segments WHERE ready = ? ORDER BY used, id DESC", (READY,))
            for segment, held in rows:
                if total + size <= budget:
                    break
                doomed.append(int(segment))
                total -= int(held)
            self._doom(doomed)
        return doomed

    def doom(self, segments: Sequence[int]) -> None:
        with self.writing():
            self._doom(segments)

    def doom_model(self, model: int) -> list[int]:
        with self.writing():
            found = [int(row[0]) for row in self._db.execute("SELECT id FROM segments WHERE model = ?", (model,))]
            self._doom(found)
        return found

    def drop_model(self, model: int, segments: Sequence[int]) -> None:
        with self.writing():
            self._delete(segments)
            self._db.execute("DELETE FROM models WHERE id = ?", (model,))

    def _doom(self, segments: Sequence[int]) -> None:
        self._unindex(segments)
        self._db.executemany(
            "UPDATE segments SET ready = ?, owner = ? WHERE id = ?", [(DOOMED, os.getpid(), s) for s in segments]
        )

    def _unindex(self, segments: Sequence[int]) -> None:
        for table in ("blocks", "extras"):
            self._db.executemany(f"DELETE FROM {table} WHERE segment = ?", [(segment,) for segment in segments])

    def publish(self, segment: int, blocks: Iterable[BlockRow], extras: Iterable[tuple[bytes, int]]) -> bool:
        """Make a written segment's blocks visible. False: it was dropped meanwhile."""
        with self.writing():
            found = self._db.execute(
                "UPDATE segments SET ready = ? WHERE id = ? AND ready = ?", (READY, segment, WRITING)
            ).rowcount
            if not found:
                return False
            self._db.executemany(
                f"INSERT OR IGNORE INTO blocks({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [astuple(b) for b in blocks],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO extras(key, segment, crc) VALUES (?, ?, ?)",  # what was there couldn't be used
                [(key, segment, crc) for key, crc in extras],
            )
        return True

    def drop(self, segments: Sequence[int]) -> None:
        with self.writing():
            self._delete(segments)

    def _delete(self, segments: Sequence[int]) -> None:
        self._unindex(segments)
        self._db.executemany("DELETE FROM segments WHERE id = ?", [(segment,) for segment in segments])

    def touch(self, segments: Iterable[int]) -> None:
        now = time.time()
        with self.writing():
            self._db.executemany("UPDATE segments SET used = ? WHERE id = ?", [(now, s) for s in segments])

    def recount(self) -> None:
        """The total anew, should it have been damaged: one too high would keep everything out."""
        with self.writing():
            self._db.execute("UPDATE totals SET bytes = (SELECT COALESCE(SUM(bytes), 0) FROM segments)")

    def check(self) -> str:
        """SQLite's own verdict, `ok` if the file is sound."""
        return str(self._db.execute("PRAGMA quick_check(1)").fetchone()[0])
