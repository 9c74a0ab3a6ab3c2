"""Memory, context, pixel budget, repetition: what a request may cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.engine.repetition import LONGEST_PERIOD, loop_period
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.errors import RequestError

from ..conftest import draw_text, endless, noise_image, told_why


def test_a_large_picture_is_shrunk_and_says_so() -> None:
    with Engine.load(pixel_budget=10_000) as engine:
        out = engine.generate(images=[noise_image(400, 100)])
        assert out.notes == (
            "the PIL image was shrunk from 400 x 100 to 200 x 50; raise the pixel budget to keep more of it.",
        )
        assert engine.generate(images=[noise_image(100, 100)]).notes == ()


def test_what_can_never_fit_is_refused_and_the_rest_goes_on() -> None:
    with Engine.load(limits=Limits(kv_bytes=2**20)) as engine:
        small = engine.submit(images=[draw_text("ok")])
        with pytest.raises(RequestError, match=r"about \d+ MiB, but at most 1.0 MiB are there for one; shorten it"):
            engine.generate("x" * 4000)
        with pytest.raises(RequestError, match=r"needs about \d+ MiB, but .*; use fewer or smaller pictures"):
            engine.generate(images=[noise_image(500, 500)])
        assert small.result(10).finish_reason in ("stop", "length")


def test_over_long_prompts_and_answers(tiny: Any) -> None:
    with pytest.raises(RequestError, match=r"tokens, but tiny-ocr takes 8,192"):
        tiny.generate("y" * 9000)
    out = tiny.generate("y" * 8100, sampling=SamplingParams(max_tokens=5000))
    assert out.usage.total_tokens <= 8192


def test_memory_bounds_the_rows(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(kv_bytes=800_000)) as engine:
        settings = endless(engine, max_tokens=400)  # each about 330 kB of KV
        handles, seen = told_why(engine, lambda: [engine.submit("go", sampling=settings) for _ in range(4)])
        assert "memory" in seen
        together = {tuple(h.result(60).token_ids) for h in handles}
        assert max(h.usage.peak_rows for h in handles) == 2
        assert len(together) == 1


def test_rows_bound_the_batch(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(max_rows=2)) as engine:
        sampling = endless(engine, max_tokens=60)
        handles, seen = told_why(engine, lambda: [engine.submit("go", sampling=sampling) for _ in range(5)])
        assert seen == "all 2 rows are in use"
        assert all(h.result(60).token_ids for h in handles)
        assert max(h.usage.peak_rows for h in handles) == 2


def test_an_ocr_request_that_loops_is_ended() -> None:
    with Engine.load() as engine:
        forced = SamplingParams(temperature=0, max_tokens=2000, logit_bias={65: 1e4})
        out = engine.generate(images=[draw_text("x")], sampling=forced)
    assert out.finish_reason == "stop"
    assert "repeated itself" in out.detail
    assert 160 <= len(out.token_ids) < 200


@given(st.integers(1, LONGEST_PERIOD), st.lists(st.integers(0, 50), max_size=50), st.data())
def test_loops_are_found_at_any_period(period: int, before: list[int], data: Any) -> None:
    unit = data.draw(st.lists(st.integers(0, 99), min_size=period, max_size=period))
    times = max(8, -(-160 // period))
    found = loop_period(before + unit * times)
    assert found is not None
    assert found <= period
    assert period % found == 0 or unit == unit[:found] * (period // found)


def test_ordinary_repetition_is_no_loop() -> None:
    assert loop_period([1, 2, 3] * 20) is None
    assert loop_period([7] * 120) is None
    rows = [t for i in range(60) for t in (1, 2, i, 3)]
    assert loop_period(rows) is None


def test_a_short_prompt_does_not_wait_for_a_long_one(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(prefill_chunk=16, gap_s=1e-6)) as engine:
        alone = engine.generate("short", sampling=endless(engine, max_tokens=8)).token_ids
        long = engine.submit("long " * 800, sampling=endless(engine, max_tokens=8))
        while not long.progress.done:
            long.poll(0.001)
        short = engine.submit("short", sampling=endless(engine, max_tokens=8))
        assert short.result(30).token_ids == alone
        assert long.progress.phase == "prefill"
        assert long.result(60).finish_reason == "length"


def test_a_picture_that_is_decoded_already_is_shrunk_too() -> None:
    from omlx_jupyter.images.source import open_images

    (picture,) = open_images(noise_image(400, 300))
    with Engine.load(pixel_budget=10_000) as engine:
        out = engine.generate("Read.", [picture], SamplingParams(max_tokens=1))
        assert any("was shrunk from 400 x 300" in note for note in out.notes)
