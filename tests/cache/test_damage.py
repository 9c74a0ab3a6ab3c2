"""A damaged index, folder or disk costs what it held: the answers stay, and one sentence says what happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter.cache import check
from omlx_jupyter.cache.index import Index, check_folder

from ..stress import work
from .harm import (
    INDEX,
    NOBODY,
    PATIENCE_S,
    PROMPTS,
    Stored,
    answered,
    as_nobody,
    asked,
    execute,
    fill,
    notices,
    overwrite,
    root_page,
    segments,
    small_disk,
    within,
)

MUTATIONS = os.environ.get("OMLX_TORTURE_MUTATIONS")
TABLES = ("models", "segments", "blocks", "extras", "totals")


@pytest.fixture(scope="module")
def stored(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return fill(checkpoint("qwen2_vl"), tmp_path_factory.mktemp("damage") / "cache")


@pytest.fixture
def folder(stored: Stored, tmp_path: Path) -> Path:
    return stored.copy(tmp_path / "cache")


def begun_anew(stored: Stored, folder: Path, caplog: Any) -> None:
    """The damage is told once, the index is begun anew, and the next kernel finds everything again."""
    answered(stored, folder)
    assert len(notices(caplog)) == 1
    assert "begun anew" in notices(caplog)[0]
    answered(stored, folder)
    seen = answered(stored, folder)
    assert len(notices(caplog)) == 1
    assert seen.report.ok, seen.report.problems
    assert seen.cached
    assert not seen.paused


def off(stored: Stored, folder: Path, caplog: Any, why: str) -> None:
    """The tier is off; it is told once, and why."""
    seen = answered(stored, folder)
    assert len(notices(caplog)) == 1
    assert notices(caplog)[0] == f"the prefix cache on disk is off ({seen.paused}); answers go on without it"
    assert why in seen.paused
    assert not seen.cached


# -- bytes of the index ---------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 16, 18, 28, 44, 56, 100, 103, 105, 110])
def test_flipped_bytes_at_the_beginning(stored: Stored, folder: Path, at: int, caplog: Any) -> None:
    """Magic, page size, versions, sizes, text encoding; the first page's kind, cell counts and places."""
    byte = (folder / INDEX).read_bytes()[at]
    overwrite(folder / INDEX, at, bytes([byte ^ 0x55]))
    answered(stored, folder)
    assert len(notices(caplog)) <= 1
    seen = answered(stored, folder)
    assert len(notices(caplog)) <= 1
    assert seen.cached
    assert not seen.paused


@pytest.mark.parametrize(
    ("table", "at"),
    [
        *(("models", 0), ("segments", 3), ("blocks", 8), ("extras", 0), ("totals", 3)),
        *(("blocks_parent", 0), ("sqlite_autoindex_blocks_1", 8), ("segments_used", 3)),
    ],
)
def test_flipped_bytes_of_a_table(stored: Stored, folder: Path, table: str, at: int, caplog: Any) -> None:
    """A page's kind, its number of cells, the place of its first one."""
    overwrite(folder / INDEX, root_page(folder, table) + at, b"\x7f\x7f")
    seen = answered(stored, folder)
    assert len(notices(caplog)) <= 1 + seen.damaged
    answered(stored, folder)


def test_noise_in_the_schema_shows_as_text(stored: Stored, folder: Path, caplog: Any) -> None:
    """SQLite's own message names what it can't read; a terminal has to get it as symbols."""
    data = (folder / INDEX).read_bytes()
    at = data.index(b"CREATE TABLE blocks")
    overwrite(folder / INDEX, at - len("tableblocksblocks") - 1, b"table\x1b[2J\n\x9b")
    overwrite(folder / INDEX, at + 7, b"\x1b[31m\n")
    begun_anew(stored, folder, caplog)


@pytest.mark.parametrize("keep", [1, 100, 4096, 30_000])
def test_a_cut_index(stored: Stored, folder: Path, keep: int, caplog: Any) -> None:
    os.truncate(folder / INDEX, keep)
    begun_anew(stored, folder, caplog)


def test_an_empty_index_is_a_new_one(stored: Stored, folder: Path, caplog: Any) -> None:
    os.truncate(folder / INDEX, 0)
    answered(stored, folder)
    assert not notices(caplog)
    assert answered(stored, folder).cached


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_noise_beside_the_index(stored: Stored, folder: Path, end: str, caplog: Any) -> None:
    (folder / (INDEX + end)).write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + os.urandom(8192))
    answered(stored, folder)
    assert len(notices(caplog)) <= 1


# -- what the index says --------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        *("blocks.first", "blocks.segment", "blocks.start", "blocks.length", "blocks.crc", "blocks.window"),
        *("blocks.symbols_crc", "segments.bytes", "segments.ready", "segments.owner", "segments.made", "totals.bytes"),
        *("extras.segment", "extras.crc", "models.seconds_per_token"),
    ],
)
def test_another_value_in_a_number_column(stored: Stored, tmp_path: Path, column: str, caplog: Any) -> None:
    table, name = column.split(".")
    values = ("'text'", "x'ff00'", "9000000000000000000", "-5", "9e999")
    for number, value in enumerate(values if MUTATIONS else (values[0], values[1 + len(column) % 4])):
        folder = stored.copy(tmp_path / f"cache{number}")
        execute(folder, f"UPDATE {table} SET {name} = {value}")
        caplog.clear()
        seen = answered(stored, folder)
        assert len(notices(caplog)) <= 1 + seen.damaged
        seen = answered(stored, folder)
        assert seen.cached, "it never mends"
        assert not seen.paused
        # These prompts look at no block that begins with their answer, which may lie in a file of its own.
        if column not in ("blocks.symbols_crc", "extras.crc", "blocks.crc"):
            assert seen.report.ok, seen.report.problems


def test_no_total(stored: Stored, folder: Path, caplog: Any) -> None:
    execute(folder, "DELETE FROM totals")
    begun_anew(stored, folder, caplog)


@pytest.mark.parametrize("name", [*TABLES, "segment_in", "segment_out", "blocks_parent"])
def test_a_table_is_gone(stored: Stored, folder: Path, name: str, caplog: Any) -> None:
    kind = "TABLE" if name in TABLES else "TRIGGER" if name.startswith("segment_") else "INDEX"
    execute(folder, f"DROP {kind} {name}")
    begun_anew(stored, folder, caplog)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_another_version(stored: Stored, folder: Path, table: str, caplog: Any) -> None:
    """The same names, other columns."""
    execute(folder, "DROP TRIGGER segment_in", "DROP TRIGGER segment_out")
    ours = ("segments_used", "blocks_parent", "blocks_segment", "extras_segment")
    execute(
        folder,
        f"DROP TABLE {table}",
        f"CREATE TABLE {table}(other)",
        *(f"CREATE INDEX {name} ON {table}(other)" for name in ours if name.startswith(table)),
        *(f"CREATE TRIGGER {n} AFTER INSERT ON blocks BEGIN SELECT 1; END" for n in ("segment_in", "segment_out")),
        f"INSERT INTO {table} VALUES ('\x1b[2J')",
    )
    begun_anew(stored, folder, caplog)


def test_another_programs_database(stored: Stored, folder: Path, caplog: Any) -> None:
    (folder / INDEX).unlink()
    execute(folder, "CREATE TABLE places(url)", "PRAGMA user_version = 77")
    begun_anew(stored, folder, caplog)


def test_damaged_while_it_is_open(stored: Stored, folder: Path, caplog: Any) -> None:
    """Under a running kernel, by another program; writer and readers meet it at once."""

    def harm() -> None:
        execute(folder, "DROP TABLE blocks", "CREATE TABLE blocks(key)")

    answered(stored, folder, harm)
    assert len(notices(caplog)) == 1
    seen = answered(stored, folder)
    assert seen.report.ok
    assert seen.cached


def test_two_threads_that_meet_the_damage_begin_anew_once(tmp_path: Path, caplog: Any) -> None:
    from omlx_jupyter.cache.shelf import Shelf

    shelf = Shelf(tmp_path, 10**6, "m", "m")
    with shelf._guarded():
        with shelf._guarded():  # what another thread does meanwhile
            raise sqlite3.DatabaseError("malformed")
        raise sqlite3.ProgrammingError("it met the old one too")
    assert not shelf.paused
    assert len(notices(caplog)) == 1
    with shelf._guarded():
        raise sqlite3.DatabaseError("malformed again")
    assert shelf.paused
    shelf.close()


# -- something else in its place ------------------------------------------------------------


def in_place_of_the_index(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        outside = path.parent.parent / "outside"
        outside.write_bytes(b"someone's file")
        path.symlink_to(outside)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "socket"])
def test_no_file_where_the_index_should_be(
    stored: Stored, folder: Path, kind: str, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_the_index(kind, folder / INDEX, monkeypatch)
    if kind == "pipe":
        begun_anew(stored, folder, caplog)
    else:
        off(stored, folder, caplog, INDEX)
        assert not within(lambda: check.verify(folder)).ok
    if kind == "link":
        assert (folder.parent / "outside").read_bytes() == b"someone's file"


@pytest.mark.parametrize("place", ["cache", "cache/within", "cache/segments"])
def test_a_file_where_the_folder_should_be(stored: Stored, tmp_path: Path, place: str, caplog: Any) -> None:
    folder = tmp_path / "cache"
    if place == "cache/segments":
        folder.mkdir(mode=0o700)
        (folder / "segments").write_text("a file")
    else:
        folder.write_text("a file")
    target = tmp_path / place if place != "cache/segments" else folder
    off(stored, target, caplog, str(folder))
    report = check.verify(target)
    assert report.ok is (place == "cache/segments")  # an index without segments is sound


def test_a_folder_of_another_user(stored: Stored, folder: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    off(stored, folder, caplog, f"{folder} belongs to another user; set another cache folder")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "index" not in path.name} == {
        path: at for path, at in before.items() if "index" not in path.name
    }


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
@pytest.mark.parametrize("name", ["", "segments"])
def test_a_folder_that_others_can_write(stored: Stored, folder: Path, mode: int, name: str, caplog: Any) -> None:
    place = folder / name
    place.chmod(mode)
    off(stored, folder, caplog, f"others can write into {place}; run: chmod 700 {place}")
    subprocess.run(caplog.records[-1].getMessage().split("run: ")[1].split(")")[0], shell=True, check=True)
    caplog.clear()
    assert answered(stored, folder).cached
    assert not notices(caplog)


def test_what_is_made_is_private(stored: Stored, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "new"
        with work.open_engine(stored.checkpoint, folder) as engine:
            asked(engine, stored)
            assert engine._loop._runner.reuse.cache.writer.flush()
            found = [folder, *folder.rglob("*")]  # -wal and -shm are there too
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()}
            assert modes == {"new": 0o700, "segments": 0o700}
            files = [path for path in found if not path.is_dir()]
            assert len(files) > 3
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    finally:
        os.umask(before)


# -- the disk -------------------------------------------------------------------------------


@pytest.fixture
def own(stored: Stored) -> Iterator[tuple[Stored, Path]]:
    """A checkpoint and a cache folder that a user without rights has to itself, below a folder it can enter."""
    place = Path(tempfile.mkdtemp(prefix="omlx-own-"))
    checkpoint = shutil.copytree(stored.checkpoint, place / stored.checkpoint.name)
    folder = stored.copy(place / "cache")
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    yield Stored(checkpoint, stored.folder, stored.tokens), folder
    for path in (folder, folder / "segments"):
        path.chmod(0o700)
    shutil.rmtree(place)


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_no_permission(own: tuple[Stored, Path], mode: int, caplog: Any) -> None:
    stored, folder = own
    folder.chmod(mode)
    with as_nobody():
        if mode == 0o500:  # what is there can be read and written, but nothing can be made
            answered(stored, folder)
            assert len(notices(caplog)) <= 1
        else:
            off(stored, folder, caplog, "Permission denied")
            assert not check.verify(folder).ok


def test_permission_taken_away_meanwhile(own: tuple[Stored, Path], caplog: Any) -> None:
    stored, folder = own
    with as_nobody():
        seen = answered(stored, folder, lambda: folder.chmod(0))
    assert seen.paused
    assert len(notices(caplog)) == 1
    assert "Permission denied" in notices(caplog)[0]


LIMITED = """
import json, logging, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
from omlx_jupyter.cache import check
from tests.stress import work
with work.open_engine(Path(sys.argv[1]), Path(sys.argv[2]), ram=1) as engine:
    made = [engine.generate(work.prompt(n, True), sampling=work.GREEDY).token_ids for n in json.loads(sys.argv[4])]
    engine._loop._runner.reuse.cache.writer.flush()
    again = [engine.generate(work.prompt(n, True), sampling=work.GREEDY).token_ids for n in json.loads(sys.argv[4])]
    check.verify(Path(sys.argv[2]))
    print(json.dumps([made, again, engine.stats().cache.ssd_paused]))
"""


def full_by_limit(stored: Stored, folder: Path, size: int) -> tuple[list[Any], str]:
    """In a process whose files may have `size` bytes; what it answered, and what it logged."""
    given = [str(stored.checkpoint), str(folder), str(size), json.dumps(PROMPTS)]
    run = [sys.executable, "-c", LIMITED, *given]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("size", ["64k", "400k"])
def test_a_full_disk(stored: Stored, tmp_path: Path, size: str, caplog: Any) -> None:
    """It fills up under the index, or under a segment."""
    with small_disk(tmp_path / "disk", size) as mounted:
        if mounted:
            folder = tmp_path / "disk" / "cache"
            seen = answered(stored, folder, lambda: None)
            assert seen.paused
            assert len(notices(caplog)) == 1
            assert "answers go on without it" in notices(caplog)[0]
            assert not list(folder.rglob("*.tmp"))
            return
    made, log = full_by_limit(stored, tmp_path / "cache", int(size[:-1]) * 256)
    assert made[0] == made[1] == list(stored.tokens.values())
    assert made[2]
    assert log.count("the prefix cache on disk is off") == 1
    assert "Traceback" not in log


def test_a_read_only_disk(stored: Stored, tmp_path: Path, caplog: Any) -> None:
    with small_disk(tmp_path / "disk", "8m") as mounted:
        if mounted:
            folder = stored.copy(tmp_path / "disk" / "cache")
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
            off(stored, folder, caplog, "Read-only file system")
            report = check.verify(folder)
            assert report.problems[0].startswith("the index can't be read")
            return
    folder = stored.copy(tmp_path / "cache")  # who can't mount anything is no root: a file that can't be written
    (folder / INDEX).chmod(0o400)
    off(stored, folder, caplog, "Permission denied")


@pytest.mark.parametrize("call", ["preadv", "pread", "open"])
@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.EIO, errno.ESTALE])
def test_a_read_that_fails_costs_no_file(
    stored: Stored, folder: Path, call: str, code: int, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network folder that times out: the files are sound, only out of reach."""
    original = getattr(os, call)

    def fail(first: Any, *rest: Any) -> Any:
        if call != "open" or first in before:
            raise OSError(code, os.strerror(code))
        return original(first, *rest)

    before = {path: path.read_bytes() for path in segments(folder)}
    with monkeypatch.context() as patch:
        seen = answered(stored, folder, lambda: patch.setattr(os, call, fail))
    assert not seen.cached
    assert os.strerror(code) in seen.paused
    assert len(notices(caplog)) == 1
    assert seen.paused in notices(caplog)[0]
    assert {path: path.read_bytes() for path in segments(folder)} == before
    assert answered(stored, folder).cached


def test_too_many_open_files_damage_none(
    stored: Stored, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    original = os.open
    left = [2]

    def fail(path: Any, *rest: Any) -> int:
        if path in before and left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return original(path, *rest)

    before = segments(folder)
    monkeypatch.setattr(os, "open", fail)
    seen = answered(stored, folder)
    assert not left[0]
    assert seen.cached
    assert not seen.damaged
    assert set(segments(folder)) >= set(before)
    assert not notices(caplog)


def test_a_pipe_under_a_temporary_name_holds_nobody(stored: Stored, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    check_folder(folder / "segments")
    for number in range(1, 6):
        os.mkfifo(folder / "segments" / f".{number:012x}.safetensors.{os.getpid()}.tmp")
    assert answered(stored, folder).report.blocks


def test_verify_and_stats_wait_for_nobody(stored: Stored, folder: Path) -> None:
    """Another process holds the index for long."""
    other = Index(folder)
    with other.writing():
        seen = within(lambda: check.verify(folder), PATIENCE_S)
        assert seen.ok
    other.close()
