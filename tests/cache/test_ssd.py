"""The SSD tier on its own: synthetic runs, real files, a real SQLite index."""

from __future__ import annotations

import errno
import functools
import os
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter.cache import check, files
from omlx_jupyter.cache.index import BlockRow, Index
from omlx_jupyter.cache.keys import Chain, root_key, symbols_of
from omlx_jupyter.cache.planner import Needs, plan_restore
from omlx_jupyter.cache.prefix_cache import CacheSettings, PrefixCache
from omlx_jupyter.cache.ssd import Run, SsdTier, state_key
from omlx_jupyter.errors import CacheError

NAMES = ["0.k", "0.v"]


def run_of(ids: list[int], block: int = 8, seed: int = 0, identity: str = "model") -> Run:
    """A chain's blocks with arrays that say which token they are of."""
    chain = Chain(symbols_of(ids, []), [], root_key(identity))
    blocks = []
    while chain.done < len(ids):
        blocks.append(chain.cut(min(len(ids), chain.done + block)))
    random = np.random.default_rng(seed)
    arrays = {name: random.standard_normal((2, len(ids), 4)).astype(np.float32) for name in NAMES}
    return Run(blocks, arrays, {})


def tier(folder: Path, budget: int = 10**7, identity: str = "model") -> SsdTier:
    return SsdTier(folder, budget, identity, identity)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run = run_of(list(range(40)))
    one, other = tier(tmp_path), tier(tmp_path)
    one.store(run)
    rows = other.locate([b.key for b in run.blocks])
    assert rows is not None
    got = other.read(rows, NAMES)
    assert got is not None
    for name in NAMES:
        assert np.array_equal(got[name], run.arrays[name])
    longer = {name: np.zeros((2, 19, 4), np.float32) for name in NAMES}
    part = other.read(rows[1:3], NAMES, {name: array[:, :16] for name, array in longer.items()})
    assert part is not None
    assert np.array_equal(longer["0.k"][:, :16], run.arrays["0.k"][:, 8:24])
    assert not longer["0.k"][:, 16:].any()
    assert np.array_equal(other.symbols(run.blocks[2].key), run.blocks[2].symbols)


def test_files_are_private(tmp_path: Path) -> None:
    tier(tmp_path / "cache").store(run_of([1, 2, 3]))
    for path in (tmp_path / "cache").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_only_new_blocks_are_written(tmp_path: Path) -> None:
    cache = tier(tmp_path)
    cache.store(run_of(list(range(24))))
    first = cache.stored_bytes
    cache.store(run_of(list(range(24))))
    assert cache.stored_bytes == first
    longer = run_of(list(range(32)))
    cache.store(longer)
    assert 0 < cache.stored_bytes - first < first
    rows = cache.locate([b.key for b in longer.blocks])
    assert rows is not None
    assert len({row.segment for row in rows}) == 2


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    runs = [run_of([n] * 16 + list(range(100)), seed=n) for n in range(4)]
    size = 9000
    cache = tier(tmp_path, budget=3 * size)
    for run in runs[:3]:
        cache.store(run)
        time.sleep(0.01)
    one_segment = cache.total_bytes() / 3
    assert size * 0.7 < one_segment < size
    rows = cache.locate([b.key for b in runs[0].blocks])
    assert cache.read(rows or [], NAMES) is not None
    cache.tend(0.0)
    cache.store(runs[3])
    alive = [cache.locate([b.key for b in run.blocks]) is not None for run in runs]
    assert alive == [True, False, True, True]
    assert cache.evictions == 1
    assert sum(p.stat().st_size for p in (tmp_path / "segments").iterdir()) == cache.total_bytes() <= cache.budget


def test_larger_than_the_budget_is_left_out(tmp_path: Path) -> None:
    cache = tier(tmp_path, budget=1000)
    cache.store(run_of(list(range(100))))
    assert cache.total_bytes() == 0
    assert not cache.paused


@pytest.mark.parametrize("harm", ["gone", "empty", "short", "flipped", "longer", "header", "another"])
def test_a_damaged_file_is_a_miss_and_goes(tmp_path: Path, harm: str, caplog: Any) -> None:
    cache = tier(tmp_path)
    run = run_of(list(range(40)))
    cache.store(run)
    other = run_of(list(range(50, 90)), seed=1)
    cache.store(other)
    keys = [b.key for b in run.blocks]
    rows = cache.locate(keys)
    assert rows is not None
    path = tmp_path / "segments" / f"{rows[0].segment:012x}.safetensors"
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    elif harm == "another":
        rows_of_other = cache.locate([other.blocks[0].key])
        assert rows_of_other
        path.write_bytes((tmp_path / "segments" / f"{rows_of_other[0].segment:012x}.safetensors").read_bytes())
    else:
        data[len(data) // 2] ^= 4
        changed = {
            "empty": b"",
            "short": data[:-9],
            "flipped": data,
            "longer": data + b"x",
            "header": b"\xff" + data[1:],
        }
        path.write_bytes(changed[harm])
    assert not check.verify(tmp_path).ok
    assert cache.read(rows, NAMES) is None
    assert cache.damaged == 1
    assert cache.locate(keys) is None
    assert check.verify(tmp_path).ok
    assert len(caplog.records) == 1
    cache.store(run)  # and it is stored again
    assert cache.read(cache.locate(keys) or [], NAMES) is not None


def test_a_row_can_not_point_at_anothers_data(tmp_path: Path) -> None:
    cache = tier(tmp_path)
    one, other = run_of(list(range(8))), run_of(list(range(8, 16)), seed=2)
    cache.store(one)
    cache.store(other)
    index = Index(tmp_path)
    row = index.blocks([other.blocks[0].key])[other.blocks[0].key]
    with index.writing():
        index._db.execute(
            "UPDATE blocks SET segment = ?, crc = ?, start = ? WHERE key = ?",
            (row.segment, row.crc, row.start, one.blocks[0].key),
        )
    assert cache.read(cache.locate([one.blocks[0].key]) or [], NAMES) is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_turns_the_tier_off_once(tmp_path: Path, monkeypatch: Any, caplog: Any, code: int) -> None:
    """The write itself fails: a disk can't be filled here."""
    cache = tier(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_write_all", fail)
    cache.store(run_of([1, 2, 3]))
    cache.store(run_of([4, 5, 6]))
    assert cache.paused
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    assert list((tmp_path / "segments").iterdir()) == []
    assert tier(tmp_path).total_bytes() == 0


def test_a_folder_deleted_under_a_running_kernel(tmp_path: Path) -> None:
    import shutil

    cache = tier(tmp_path / "cache")
    run = run_of(list(range(20)))
    cache.store(run)
    shutil.rmtree(tmp_path / "cache")
    assert cache.locate([run.blocks[0].key]) is None
    cache.store(run)
    assert not cache.paused
    assert tier(tmp_path / "cache").locate([run.blocks[0].key]) is not None


def test_a_damaged_index_is_begun_anew(tmp_path: Path) -> None:
    cache = tier(tmp_path)
    cache.store(run_of(list(range(20))))
    cache.close()
    for path in tmp_path.glob("index-*"):
        path.write_bytes(b"not a database at all" * 400)
    again = tier(tmp_path)
    again.store(run_of(list(range(20))))
    again.store(run_of(list(range(20))))
    assert not again.paused
    assert check.verify(tmp_path).blocks == 3


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    cache = tier(tmp_path)
    cache.store(run_of([1, 2, 3]))
    index = Index(tmp_path)
    segment = index.reserve(1, 500, cache.budget)
    with index.writing():
        index._db.execute("UPDATE segments SET owner = 999999999 WHERE id = ?", (segment,))
    (tmp_path / "segments" / f"{segment:012x}.safetensors").write_bytes(b"half")
    (tmp_path / "segments" / ".000000000009.safetensors.999999999.tmp").write_bytes(b"half")
    mine = tmp_path / "segments" / f".000000000010.safetensors.{os.getpid()}.tmp"
    mine.write_bytes(b"being written")
    tier(tmp_path).sweep()
    assert sorted(p.name for p in (tmp_path / "segments").iterdir()) == [mine.name, f"{1:012x}.safetensors"]
    assert check.verify(tmp_path).bytes_counted == (tmp_path / "segments" / f"{1:012x}.safetensors").stat().st_size


def test_states_and_features(tmp_path: Path) -> None:
    cache = tier(tmp_path)
    run = run_of(list(range(8)))
    key = state_key(run.blocks[0].key)
    state = {"1.0": np.ones((1, 3), np.float32), "1.1": np.arange(4, dtype=np.uint16)}
    cache.store(Run(run.blocks, run.arrays, {key: state}))
    found = tier(tmp_path).read_extra(key)
    assert found is not None
    assert all(np.array_equal(found[name], state[name]) for name in state)
    assert check.verify(tmp_path).extras == 1


def test_entries_and_clearing(tmp_path: Path) -> None:
    tier(tmp_path, identity="one").store(run_of([1, 2, 3], identity="one"))
    tier(tmp_path, identity="two").store(run_of([1, 2, 3], identity="two"))
    assert [(e.name, e.blocks, e.tokens) for e in check.entries(tmp_path)] == [("one", 1, 3), ("two", 1, 3)]
    assert check.clear(tmp_path, "one") > 0
    assert [e.name for e in check.entries(tmp_path)] == ["two"]
    check.clear(tmp_path)
    assert list((tmp_path / "segments").iterdir()) == []
    assert check.verify(tmp_path).bytes_counted == 0


def test_clearing_says_why_it_cannot(tmp_path: Path, monkeypatch: Any) -> None:
    tier(tmp_path).store(run_of([1, 2, 3]))
    monkeypatch.setattr(check, "Index", functools.partial(Index, busy_s=0.1))
    other = Index(tmp_path)
    with other.writing(), pytest.raises(CacheError, match=r"another kernel is writing into .*; clear it again"):
        check.clear(tmp_path)
    other.close()
    assert check.clear(tmp_path) > 0
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CacheError, match=r"file can't be emptied .*Omlx\.cache_folder"):
        check.clear(tmp_path / "file")


def test_the_writer_drops_rather_than_waits(tmp_path: Path) -> None:
    cache = PrefixCache("m", "m", Needs(), NAMES, CacheSettings(10**7, 10**7, tmp_path, queue_bytes=5000))
    run = run_of(list(range(400)), block=100)
    payloads = [{n: a[:, b.start : b.start + 100] for n, a in run.arrays.items()} for b in run.blocks]
    for block, payload in zip(run.blocks, payloads, strict=True):
        cache.put(block, payload)
    stats = cache.stats()
    assert stats.dropped >= 1
    assert stats.queued_bytes <= 5000
    assert len(cache.ram) == 4
    cache.close()


def test_a_million_blocks(tmp_path: Path) -> None:
    """Look-ups stay quick and the memory small, whatever is stored. Times are generous: a loaded machine
    is no failure; `benchmarks.cache` prints the real ones."""
    import psutil

    index = Index(tmp_path)
    model = index.model_id("model", "model")
    segment = index.reserve(model, 1000, 10**9)
    ids = np.random.default_rng(0).integers(0, 1000, 25_601).tolist()
    chain = Chain(symbols_of(ids, []), [], root_key("model"))
    rows = [
        BlockRow(b.key, b.parent, b.first, segment or 0, 0, 256, 0, 0, 0)
        for b in (chain.cut(chain.done + 256) for _ in range(100))
    ]
    assert index.publish(segment or 0, rows, [])
    noise = np.random.default_rng(1).bytes(32 * 1_000_000)
    with index.writing():
        index._db.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?, 1, 0, 256, 0, 0, 0)",
            ((noise[i : i + 16], noise[i + 16 : i + 32], i % 1000) for i in range(0, len(noise), 32)),
        )
    index.close()
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    cache = PrefixCache("model", "model", Needs(), NAMES, CacheSettings(10**7, 10**9, tmp_path))
    opened = time.perf_counter() - began
    symbols = symbols_of(ids, [])
    times = []
    for _ in range(5):
        began = time.perf_counter()
        plan = plan_restore(cache, root_key("model"), symbols, [], len(ids) - 1, Needs())
        times.append(time.perf_counter() - began)
    assert plan.length == 25_600
    assert psutil.Process().memory_info().rss - before < 50e6
    print(f"opened in {opened * 1000:.1f} ms, 100 blocks looked up in {min(times) * 1000:.2f} ms")
    assert opened < 0.1 * 3
    assert min(times) < 0.005 * 3
    cache.close()
