"""Runs by shares: what is left, what a killed server leaves, and that a share is there once."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest

from omlx_jupyter import connect
from omlx_jupyter.errors import EngineClosedError, RequestError, RunError
from omlx_jupyter.runs import shares as room
from omlx_jupyter.runs.record import Record
from omlx_jupyter.runs.share_reader import ShareReader
from omlx_jupyter.runs.shares import Share, share_items, shares, write_part

from ..conftest import draw_text
from .conftest import ROOT, Served, end, start, until


@pytest.fixture(scope="module")
def reads() -> Iterator[Served]:
    made = start(f"s{os.getpid()}", ["tiny-ocr"])
    yield made
    end(made)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    for n in range(12):
        draw_text(f"Page {n}").save(tmp_path / "scans" / f"{n:02}.png")
    return tmp_path / "scans"


def rows(out: Path) -> list[dict[str, Any]]:
    return list(parquet.read_table(out).to_pylist())


def record(source: str, text: str = "x", error: str = "", page: int | None = None) -> Record:
    return Record(source, page, text=text, error=error, usage={"completion_tokens": 3})


def test_what_is_left_comes_in_shares(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = list(shares(scans, out, 5))
    assert [len(share["sources"]) for share in first] == [5, 5, 2]
    assert [name for share in first for name in share["sources"]] == sorted(map(str, scans.iterdir()))
    write_part(out, first[1]["part"], map(record, first[1]["sources"]))
    assert list(shares(scans, out, 5)) == [first[0], first[2]]  # the same shares, so that one that is read twice is one
    (scans / "05b.png").write_bytes(b"new")
    assert [name for share in shares(scans, out, 50) for name in share["sources"]] == sorted(
        [*first[0]["sources"], *first[2]["sources"], str(scans / "05b.png")]
    )
    for share in shares(scans, out, 3):
        write_part(out, share["part"], map(record, share["sources"]))
    assert list(shares(scans, out)) == []
    assert sorted(row["source"] for row in rows(out)) == sorted(map(str, scans.iterdir()))


def test_a_share_that_is_written_twice_is_there_once_and_the_failed_are_asked_again(tmp_path: Path) -> None:
    said = [record("a"), record("r.pdf", "", "it failed", page=2), record("r.pdf", page=1)]
    for _ in range(2):
        write_part(tmp_path, "part-1.parquet", said)
    assert len(rows(tmp_path)) == 3
    (again,) = shares("nothing/", tmp_path, retry=True)
    assert again == {"part": "part-1.parquet", "sources": ["r.pdf[2]"]}
    write_part(tmp_path, again["part"], [record("r.pdf", "two", page=2)])
    assert [(row["source"], row["page"], row["text"], row["error"], row["tokens"]) for row in rows(tmp_path)] == [
        ("a", None, "x", "", 3),
        ("r.pdf", 2, "two", "", 3),
        ("r.pdf", 1, "x", "", 3),
    ]
    assert list(shares("nothing/", tmp_path, retry=True)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["part-1.parquet"]


def test_a_long_address_is_known_again(tmp_path: Path) -> None:
    address = "https://example.org/" + "a" * 600
    (share,) = shares([address], tmp_path)
    (item,) = share_items(share["sources"], room.Limits())
    write_part(tmp_path, share["part"], [record(item.source)])
    assert list(shares([address], tmp_path)) == []


def test_drivers_beside_one_another_have_no_source_in_common(scans: Path, tmp_path: Path) -> None:
    found = [
        [name for share in shares(scans, tmp_path, 2, shard=(k, 3)) for name in share["sources"]] for k in range(3)
    ]
    assert sorted(name for some in found for name in some) == sorted(map(str, scans.iterdir()))
    assert sum(map(bool, found)) > 1


def test_what_is_no_source_and_no_part(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds nothing to read"):
        list(shares(tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(RunError, match="a size of 1 or more"):
        list(shares("a.png", tmp_path / "out", 0))
    (tmp_path / "part-1.parquet").write_bytes(b"torn")
    with pytest.raises(RunError, match="is no part of a run"):
        list(shares("a.png", tmp_path))
    with pytest.raises(RunError, match="isn't UTF-8"):
        list(shares([b"\xff.png".decode("utf-8", "surrogateescape")], tmp_path / "out"))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RunError, match="can't be written"):
        write_part(tmp_path / "out", "part-1.parquet", [record("a")])


def test_a_draft_that_nobody_writes_goes(tmp_path: Path) -> None:
    old, new = tmp_path / ".part-1.parquet.7-a", tmp_path / ".part-1.parquet.8-b"
    for draft in (old, new):
        draft.write_bytes(b"")
    os.utime(old, (1, 1))
    assert list(shares(["a.png"], tmp_path))
    assert not old.exists()
    assert new.exists()


def test_rows_of_parquet_are_found_by_their_numbers(scans: Path, tmp_path: Path) -> None:
    held = [path.read_bytes() for path in sorted(scans.iterdir())]
    paths = [{"bytes": None, "path": str(path)} for path in sorted(scans.iterdir())]
    place = tmp_path / "pages.parquet"
    parquet.write_table(pyarrow.table({"image": held, "file": paths}), place, row_group_size=4)
    names = [name for share in shares(f"{place}::image", tmp_path / "out", 5) for name in share["sources"]]
    assert names == [f"{place}::image#{row}" for row in range(1, 13)]
    wanted = [
        names[1],
        names[7],
        f"{place}::file#12",
        f"{place}::image#13",
        f"{place}::no#1",
        f"{tmp_path}/x.parquet::a#1",
    ]
    found = list(share_items(wanted, room.Limits()))
    assert [item.source for item in found] == wanted
    for item, row in zip(found[:3], (2, 8, 12), strict=True):
        expected = draw_text(f"Page {row - 1}")
        assert item.open()[0].pil().tobytes() == expected.convert("RGB").tobytes()
    for item, why in zip(found[3:], ("no such row", "no column", "can't be read"), strict=True):
        with pytest.raises(RunError, match=why):
            item.open()


def test_a_batch_is_read_and_a_broken_picture_is_a_row(scans: Path, tmp_path: Path, reads: Served) -> None:
    (scans / "03.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    reader = ShareReader(out, [reads.name], ahead=5)
    batch = list(shares([*scans.iterdir(), scans / "gone.png"], out, 7))
    done = reader({"part": [share["part"] for share in batch], "sources": [share["sources"] for share in batch]})
    assert done["rows"] == [7, 6]
    assert sum(done["failed"]) == 2
    made = {Path(row["source"]).name: row for row in rows(out)}
    assert [name for name, row in made.items() if row["error"]] == [
        name for name in made if name in ("03.png", "gone.png")
    ]
    assert sum(made[f"{n:02}.png"]["text"] == f"Page {n}" for n in range(12)) >= 10
    assert sum(row["tokens"] for row in made.values()) == sum(done["tokens"]) > 30
    draw_text("Page 3").save(scans / "03.png")
    (again,) = [s for s in shares([], out, retry=True) if str(scans / "03.png") in s["sources"]]
    assert pickle.loads(pickle.dumps(reader)).read(again)["failed"] == len(again["sources"]) - 1
    assert len(rows(out)) == 13
    reader.close()


def test_a_server_that_is_killed_is_waited_for(scans: Path, tmp_path: Path) -> None:
    served = start(f"k{os.getpid()}", ["tiny-ocr"])
    reader = ShareReader(tmp_path / "out", served.name, ahead=4)
    (share,) = shares([*scans.iterdir()] * 1, tmp_path / "out")
    done: list[Any] = []
    reading = threading.Thread(target=lambda: done.append(reader.read(share)))
    with connect(served.name) as look:
        reading.start()
        until(lambda: look.requests())
        served.kill()
    again = start(served.name, ["tiny-ocr"])
    try:
        reading.join(60)
        assert done == [{"part": share["part"], "rows": 12, "failed": 0, "tokens": done[0]["tokens"]}]
        assert sorted(row["source"] for row in rows(tmp_path / "out")) == sorted(share["sources"])
    finally:
        reader.close()
        end(again)


def test_no_server_and_no_such_model(scans: Path, tmp_path: Path, reads: Served) -> None:
    share: Share = {"part": "part-1.parquet", "sources": ["a.png"]}
    with pytest.raises(EngineClosedError, match="there is no server nobody"):
        ShareReader(tmp_path, "nobody", wait_s=0).read(share)
    with pytest.raises(RequestError):
        ShareReader(tmp_path, reads.name, model="/etc").read(share)
    assert list(tmp_path.glob("part-*")) == []  # nothing was read


WORKER = """
import sys
from omlx_jupyter.runs.share_reader import ShareReader
from omlx_jupyter.runs.shares import shares
(share,) = shares(sys.argv[1], sys.argv[2])
print(ShareReader(sys.argv[2], sys.argv[3]).read(share)["rows"])
print([name for name in sys.modules if name.split(".")[0] in ("mlx", "transformers", "openai")])
"""


def test_a_worker_imports_no_mlx(scans: Path, tmp_path: Path, reads: Served) -> None:
    command = [sys.executable, "-c", WORKER, str(scans), str(tmp_path / "out"), reads.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n")[:2] == ["12", "[]"], done.stderr
