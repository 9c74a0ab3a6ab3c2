"""Admission and chunks, on integers alone."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter.engine.scheduler import Limits, Running, Waiting, admit, next_chunk, why_waiting
from omlx_jupyter.engine.turns import Chunks, Turn, chunk_for, chunks_for, gap_target, pick


def test_first_come_first_served_up_to_the_rows() -> None:
    waiting = [Waiting(n) for n in (5, 3, 4)]
    assert admit(waiting, [Running(1)], Limits(max_rows=3)) == [3, 4]


def test_a_request_that_does_not_fit_holds_the_line() -> None:
    waiting = [Waiting(1, 80), Waiting(2, 1)]
    assert admit(waiting, [Running(0, 50)], Limits(kv_bytes=100)) == []
    assert admit(waiting, [], Limits(kv_bytes=10)) == [1]


def test_a_family_that_cannot_share_runs_alone() -> None:
    waiting = [Waiting(1, alone=True), Waiting(2)]
    assert admit(waiting, [], Limits()) == [1]
    assert admit(waiting, [Running(0, alone=True)], Limits()) == []
    assert admit([Waiting(1, alone=True)], [Running(0)], Limits()) == []


def test_what_is_asked_without_bounds() -> None:
    assert astuple(Limits()) == (8, 0, 0, 0.0, 0, 20.0)
    assert astuple(Waiting(3)) == (3, 0, False, False)
    assert astuple(Running(3)) == (3, 0, False)
    assert (Turn(1, 2).background, Chunks(4).alike_at) == (False, math.inf)
    for value in (Limits(), Waiting(1), Running(1), Turn(1, 2), Chunks(4)):
        with pytest.raises(FrozenInstanceError):
            setattr(value, next(iter(value.__dataclass_fields__)), 9)


def test_the_bytes_are_filled_to_the_last_one() -> None:
    """Of running rows, of rows put aside and of those admitted just now."""
    limits = Limits(kv_bytes=100)
    assert admit([Waiting(2, 20)], [Running(0, 50), Running(1, 10)], limits, aside=20) == [2]
    assert admit([Waiting(2, 21)], [Running(0, 50), Running(1, 10)], limits, aside=20) == []
    assert admit([Waiting(1, 60), Waiting(2, 40), Waiting(3, 1)], [], limits) == [1, 2]
    assert admit([Waiting(1, 1)], [], Limits(kv_bytes=100), aside=100) == [1]
    assert admit([Waiting(2, 1)], [Running(1, 0)], Limits(kv_bytes=1)) == [2]
    assert admit([Waiting(2, 2)], [Running(1, 0)], Limits(kv_bytes=1)) == []
    assert admit([Waiting(2, 10**15)], [Running(1, 10**15)], Limits()) == [2]


def test_who_runs_alone_neither_joins_nor_is_joined() -> None:
    assert admit([Waiting(2)], [Running(0, alone=True), Running(1)], Limits()) == []
    assert admit([Waiting(1), Waiting(2, alone=True), Waiting(3)], [], Limits()) == [1]
    assert admit([Waiting(1), Waiting(2)], [Running(0)], Limits()) == [1, 2]


def test_memory_is_asked_for_all_that_would_be_admitted() -> None:
    asked: list[list[int]] = []

    def fits(numbers: list[int]) -> bool:
        asked.append(numbers)
        return len(numbers) < 3

    assert admit([Waiting(n) for n in (1, 2, 3, 4)], [], Limits(), fits=fits) == [1, 2]
    assert asked == [[1], [1, 2], [1, 2, 3]]


def test_background_jobs_go_last_and_in_order() -> None:
    waiting = [Waiting(1, background=True), Waiting(4), Waiting(2, background=True), Waiting(3)]
    assert admit(waiting, [], Limits()) == [3, 4, 1, 2]


def test_why_somebody_waits() -> None:
    limits = Limits(max_rows=2, kv_bytes=3 << 20)
    assert why_waiting(1, True, limits) == "this family's requests run one at a time"
    assert why_waiting(2, True, limits, "no proof") == "this family's requests run one at a time (no proof)"
    for rows in (2, 3):
        assert why_waiting(rows, False, limits) == "all 2 rows are in use"
    assert why_waiting(1, False, limits) == "memory: 3.0 MiB are set aside for requests"


def test_a_chunk_ends_at_the_grid_a_stop_or_before_the_last_token() -> None:
    chunks = Chunks(10)
    assert next_chunk(0, 100, chunks) == 10
    assert next_chunk(7, 100, chunks) == 3
    assert next_chunk(95, 100, chunks) == 4
    assert next_chunk(99, 100, chunks) == 0
    assert next_chunk(0, 1, chunks) == next_chunk(5, 1, chunks) == 0
    assert next_chunk(0, 100, chunks, (8, 4, 6)) == 4
    assert next_chunk(4, 100, chunks, (4, 8)) == 4
    assert next_chunk(4, 100, chunks, (10, 12)) == 6


def test_chunks_halve_where_attention_is_as_dear_as_the_weights() -> None:
    """At a token that costs three times its weights half of it, at six a quarter, and never under 16 tokens."""
    chunks = Chunks(128, 100)
    assert [chunks.after(at) - at for at in (0, 128, 256, 512, 1024, 1280, 10**6 // 128 * 128)] == [
        *(128, 128, 64, 32, 32, 16, 16),
    ]
    assert chunks.after(255) == 256
    assert chunks.after(256 + 65) == 256 + 128
    assert [Chunks(8, 1).after(at) for at in (0, 7, 8, 800)] == [8, 8, 16, 808]
    assert Chunks(100, 100).after(200) == 250  # (1 + 2) / 1.5 is two, the first halving
    assert Chunks(100, 100.5).after(200) == 300


def test_chunks_are_of_the_model_and_of_the_device() -> None:
    assert (gap_target(on_gpu=True), gap_target(on_gpu=False)) == (0.05, 0.2)
    assert chunks_for(2**25, 2**10, on_gpu=False) == Chunks(128, 2**15 / 5)
    assert chunks_for(2**25, 2**10, on_gpu=True) == Chunks(512, 2**15)
    assert chunks_for(2**25, 0, on_gpu=True) == Chunks(512)
    assert chunks_for(2**25, 1, on_gpu=True).alike_at == 2**25
    assert [chunk_for(n, on_gpu=False) for n in (0, 1, 4 * 10**9 // 256, 4 * 10**9 // 64, 4 * 10**9)] == [
        *(256, 256, 256, 64, 32),
    ]
    assert [chunk_for(n, on_gpu=True) for n in (1, 5 * 10**11 // 256, 10**15)] == [512, 256, 128]
    assert [chunk_for(int(4e9 / 64 * x), on_gpu=False) for x in (0.72, 0.98, 1.02, 1.4)] == [64] * 4
    assert [chunk_for(int(5e11 / 256 * x), on_gpu=True) for x in (0.72, 1.4)] == [256] * 2


def test_turns_are_of_the_shortest_and_of_the_oldest() -> None:
    rows = [Turn(3, 5), Turn(1, 9), Turn(2, 5), Turn(0, 1, background=True)]
    assert [pick(rows, count) for count in range(4)] == [2, 1, 2, 1]
    later = [Turn(2, 3, background=True), Turn(1, 4, background=True)]
    assert [pick(later, count) for count in range(2)] == [0, 1]


REQUESTS = st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=12)


@given(REQUESTS, st.integers(1, 5), st.integers(1, 200))
def test_everyone_is_served_in_order(requests: list[tuple[int, bool]], rows: int, kv: int) -> None:
    limits = Limits(max_rows=rows, kv_bytes=kv)
    waiting = [Waiting(n, size, alone) for n, (size, alone) in enumerate(requests)]
    running: list[Running] = []
    served: list[int] = []
    for _ in range(3 * len(requests) + 1):
        for number in admit(waiting, running, limits):
            request = next(w for w in waiting if w.number == number)
            waiting.remove(request)
            running.append(Running(number, request.kv_bytes, request.alone))
            served.append(number)
        assert len(running) <= rows
        assert len(running) <= 1 or sum(r.kv_bytes for r in running) <= kv
        assert len(running) <= 1 or not any(r.alone for r in running)
        if running:
            running.pop(0)
    assert served == sorted(served) == list(range(len(requests)))


ALIKE = st.sampled_from([float("inf"), 90.0, 700.0])


@given(st.integers(1, 3000), st.integers(1, 300), ALIKE, st.lists(st.integers(0, 3000), max_size=4))
def test_chunks_cover_all_but_the_last_token(total: int, chunk: int, alike: float, stops: list[int]) -> None:
    done, ends = 0, []
    while count := next_chunk(done, total, Chunks(chunk, alike), tuple(stops)):
        assert 0 < count <= chunk
        done += count
        ends.append(done)
    assert done == total - 1
    assert all(s in ends for s in stops if 0 < s < total - 1)
