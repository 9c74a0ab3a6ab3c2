"""Where servers of this user are found by name: one private folder with a record and a socket for each."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from ..errors import RequestError

LONGEST_PATH = 100  # of a Unix socket: macOS takes 104 bytes, its end included
USUAL = "main"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}")


@dataclass(frozen=True)
class Record:
    """What a server leaves about itself. `url` and `token` are there where it listens on a port."""

    name: str
    pid: int
    socket: str
    url: str = ""
    token: str = ""
    models: tuple[str, ...] = ()


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def checked_name(text: str) -> str:
    """:raises RequestError: it can't be the name of a file."""
    if not is_name(text):
        raise RequestError(f"{text[:60]!r} is no name of a server; use letters, digits, - and _, at most 31.")
    return text


def folder() -> Path:
    """The folder of this user's servers: the runtime folder, or a short one below the temporary folder where the
    runtime folder's path leaves no room for a socket's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no runtime folder is no news: a private one is made
        place = Path(platformdirs.user_runtime_path("omlx_jupyter", appauthor=False))
    if len(os.fsencode(place)) + 40 > LONGEST_PATH or not place.is_absolute():
        place = Path(tempfile.gettempdir()) / f"omlx-{os.getuid()}"
    if len(os.fsencode(place)) + 40 > LONGEST_PATH:
        place = Path("/tmp") / f"omlx-{os.getuid()}"
    return place


def private_folder() -> Path:
    """The same, made if need be, and nobody else's.

    :raises RequestError: it is a link, belongs to somebody else or lets others in.
    """
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.lstat()
    except OSError as error:
        raise RequestError(
            f"{place} can't be made ({error.strerror}); set XDG_RUNTIME_DIR to a folder of yours."
        ) from None
    if not _private(found):
        raise RequestError(f"{place} isn't a folder that is yours alone; remove it, or chmod 700 it, and try again.")
    return place


def _private(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _safe(place: Path) -> bool:
    """Whether what lies in the folder was put there by this user."""
    try:
        return _private(place.lstat())
    except OSError:
        return False


def write(record: Record) -> Path:
    """Readable for nobody else from the moment that it is there."""
    place = private_folder() / f"{record.name}.json"
    beside = place.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(record), file)
    beside.replace(place)
    return place


def read(name: str) -> Record | None:
    """None: there is no such record, or none that this user has written."""
    place = folder()
    if not is_name(name) or not _safe(place):
        return None
    try:
        said = json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
        return Record(**{**said, "models": tuple(said.get("models", ()))})
    except (OSError, ValueError, TypeError):
        return None


def remove(record: Record) -> None:
    """Take a record away, unless another process has written it anew."""
    found = read(record.name)
    if found is not None and found.pid == record.pid:
        (folder() / f"{record.name}.json").unlink(missing_ok=True)
        if found.socket:
            Path(found.socket).unlink(missing_ok=True)


def names() -> list[str]:
    """All that left a record, alive or not."""
    place = folder()
    return sorted(path.stem for path in place.glob("*.json")) if _safe(place) else []


def by_url(url: str) -> Record | None:
    """The server of this user that listens there."""
    wanted = url.rstrip("/")
    return next((r for r in map(read, names()) if r is not None and r.url and r.url == wanted), None)
