"""Processes that are killed, that share a folder, and files that change under them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter.cache import check
from omlx_jupyter.cache.index import Index

from . import work

PROMPTS = 24
BUDGET = 1_500_000
KILLS = int(os.environ.get("OMLX_TORTURE_KILLS", "40"))


@pytest.fixture(scope="module")
def reference(checkpoint: Callable[..., Path]) -> dict[str, list[list[int]]]:
    """Tokens of every prompt with no cache at all."""
    found = {}
    for family in ("qwen2_vl", "qwen3_5"):
        found[family] = [tokens for tokens, _ in work.answers(checkpoint(family), None, list(range(PROMPTS)), ram=0)]
    return found


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "segments").iterdir())


def test_killed_at_random_moments(
    checkpoint: Callable[..., Path], reference: Any, processes: Any, tmp_path: Path
) -> None:
    """Nothing indexed is ever damaged, no restore is wrong, the budget holds, whenever the kill comes."""
    choose = random.Random(7)
    restored = 0
    for kill in range(KILLS):
        family = ("qwen2_vl", "qwen3_5")[kill % 2]
        started = processes.Event()
        arguments = (checkpoint(family), tmp_path, kill, PROMPTS, BUDGET, started)
        child = processes.Process(target=work.run_for_ever, args=arguments, daemon=True)
        child.start()
        assert started.wait(60)
        time.sleep(choose.uniform(0.05, 0.7))
        assert child.is_alive()
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        report = check.verify(tmp_path)
        assert report.ok, report.problems
        assert report.bytes_counted <= BUDGET
        assert on_disk(tmp_path) <= BUDGET
        if kill % 4 < 2:
            numbers = [choose.randrange(PROMPTS) for _ in range(2)]
            for number, (tokens, cached) in zip(
                numbers, work.answers(checkpoint(family), tmp_path, numbers, ram=1, ssd=BUDGET), strict=True
            ):
                assert tokens == reference[family][number]
                restored += cached > 0
    assert restored > KILLS // 8
    print(f"{KILLS} kills: 0 damaged blocks, {restored} restores compared, {check.verify(tmp_path).blocks} blocks left")


def test_four_processes_share_a_folder_and_a_budget(
    checkpoint: Callable[..., Path], reference: Any, processes: Any, tmp_path: Path
) -> None:
    out = processes.Queue()
    numbers = [list(range(start, PROMPTS, 4)) + list(range(PROMPTS)) for start in range(4)]
    children = [
        processes.Process(target=work.run_some, args=(checkpoint("qwen2_vl"), tmp_path, n, BUDGET, out))
        for n in numbers
    ]
    for child in children:
        child.start()
    most, done = 0, []
    while len(done) < 4:
        if (tmp_path / "segments").exists():
            with contextlib.suppress(FileNotFoundError):  # evicted while being counted
                most = max(most, on_disk(tmp_path))
        if not out.empty():
            done.append(out.get())
        time.sleep(0.01)
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    wanted = {tuple(n): [reference["qwen2_vl"][i] for i in n] for n in numbers}
    assert sorted([tokens for tokens, _ in answers] for answers in done) == sorted(wanted.values())
    assert most <= BUDGET
    report = check.verify(tmp_path)
    assert report.ok
    assert report.bytes_counted == report.bytes_on_disk  # no row lost, none doubled
    index = Index(tmp_path)
    rows = index._db.execute("SELECT COUNT(*), COUNT(DISTINCT key) FROM blocks").fetchone()
    assert rows[0] == rows[1] > 0


def test_written_by_one_a_hit_in_another(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = checkpoint("qwen2_vl")
    with work.open_engine(path, tmp_path) as one, work.open_engine(path, tmp_path) as other:
        first = one.generate(work.prompt(5, True), sampling=work.GREEDY)
        time.sleep(2.0)
        second = other.generate(work.prompt(5, True), sampling=work.GREEDY)
    assert second.token_ids == first.token_ids
    assert second.usage.cached_tokens_ssd == first.usage.prompt_tokens - 1
    assert second.usage.images_encoded == 0


def harm_file(choose: random.Random, folder: Path) -> None:
    paths = sorted((folder / "segments").iterdir())
    if not paths:
        return
    path = choose.choice(paths)
    data = bytearray(path.read_bytes())
    how = choose.randrange(6)
    if how == 0 and data:
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        path.write_bytes(data)
    elif how == 1:
        path.write_bytes(data[: choose.randrange(len(data) + 1)])
    elif how == 2:
        other = choose.choice(paths)
        swapped = other.read_bytes()
        other.write_bytes(data)
        path.write_bytes(swapped)
    elif how == 3:
        path.write_bytes(b"")
    elif how == 4:
        path.write_bytes(choose.randbytes(len(data)))
    else:
        path.unlink()


def harm_index(choose: random.Random, folder: Path) -> None:
    """Change a value of a random row to another row's, or to nonsense."""
    index = Index(folder)
    columns = ("key", "parent", "first", "segment", "start", "length", "crc", "window", "symbols_crc")
    with index.writing():
        ids = [row[0] for row in index._db.execute("SELECT rowid FROM blocks")]
        if ids:
            column, one, other = choose.choice(columns), choose.choice(ids), choose.choice(ids)
            value = index._db.execute(f"SELECT {column} FROM blocks WHERE rowid = ?", (other,)).fetchone()[0]
            nonsense = [value, -1, 0, 3, 2**40, "text", b"\x01" * 16]
            index._db.execute(
                f"UPDATE OR IGNORE blocks SET {column} = ? WHERE rowid = ?", (choose.choice(nonsense), one)
            )
        if choose.random() < 0.3:
            index._db.execute("UPDATE OR IGNORE extras SET crc = crc + 1 WHERE rowid % 3 = 0")
    index.close()


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
def test_whatever_changes_the_answers_do_not(
    family: str, checkpoint: Callable[..., Path], reference: Any, tmp_path: Path
) -> None:
    """Files are flipped, cut, swapped, emptied, replaced and removed, index rows rewritten."""
    choose = random.Random(11)
    work.answers(checkpoint(family), tmp_path, list(range(PROMPTS)))
    restored = damaged = 0
    with work.open_engine(checkpoint(family), tmp_path, ram=1) as engine:
        for _ in range(60):
            for _ in range(choose.randint(1, 3)):
                choose.choice((harm_file, harm_index))(choose, tmp_path)
            number = choose.randrange(PROMPTS)
            made = engine.generate(work.prompt(number, True), sampling=work.GREEDY)
            assert made.token_ids == reference[family][number]
            restored += made.usage.cached_tokens_ssd > 0
            assert engine._loop._runner.reuse.cache.writer.flush()  # what was lost is on disk again, to be harmed
        stats = engine.stats().cache
        damaged = stats.ssd_damaged
        assert not stats.ssd_paused
    assert restored > 10
    assert damaged > 5
