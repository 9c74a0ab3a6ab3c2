"""One writer a run: a lock that the kernel of a dead process doesn't hold."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from ..errors import RunError

PATIENCE_S = 5.0


class RunLock:
    """Held from its making to `close`."""

    def __init__(self, path: Path) -> None:
        """:raises RunError: somebody else writes the run, or its disk can't lock."""
        self._place = path.with_name(f".{path.name}.lock")
        try:
            self._handle = os.open(self._place, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise RunError(f"{path} can't be written ({error.strerror}); name a place that can.") from None
        try:
            self._take()
        except OSError as error:
            holder = self._holder()
            os.close(self._handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise RunError(f"{path} is being written by {who}; wait for it, or save to another file.") from None
            raise RunError(
                f"{path} lies on a disk that can't lock files ({error.strerror}); save the run on a local disk."
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def _take(self) -> None:
        """A run of this very process that is just being paused is waited for."""
        import fcntl

        ends = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._holder() != str(os.getpid()) or time.monotonic() > ends:
                    raise
                time.sleep(0.05)

    def _holder(self) -> str:
        return os.pread(self._handle, 20, 0).decode("ascii", "replace").strip()

    def close(self) -> None:
        os.close(self._handle)
