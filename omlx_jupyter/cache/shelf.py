"""The folder of the SSD tier: its index, its segments, its faults and its tidying."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import index as sql
from .files import Unreadable
from .index import Index

_log = logging.getLogger(__name__)
_SWEEP_S = 3600.0  # a kernel that stays open for days looks after what others left
_MOST_UNREAD = 3  # reads that a failing disk may cost before it is left alone
_OLD_S = 600.0  # an unfinished segment or a file without a row is rubbish after this time


def segment_path(folder: Path, segment: int) -> Path:
    return folder / "segments" / f"{segment:012x}.safetensors"


class Shelf:
    """One engine's hold on the folder that all processes share. Reading and writing have a connection each.

    Every fault of the disk is a miss (dropped and logged once) or pauses the tier with one warning.
    """

    def __init__(self, folder: Path, budget: int, identity: str, name: str) -> None:
        self.folder, self.budget = folder, budget
        self.paused = ""
        self._begun_anew = False
        self._unread = 0
        self.evictions = self.damaged = self.stored_bytes = 0
        self._identity, self._name = identity, name
        self._rate = 0.0
        self._lock = threading.Lock()
        self._reader_lock = threading.Lock()
        self._used: set[int] = set()
        self._reader: Index | None = None
        self._writer: Index | None = None
        self._touched = time.monotonic()
        self._swept = time.monotonic()
        self.seconds_per_token = 0.0
        with self._guarded():
            sql.check_folder(folder)
            if os.path.lexists(folder / "segments"):
                sql.check_folder(folder / "segments")
            with self._reading() as index:
                self.seconds_per_token = index.seconds_per_token(identity)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """The boundary of the disk: a busy index is a miss, a damaged one is begun anew once, all else pauses."""
        begun_anew = self._begun_anew
        try:
            yield
        except Exception as error:
            kind = sql.kind_of(error)
            if kind == "busy" and os.path.exists(self.folder):
                _log.info("the prefix cache's index is busy (%s)", error)
            elif kind == "damaged" and not begun_anew:
                self._set_aside_index(error)
            elif self._begun_anew and not begun_anew:  # another thread moved the index away under this one
                _log.info("the prefix cache's index was replaced meanwhile (%s)", error)
            else:
                self.pause(sql.word(error))

    def pause(self, why: str) -> None:
        if not self.paused:
            self.paused = why
            _log.warning("the prefix cache on disk is off (%s); answers go on without it", why)

    def _set_aside_index(self, error: Exception) -> None:
        """A damaged index is moved away; an empty one takes its place and the sweep removes its segments.

        Connections to the old one are closed by the threads that use them: closing one under another thread's
        statement can end the process.
        """
        with self._lock:
            if self._begun_anew:  # another thread met the old index too
                return
            sql.set_aside(self.folder)
            self._begun_anew = True
        _log.warning("the prefix cache's index was damaged (%s) and is begun anew", sql.word(error))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Index]:
        """The readers' connection, for one thread at a time."""
        with self._reader_lock:
            if self._reader is None or not self._reader.alive():
                self._drop(self._reader)
                self._reader = None
                self._reader = Index(self.folder, busy_s=0.2)
            yield self._reader

    def _writing(self) -> Index:
        """The writer's thread only."""
        if self._writer is None or not self._writer.alive():
            self._drop(self._writer)
            self._writer = None
            self._writer = Index(self.folder)
            sql.check_folder(self.folder / "segments")
        return self._writer

    def _path(self, segment: int) -> Path:
        return segment_path(self.folder, segment)

    def close(self) -> None:
        """Once the writer's thread has ended."""
        with self._reader_lock:
            self._drop(self._reader)
            self._drop(self._writer)
            self._reader = self._writer = None

    @staticmethod
    def _drop(connection: Index | None) -> None:
        if connection is not None:
            with contextlib.suppress(sql.Error):
                connection.close()

    def _lost(self, segments: Sequence[int], error: Exception) -> None:
        """Drop what can't be read; the tokens are computed and stored again. Any thread."""
        said = sql.word(error)
        if isinstance(error, Unreadable):  # the disk's fault, not the file's: a miss, and no more of it after a few
            _log.info("a file of the prefix cache could not be read (%s)", said)
            self._unread += 1
            if self._unread >= _MOST_UNREAD:
                self.pause(said)
            return
        with self._guarded(), contextlib.closing(Index(self.folder)) as opened:
            # A segment that another process evicted just now is no damage; rows that name none are.
            evicted = not any(opened.is_ready(s) for s in segments) and not any(map(opened.segment_blocks, segments))
            if not evicted:
                _log.warning("a file of the prefix cache was dropped (%s); its tokens are computed again", said)
                self.damaged += 1
            opened.doom(segments)
            for segment in segments:
                with contextlib.suppress(OSError, ValueError, TypeError):  # a row may name its segment by anything
                    self._path(segment).unlink()
            opened.drop(segments)

    def _unlink(self, segments: Sequence[int]) -> None:
        for segment in segments:
            path = self._path(segment)
            try:
                path.unlink(missing_ok=True)
            except OSError:
                if not path.is_dir():  # a folder in a file's place is nothing of ours
                    raise

    def total_bytes(self) -> int:
        """Bytes of all models and processes in the folder, as the index counts them. Any thread."""
        total = 0
        if not self.paused:
            with self._guarded(), contextlib.closing(Index(self.folder, busy_s=0.2)) as opened:
                total = opened.total_bytes()
        return total

    def note_rate(self, seconds_per_token: float) -> None:
        self._rate = self.seconds_per_token = seconds_per_token

    def tend(self, every_s: float = 30.0) -> None:
        """Write down what was used, at most once in `every_s` seconds; sweep once an hour."""
        if time.monotonic() - self._touched < every_s:
            return
        self._touched = time.monotonic()
        with self._lock:
            used, self._used = self._used, set()
        if used and not self.paused:
            with self._guarded():
                self._writing().touch(used)
        if time.monotonic() - self._swept > _SWEEP_S:
            self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes left: unfinished segments, temporary files, files without a row."""
        if self.paused:
            return
        self._swept = time.monotonic()
        with self._guarded():
            index, now = self._writing(), time.time()
            index.recount()
            rows = index.segments()
            dead = [
                s
                for s, _, ready, owner, made in rows
                if ready != sql.READY and (now - made > _OLD_S or not _lives(owner))
            ]
            if dead:
                self._unlink(dead)
                index.drop(dead)
            known = {self._path(segment).name for segment, *_ in rows} - {self._path(s).name for s in dead}
            for path in (self.folder / "segments").iterdir():
                if path.name not in known and _abandoned(path, now):
                    with contextlib.suppress(OSError):  # somebody's folder
                        path.unlink()


def _abandoned(path: Path, now: float) -> bool:
    """A temporary file of a dead process, or an old file that no row names."""
    if path.name.endswith(".tmp"):
        owner = path.name.split(".")[-2]
        if owner.isdigit() and not _lives(int(owner)):
            return True
    with contextlib.suppress(OSError):
        return now - path.stat().st_mtime > _OLD_S
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
