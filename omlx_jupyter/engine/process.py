"""Which process an engine lives in. Threads and MLX's streams don't survive a fork."""

from __future__ import annotations

import os

from ..errors import ProcessError

_used_in: list[int] = []  # processes of this line that have loaded an engine, this one or its parents


class Owner:
    """Remembers the process that made it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        if self._pid not in _used_in:
            _used_in.append(self._pid)

    @property
    def here(self) -> bool:
        return os.getpid() == self._pid

    def check(self) -> None:
        """:raises ProcessError: this is a forked child."""
        if not self.here:
            raise ProcessError(
                f"the engine lives in the parent process ({self._pid}) and can't be used in a forked child; "
                "send requests from the parent, or start the child with multiprocessing's 'spawn'."
            )


def check_can_load() -> None:
    """:raises ProcessError: a parent of this forked process used MLX, whose threads aren't here."""
    if any(pid != os.getpid() for pid in _used_in):
        raise ProcessError(
            "no engine can be loaded in a forked child of a process that had one; "
            "start the child with multiprocessing's 'spawn'."
        )
