"""Who prefills next, who waits for whom, and who gives its row away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.scheduler import Limits, Running, Waiting, admit
from omlx_jupyter.engine.turns import Chunks, Turn, chunk_for, chunks_for, pick

from ..conftest import endless, no_cache, noise_image

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=8)


@pytest.mark.parametrize("start", [0, 1, 100, 1570, 1601, 2047, 3000, 7777])
def test_the_grid_follows_from_places_alone(start: int) -> None:
    """Wherever a restore ends: the chunk ends behind it are those of a prompt that was computed from its beginning."""
    chunks = Chunks(128, 830)

    def ends(at: int) -> list[int]:
        found = []
        while at < 10_000:
            at = chunks.after(at)
            found.append(at)
        return found

    assert ends(start) == [end for end in ends(0) if end > start]


def test_chunks_shrink_where_attention_grows_dear() -> None:
    chunks = chunks_for(34_000_000, 2 * 8 * 512, on_gpu=False)
    sizes = [chunks.after(at) - at for at in (0, 1280, 1792, 4096, 8192, 64_000)]
    assert sizes == [128, 128, 64, 64, 32, 16]
    assert chunks_for(34_000_000, 0, on_gpu=False).after(90_112) == 90_240
    assert chunks_for(7_000_000_000, 2 * 28 * 3584, on_gpu=True).after(16_384) == 16_384 + 128


@given(LENGTHS)
def test_nobody_starves(rows: list[tuple[int, bool]]) -> None:
    """Served one token a turn: whoever came first needs at most two turns a token, once no cell is before it."""
    left = {number: length for number, (length, _) in enumerate(rows)}
    background = {number: later for number, (_, later) in enumerate(rows)}
    cells = sum(length for length, later in rows if not later)
    ended: dict[int, int] = {}
    for turn in range(sum(left.values())):
        turns = [Turn(n, left[n], background[n]) for n in left]
        chosen = turns[pick(turns, turn)]
        assert not chosen.background or all(t.background for t in turns)
        left[chosen.number] -= 1
        if not left[chosen.number]:
            del left[chosen.number]
            ended[chosen.number] = turn + 1
    first = min((n for n, (_, later) in enumerate(rows) if not later), default=None)
    if first is not None:
        assert ended[first] <= 2 * rows[first][0]
    assert all(ended[n] <= cells for n, (_, later) in enumerate(rows) if not later)


def test_background_jobs_come_after_cells() -> None:
    waiting = [Waiting(1, background=True), Waiting(2), Waiting(3)]
    assert admit(waiting, [Running(0)], Limits(max_rows=3)) == [2, 3]
    assert admit([Waiting(1, 10)], [Running(0, 20)], Limits(kv_bytes=100), aside=80) == []


def test_chunks_are_of_the_model_and_not_of_the_clock() -> None:
    assert chunk_for(3_000_000, on_gpu=False) == 256
    assert chunk_for(34_000_000, on_gpu=False) == 128
    assert chunk_for(2_000_000_000, on_gpu=False) == 32
    assert chunk_for(500_000_000, on_gpu=True) == 512
    assert chunk_for(70_000_000_000, on_gpu=True) == 128


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
def test_ten_at_once_compute_their_picture_and_prefix_once(
    checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    picture = noise_image(280, 280, 3)

    def asked(question: str) -> list[Message]:
        return [Message("user", [ImagePart(picture), "words " * 60, question])]

    with Engine.load(checkpoint(family), limits=Limits(max_rows=10), cache=no_cache()) as engine:
        wanted = [engine.generate(asked(f"q{i}"), sampling=endless(engine, max_tokens=6)).token_ids for i in range(10)]
    with Engine.load(
        checkpoint(family), limits=Limits(max_rows=10), cache=CacheSettings(2**28, folder=tmp_path)
    ) as engine:
        handles = [engine.submit(asked(f"q{i}"), sampling=endless(engine, max_tokens=6)) for i in range(10)]
        assert [h.result(60).token_ids for h in handles] == wanted
        assert engine.stats().images_encoded == 1
        usages = [h.usage for h in handles]
        computed = [u.prompt_tokens - u.cached_tokens for u in usages]
        assert sorted(computed)[-1] == usages[0].prompt_tokens
        most = {"qwen2_vl": 40, "qwen3_5": 256}[family]  # recurrent layers go on from a chunk's end
        assert sorted(computed)[-3] < most  # the second may come when the first has passed that end


def test_who_was_waited_for_may_end(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    cache = CacheSettings(2**28, folder=tmp_path)
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(prefill_chunk=16, gap_s=1e-6), cache=cache) as engine:
        wanted = [engine.generate("same " * 150 + w, sampling=endless(engine, max_tokens=4)).token_ids for w in "abc"]
        engine.forget()
    with Engine.load(
        checkpoint("qwen2_vl"), limits=Limits(prefill_chunk=16, gap_s=1e-6), cache=CacheSettings(2**28)
    ) as engine:
        first = engine.submit("same " * 150 + "x", sampling=endless(engine, max_tokens=4))
        others = [engine.submit("same " * 150 + w, sampling=endless(engine, max_tokens=4)) for w in "abc"]
        while not first.progress.done:
            time.sleep(0.001)
        first.cancel()
        assert [h.result(60).token_ids for h in others] == wanted


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_background_row_gives_its_place_and_goes_on(
    checkpoint: Callable[..., Path], family: str, temperature: float
) -> None:
    def long(engine: Any) -> SamplingParams:
        return endless(engine, max_tokens=400, temperature=temperature, seed=5)

    with Engine.load(checkpoint(family), limits=Limits(max_rows=1), cache=no_cache()) as engine:
        alone = engine.generate("a long one", sampling=long(engine)).token_ids
        job = engine.submit("a long one", sampling=long(engine), draft=False).in_background()
        for _ in range(3):
            while not job.progress.tokens:
                time.sleep(0.001)
            cell = engine.submit("hi", sampling=endless(engine, max_tokens=3))
            cell.result(30)
            assert not job.done
        assert job.result(60).token_ids == alone
        parked = engine.submit("a long one", sampling=long(engine), draft=False).in_background()
        while not parked.progress.tokens:
            time.sleep(0.001)
        cell = engine.submit("hi", sampling=endless(engine, max_tokens=50))
        while not cell.progress.tokens:
            time.sleep(0.001)
        parked.cancel()
        assert parked.result(10).finish_reason == "cancelled"
        assert cell.result(30).token_ids
