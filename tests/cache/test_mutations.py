"""Random changes to the bytes of an index and its segments: the answers stay, nothing hangs, nothing raises.

`OMLX_TORTURE_MUTATIONS=N` does N of them a family.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter.cache import check
from omlx_jupyter.cache.index import READY, SCHEMA, Index

from ..stress import work
from ..stress.test_kill import harm_index
from .harm import INDEX, Stored, asked, fill, notices, segments, within

MUTATIONS = int(os.environ.get("OMLX_TORTURE_MUTATIONS", "10"))
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B)


def mutated(choose: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, set, removed, put in, repeated, zeroed or cut off; often near the beginning."""
    made = bytearray(data)
    for _ in range(choose.choice((1, 1, 2, 5, 20))):
        at = choose.randrange(min(len(made), choose.choice((20, 200, 5000, len(made)))) or 1) if made else 0
        length = choose.choice((1, 1, 2, 4, 8, 64, 700))
        how = choose.randrange(8)
        if how == 0 and made:
            made[at] ^= 1 << choose.randrange(8)
        elif how == 1 and made:
            made[at] = choose.choice(INTERESTING)
        elif how == 2:
            made[at : at + length] = choose.randbytes(len(made[at : at + length]))
        elif how == 3:
            del made[at : at + length]
        elif how == 4:
            made[at:at] = choose.randbytes(length)
        elif how == 5:
            made[at:at] = made[at : at + length]
        elif how == 6:
            made[at : at + length] = bytes(len(made[at : at + length]))
        elif choose.random() < 0.2:
            del made[at:]
    return bytes(made)


def digits(choose: random.Random, data: bytes) -> bytes:
    """Other digits in a segment's header: places, shapes and types that can be read and are wrong."""
    length = int.from_bytes(data[:8], "little")
    places = [i for i in range(8, min(8 + length, len(data))) if chr(data[i]).isdigit()]
    made = bytearray(data)
    for at in choose.sample(places, min(len(places), choose.choice((1, 2, 6)))):
        made[at] = choose.choice(b"0123456789")
    return bytes(made)


def mutate(choose: random.Random, folder: Path) -> None:
    kind = choose.random()
    paths = segments(folder)
    if kind < 0.45 and paths:
        for path in choose.sample(paths, choose.randint(1, len(paths))):
            change = digits if choose.random() < 0.3 else mutated
            path.write_bytes(change(choose, path.read_bytes()))
    elif kind < 0.9:
        path = folder / INDEX
        path.write_bytes(mutated(choose, path.read_bytes()))
    else:
        try:
            harm_index(choose, folder)
        except Exception:
            return  # it was damaged already


@pytest.mark.timeout(600 + 5 * MUTATIONS)
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
def test_random_bytes_change_no_answer(
    family: str, checkpoint: Callable[..., Path], tmp_path: Path, caplog: Any, capsys: Any
) -> None:
    stored = fill(checkpoint(family), tmp_path / "filled")
    choose = random.Random(f"mutations {family}")
    counts = {"restored": 0, "dropped": 0, "begun anew": 0, "off": 0, "reported": 0}
    for number in range(MUTATIONS):
        folder = stored.copy(tmp_path / "cache")
        state = choose.getstate()
        for _ in range(choose.randint(1, 2)):
            mutate(choose, folder)
        caplog.clear()
        try:
            within(lambda folder=folder: one(stored, folder, counts))
            told = notices(caplog)
            assert sum("begun anew" in text or "is off" in text for text in told) <= 2
        except BaseException:
            shutil.copytree(folder, tmp_path / "failed")
            print(f"mutation {number} of {family}, state {hash(state)}")
            raise
        counts["begun anew"] += any("begun anew" in text for text in told)
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\n{MUTATIONS} mutations of {family}: {counts}")
    assert counts["restored"] > MUTATIONS // 4
    assert counts["dropped"] + counts["begun anew"] > MUTATIONS // 4


def one(stored: Stored, folder: Path, counts: dict[str, int]) -> None:
    """A mutated folder is looked through, then used, then looked through again."""
    counts["reported"] += not check.verify(folder).ok
    check.entries(folder)
    with work.open_engine(stored.checkpoint, folder, ram=1) as engine:
        counts["restored"] += asked(engine, stored) > 0
        assert engine._loop._runner.reuse.cache.writer.flush()
        asked(engine, stored)
        stats = engine.stats().cache
        counts["dropped"] += stats.ssd_damaged
        counts["off"] += bool(stats.ssd_paused)
    check.verify(folder)
    check.clear(folder)


def test_what_verify_calls_sound_is_what_was_stored(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """Any byte of a segment's data or header that verify lets pass makes no difference."""
    stored = fill(checkpoint("qwen3_5"), tmp_path / "filled")
    index = Index(stored.folder)
    ready = [row[0] for row in index.segments() if row[2] == READY]
    index.close()
    assert len(ready) == len(segments(stored.folder))
    assert (stored.folder / f"index-v{SCHEMA}.sqlite3").is_file()
    choose = random.Random(3)
    path = segments(stored.folder)[0]
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(40):
        made = bytearray(data)
        made[choose.randrange(header, len(data))] ^= 1 << choose.randrange(8)
        path.write_bytes(made)
        assert not check.verify(stored.folder).ok
    path.write_bytes(data)
    assert check.verify(stored.folder).ok
