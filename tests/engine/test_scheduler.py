"""Admission and chunks, on integers alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter.engine.scheduler import Limits, Running, Waiting, admit, next_chunk
from omlx_jupyter.engine.turns import Chunks


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
