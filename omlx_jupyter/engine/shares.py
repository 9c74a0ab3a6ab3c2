"""Who holds what of the machine's memory: a small file that the engines of all this user's kernels share."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..cache.index import UnsafeFolder, check_folder

_log = logging.getLogger("omlx_jupyter")
_NAME = "memory.json"
_PATIENCE_S = 0.05  # for the lock; who holds it does so for less than a millisecond


@dataclass(frozen=True)
class Others:
    """What the other engines hold: `fixed` for good or promised to rows, `yielding` as long as nobody wants it.
    `wants` is what they wait for."""

    fixed: int = 0
    yielding: int = 0
    wants: int = 0
    count: int = 0


class Shares:
    """The lock is the kernel's own (flock): a process that dies lets it go. Entries of dead processes are dropped.

    Where the folder can't be written, or isn't safe, nothing is shared, and every engine goes by its own bound.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / _NAME if folder is not None else None
        self._key = f"{os.getpid()}-{id(self)}"
        self._born = psutil.Process().create_time()
        self._last = Others()

    def publish(self, fixed: int, yielding: int, wants: int = 0) -> Others:
        """Say what this engine holds; what the others do, as far as is known."""
        mine = {"pid": os.getpid(), "born": self._born, "fixed": fixed, "yielding": yielding, "wants": wants}
        return self._exchange(mine)

    def leave(self) -> None:
        """This engine holds nothing any more."""
        self._exchange(None)

    def _exchange(self, mine: dict[str, Any] | None) -> Others:
        try:
            with self._locked() as file:
                if file is None:
                    return self._last
                entries = {key: e for key, e in _read(file).items() if key != self._key and _alive(e)}
                _write(file, entries | ({self._key: mine} if mine is not None else {}))
        except Exception:  # what others hold is worth no request
            _log.debug("what other engines hold can't be seen", exc_info=True)
            return self._last
        sums = {name: sum(int(e[name]) for e in entries.values()) for name in ("fixed", "yielding", "wants")}
        self._last = Others(**sums, count=len(entries))
        return self._last

    @contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The file's descriptor, locked; None where there is none or the lock didn't come."""
        if self._path is None:
            yield None
            return
        try:
            check_folder(self._path.parent)
        except UnsafeFolder:  # which the cache tells of
            yield None
            return
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            yield file if stat.S_ISREG(os.fstat(file).st_mode) and _lock(file) else None
        finally:
            os.close(file)  # which gives the lock back


def _lock(file: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)


def _read(file: int) -> dict[str, Any]:
    """What the file says; nothing where a process died while it wrote."""
    try:
        found = json.loads(os.pread(file, 2**20, 0) or b"{}")
        return {key: e for key, e in found.items() if _sound(e)} if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        return {}


def _sound(entry: object) -> bool:
    names = ("pid", "born", "fixed", "yielding", "wants")
    return isinstance(entry, dict) and all(isinstance(entry.get(n), int | float) and entry[n] >= 0 for n in names)


def _write(file: int, entries: dict[str, Any]) -> None:
    data = json.dumps(entries).encode()
    os.pwrite(file, data, 0)
    os.ftruncate(file, len(data))


def _alive(entry: dict[str, Any]) -> bool:
    """Whether the very process is there: a number may have been given to another."""
    try:
        return bool(abs(psutil.Process(int(entry["pid"])).create_time() - entry["born"]) < 1)
    except (psutil.Error, OverflowError, ValueError):
        return False
