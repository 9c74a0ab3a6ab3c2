"""Reading a file that may be anything: a pipe, a device, a folder, or larger than it says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import ImageError
from .boundary import one_line
from .limits import Limits, raising


def read_regular(path: Path, limits: Limits) -> bytes:
    """The bytes of a plain file. Never waits (a pipe without a writer would) and never reads past the limit.

    :raises ImageError: it is no plain file, can't be read or has too many bytes.
    :raises FileNotFoundError: there is none.
    """
    shown = one_line(str(path))
    # O_NONBLOCK: opening a FIFO returns at once, and what was opened is looked at before it is read.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISDIR(found.st_mode):
                raise ImageError(f"{shown} is a folder; name a file in it.")
            if not stat.S_ISREG(found.st_mode):
                raise ImageError(f"{shown} is a pipe, socket or device, not a file; save the picture to a file first.")
            if found.st_size > limits.max_bytes:
                raise ImageError(f"{shown} is over the limit of {mib(limits.max_bytes)}; {raising('max_bytes')}.")
            data = file.read((found.st_size or limits.max_bytes) + 1)  # /proc gives no size
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown} can't be read ({reason}); check its name and permissions.") from None
    if len(data) > limits.max_bytes:
        raise ImageError(f"{shown} is over the limit of {mib(limits.max_bytes)}; {raising('max_bytes')}.")
    return data


def mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count} bytes ({count / 2**20:.2g} MiB)"
