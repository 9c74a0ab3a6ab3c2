"""The index of the SSD tier by its own door: what is stored, in which order it is found and goes, what is refused."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from omlx_jupyter.cache import index as index_module
from omlx_jupyter.cache.index import (
    DOOMED,
    MOST_CHILDREN,
    READY,
    WRITING,
    BlockRow,
    Index,
    UnsafeFolder,
    check_folder,
    kind_of,
    make_folder,
    set_aside,
    word,
)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "cache")


def row(number: int, parent: bytes = b"root", first: int = 7, segment: int = 1) -> BlockRow:
    return BlockRow(number.to_bytes(4, "big") * 4, parent, first, segment, 8 * number, 8, 11, 2, 13)


def segment_of(index: Index, size: int = 100, name: str = "m", rows: tuple[BlockRow, ...] = ()) -> int:
    made = index.reserve(index.model_id(name, name.upper()), size, 10**6)
    assert made is not None
    assert index.publish(made, [replace(r, segment=made) for r in rows], [])
    return made


def test_blocks_are_found_again(index: Index) -> None:
    rows = [row(1), row(2), row(3, first=8), row(4, b"other")]
    made = segment_of(index, rows=tuple(rows))
    assert made == 1
    assert index.children(b"root", 7) == [(row(2).key, 8, 2), (row(1).key, 8, 2)]
    assert index.children(b"root", 9) == []
    assert index.after(b"root", 2) == [row(3).key, row(2).key]
    assert index.after(b"none", 9) == []
    assert index.blocks([r.key for r in rows] + [b"?"]) == {r.key: r for r in rows}
    assert index.segment_blocks(1) == rows
    assert index.segment_blocks(2) == []
    assert index.check() == "ok"


def test_many_keys_are_looked_up_in_parts(index: Index) -> None:
    rows = [row(n, first=n % 3) for n in range(1203)]
    segment_of(index, rows=tuple(rows))
    assert index.blocks([r.key for r in rows]) == {r.key: r for r in rows}
    assert index.blocks([]) == {}


def test_the_newest_children_come_first_and_not_too_many(index: Index) -> None:
    rows = [row(n) for n in range(MOST_CHILDREN + 3)]
    segment_of(index, rows=tuple(rows))
    found = [key for key, _, _ in index.children(b"root", 7)]
    assert found == [r.key for r in reversed(rows)][:256]


def test_a_block_stays_where_it_was_first(index: Index) -> None:
    first, second = segment_of(index, rows=(row(1),)), segment_of(index, rows=(row(1), row(2)))
    assert [r.segment for r in index.blocks([row(1).key, row(2).key]).values()] == [first, second]


def test_extras_are_replaced(index: Index) -> None:
    one, two = (index.reserve(1, 10, 100) for _ in range(2))
    assert (one, two) == (1, 2)
    assert index.publish(1, [], [(b"a", 5), (b"b", 6)])
    assert index.extra(b"a") == (1, 5)
    assert index.extra(b"c") is None
    assert index.publish(2, [], [(b"a", 7)])
    assert index.extra(b"a") == (2, 7)
    assert index.segment_extras(1) == [(b"b", 6)]
    for column in ("segment", "crc"):
        index._db.execute(f"UPDATE extras SET {column} = 'noise' WHERE key = ?", (b"b" if column == "crc" else b"a",))
    assert (index.extra(b"a"), index.extra(b"b")) == (None, None)


def test_a_segments_life(index: Index) -> None:
    made = index.reserve(index.model_id("m", "M"), 100, 100)
    assert made == 1
    assert [(s[0], s[1], s[2], s[3]) for s in index.segments()] == [(1, 100, WRITING, os.getpid())]
    assert not index.is_ready(1)
    assert abs(index.segments()[0][4] - time.time()) < 60
    assert index.publish(1, [row(1)], [(b"x", 1)])
    assert index.is_ready(1)
    assert not index.is_ready(2)
    assert not index.publish(1, [row(2)], [])  # it isn't being written any more
    assert index.blocks([row(2).key]) == {}
    index.doom([1])
    assert [s[2] for s in index.segments()] == [DOOMED]
    assert (index.children(b"root", 7), index.extra(b"x"), index.total_bytes()) == ([], None, 100)
    index.drop([1])
    assert (index.segments(), index.total_bytes()) == ([], 0)
    assert not index.publish(1, [row(3)], [])


def test_the_budget_is_filled_to_the_last_byte(index: Index) -> None:
    assert index.reserve(1, 60, 100) == 1
    assert index.reserve(1, 41, 100) is None
    assert index.reserve(1, 40, 100) == 2
    assert index.total_bytes() == 100
    assert index.reserve(1, 1, 100) is None
    index.drop([1])
    assert index.reserve(1, 60, 100) == 3


def test_room_is_made_of_the_least_recently_used(index: Index) -> None:
    made = [segment_of(index, 100) for _ in range(4)]
    time.sleep(0.01)
    index.touch([made[0]])
    writing = index.reserve(1, 100, 10**6)
    assert [s[0] for s in index.segments()] == [2, 3, 4, 1, writing]
    assert index.make_room(100, 600) == []
    assert index.make_room(100, 401) == [2, 3]
    assert index.make_room(100, 500) == [4]  # doomed bytes count until they are dropped
    index.drop([2, 3, 4])
    assert index.make_room(10**6, 500) == [1]  # what is being written stays
    assert [s[2] for s in index.segments()] == [DOOMED, WRITING]
    assert (WRITING, READY, DOOMED) == (0, 1, 2)


def test_models_and_what_they_hold(index: Index) -> None:
    segment_of(index, 100, "b", (row(1), row(2)))
    segment_of(index, 30, "a", (row(3, b"a"),))
    segment_of(index, 20, "a")
    index.model_id("c", "C")
    assert index.models() == [(2, "A", 50, 1, 8), (1, "B", 100, 2, 16), (3, "C", 0, 0, 0)]
    assert index.doom_model(2) == [2, 3]
    assert index.doom_model(9) == []
    index.drop_model(2, [2, 3])
    assert index.models() == [(1, "B", 100, 2, 16), (3, "C", 0, 0, 0)]


def test_a_rate_is_kept_until_there_is_another(index: Index) -> None:
    assert index.seconds_per_token("m") == 0.0
    assert index.model_id("m", "old") == 1
    assert index.model_id("m", "new", 0.5) == 1
    assert index.model_id("m", "newest") == 1
    assert (index.seconds_per_token("m"), index.models()[0][1]) == (0.5, "newest")
    index.model_id("m", "m", 0.25)
    assert index.seconds_per_token("m") == 0.25
    for damaged, seen in ((3599.0, 3599.0), (3600.0, 0.0), (-1.0, 0.0), (0.0, 0.0)):
        index._db.execute("UPDATE models SET seconds_per_token = ?", (damaged,))
        assert index.seconds_per_token("m") == seen


def test_a_wrong_total_is_counted_anew(index: Index) -> None:
    segment_of(index, 70)
    index._db.execute("UPDATE totals SET bytes = 10000")
    index.recount()
    assert index.total_bytes() == 70
    for harm in ("UPDATE totals SET bytes = 'x'", "DELETE FROM totals"):
        index._db.execute(harm)
        with pytest.raises(sqlite3.DatabaseError, match=r"no total"):
            index.total_bytes()


def test_a_failed_change_leaves_nothing(index: Index) -> None:
    def change() -> None:
        with index.writing():
            index._db.execute("INSERT INTO extras VALUES (?, 1, 1)", (b"k",))
            raise ValueError

    with pytest.raises(ValueError):
        change()
    assert index.extra(b"k") is None
    with index.writing():
        index._db.execute("INSERT INTO extras VALUES (?, 1, 1)", (b"k",))
    assert index.extra(b"k") == (1, 1)


def test_the_file_is_the_one_that_was_opened(index: Index) -> None:
    assert index.path.name == "index-v2.sqlite3"
    assert index.alive()
    os.rename(index.path, index.path.with_suffix(".away"))
    assert not index.alive()
    index.path.write_bytes(b"")
    assert not index.alive()
    index.close()
    with pytest.raises(sqlite3.ProgrammingError):
        index.check()


def test_a_damaged_index_is_moved_away(index: Index) -> None:
    index.close()
    folder = index.path.parent
    (folder / "index-v2.sqlite3-wal").write_bytes(b"w")
    set_aside(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["index-v2.sqlite3-wal.damaged", "index-v2.sqlite3.damaged"]


@pytest.mark.parametrize("field", ["segment", "start", "window", "length", "crc", "first", "symbols_crc"])
def test_a_row_of_noise_is_no_block(field: str) -> None:
    assert row(1).sound
    assert not replace(row(1), **{field: "7"}).sound
    assert replace(row(1), **{field: 1}).sound
    assert replace(row(1), **{field: 0}).sound == (field != "length")
    assert replace(row(1), **{field: -1}).sound == (field in ("crc", "first", "symbols_crc"))
    assert replace(row(1), **{field: 2**31 - 1}).sound
    assert replace(row(1), **{field: 2**31}).sound == (field != "window")


def test_a_row_without_its_keys_is_no_block() -> None:
    assert not replace(row(1), key="text").sound  # type: ignore[arg-type]
    assert not replace(row(1), parent=None).sound  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database is LOCKED"), "busy"),
        (sqlite3.OperationalError("busy"), "busy"),
        (sqlite3.OperationalError("unable to open database file"), "disk"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "disk"),
        (sqlite3.OperationalError("database or disk is full"), "disk"),
        (sqlite3.DatabaseError("file is not a database"), "damaged"),
        (OSError("locked"), "disk"),
        (UnsafeFolder("x"), "disk"),
        (MemoryError(), "disk"),
        (TypeError("busy"), "damaged"),
    ],
)
def test_what_an_error_means(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_an_error_in_a_line() -> None:
    assert word(ValueError("a\n b\x1b[31m")) == "a b\N{REPLACEMENT CHARACTER}[31m"
    assert word(ValueError("")) == "ValueError"
    assert word("x" * 400) == "x" * 300


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    check_folder(folder)
    check_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o720, 0o702):
        folder.chmod(mode)
        with pytest.raises(UnsafeFolder, match=r"others can write into .*; run: chmod 700"):
            check_folder(folder)
    folder.chmod(0o755)
    check_folder(folder)
    (tmp_path / "segments").symlink_to(folder)
    with pytest.raises(NotADirectoryError, match=r"is a link"):
        make_folder(tmp_path / "segments")
    (tmp_path / "shelf").symlink_to(folder)
    make_folder(tmp_path / "shelf")
    monkeypatch.setattr(index_module.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UnsafeFolder, match=r"belongs to another user"):
        check_folder(folder)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    Index(tmp_path).close()
    path = tmp_path / "index-v2.sqlite3"
    assert path.stat().st_mode & 0o777 == 0o600
    sound = path.read_bytes()
    for head in (b"x", b"x" * 40, sound[:17], sound[:18] + b"\3" + sound[19:], sound[:19] + b"\3" + sound[20:]):
        path.write_bytes(head)
        with pytest.raises(sqlite3.DatabaseError, match=r"no SQLite file"):
            Index(tmp_path)
    path.write_bytes(sound)
    with sqlite3.connect(path) as other:
        other.execute("DROP INDEX blocks_parent")
    with pytest.raises(sqlite3.DatabaseError, match=r"lacks blocks_parent"):
        Index(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(sqlite3.DatabaseError, match=r"no regular file"):
        Index(tmp_path)


def test_a_locked_index_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    one, other = Index(tmp_path), Index(tmp_path, busy_s=0.2)
    with one.writing():
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match=r"locked"):
            other.reserve(1, 1, 10)
        assert 0.1 < time.monotonic() - began < 3
        assert other.segments() == []  # readers don't wait
    assert other.reserve(1, 1, 10) == 1
