"""A folder that an engine has filled, and what every kind of damage to it has to leave as it was: the answers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omlx_jupyter.cache import check
from omlx_jupyter.cache.index import SCHEMA

from ..stress import work

T = TypeVar("T")
INDEX = f"index-v{SCHEMA}.sqlite3"
PROMPTS = (1, 2, 5)  # 1 and 5 begin alike, 2 has another picture
PATIENCE_S = 30.0
NOBODY = 65534


@dataclass(frozen=True)
class Stored:
    """A checkpoint, a folder with its answers' KV, and the tokens that a computer without a cache makes."""

    checkpoint: Path
    folder: Path
    tokens: dict[int, list[int]]

    def copy(self, place: Path) -> Path:
        shutil.copytree(self.folder, place)
        return place


def fill(checkpoint: Path, folder: Path) -> Stored:
    folder.mkdir(mode=0o700)
    numbers = list(PROMPTS)
    tokens = dict(zip(numbers, [t for t, _ in work.answers(checkpoint, None, numbers, ram=0)], strict=True))
    assert [t for t, _ in work.answers(checkpoint, folder, numbers)] == list(tokens.values())
    assert all(cached for _, cached in work.answers(checkpoint, folder, numbers, ram=1))  # all of it comes from disk
    return Stored(checkpoint, folder, tokens)


def within(run: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """What `run` returns; an error if it takes longer. Nothing may wait for a pipe."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def look() -> None:
        try:
            found.append(run())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it hangs for {seconds} seconds"
    if failed:
        raise failed[0]
    return found[0]


def asked(engine: Any, stored: Stored) -> int:
    """Every prompt once more; tokens that came from disk."""
    cached = 0
    for number, tokens in stored.tokens.items():
        made = engine.generate(work.prompt(number, True), sampling=work.GREEDY, timeout=PATIENCE_S)
        assert made.token_ids == tokens
        cached += made.usage.cached_tokens_ssd
    assert engine.stats().faults == type(engine.stats().faults)()  # the disk's faults are no faults of the engine
    return cached


@dataclass(frozen=True)
class Seen:
    """What became of a harmed folder."""

    cached: int
    paused: str
    damaged: int
    report: check.Report


def answered(stored: Stored, folder: Path, meanwhile: Callable[[], None] | None = None) -> Seen:
    """A new engine over `folder` answers as ever; `meanwhile` is done to it after its first answers."""

    def run() -> Seen:
        with work.open_engine(stored.checkpoint, folder, ram=1) as engine:
            cached = asked(engine, stored)
            if meanwhile is not None:
                meanwhile()
                cached = asked(engine, stored)
            assert engine._loop._runner.reuse.cache.writer.flush()
            stats = engine.stats().cache
            report = check.verify(folder)
            check.entries(folder)
        return Seen(cached, stats.ssd_paused, stats.ssd_damaged, report)

    return within(run)


def notices(caplog: Any) -> list[str]:
    """The warnings so far, each of which has to be one sentence on one line."""
    found = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    found = [record for record in found if not record.name.endswith("check")]  # who looks is told each time
    for record in found:
        text = record.getMessage()
        assert text.startswith(("the prefix cache", "a file of the prefix cache"))
        assert text.isprintable(), text
        assert len(text) < 450
        assert not record.exc_info
    return [record.getMessage() for record in found]


# -- the index ------------------------------------------------------------------------------


def execute(folder: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / INDEX, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def root_page(folder: Path, table: str) -> int:
    """The byte at which a table's first page begins."""
    with contextlib.closing(sqlite3.connect(folder / INDEX)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    return (page - 1) * size


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# -- segments -------------------------------------------------------------------------------


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "segments").glob("*.safetensors"))


def with_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write a segment anew with another header; `change` gives a value for JSON, or text as it is."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    made = change(json.loads(data[8 : 8 + length]))
    text = made if isinstance(made, bytes) else json.dumps(made).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


# -- the machine ----------------------------------------------------------------------------


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read and write everything; nothing changes for those who haven't it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[bool]:
    """A file system of its own at `place`; False where none may be mounted."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
