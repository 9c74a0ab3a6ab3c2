"""A fault while rows are together, or a number that is none, costs what was shared, not the requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.errors import EngineFaultError
from omlx_jupyter.models import switched

from ..conftest import endless, no_cache, noise_image

GREEDY = SamplingParams(temperature=0, max_tokens=12)
PROMPTS = ["Hello", "What is it?", "Tell me about it."]


@pytest.fixture(autouse=True)
def nothing_stays_off() -> Iterator[None]:
    yield
    switched._off.clear()


def broken(engine: Any, breaks: Callable[[Any, Any], Any]) -> None:
    """Let `breaks(ids, logits)` change what steps of several rows compute."""
    model = engine._loop.model
    forward = model.forward

    def faulty(ids: Any, *args: Any, **kwargs: Any) -> Any:
        logits = forward(ids, *args, **kwargs)
        return breaks(ids, logits) if len(engine._loop.runner.batch.rows) > 1 else logits

    model.forward = faulty


def out_of_memory(ids: Any, logits: Any) -> Any:
    raise RuntimeError("out of memory")


def no_numbers(ids: Any, logits: Any) -> Any:
    return logits * mx.array(float("nan"))


def test_rows_that_prefill_meanwhile_wait_for_one_another(checkpoint: Callable[..., Path]) -> None:
    """They were admitted together, before there was a fault."""
    prompts = ["Hello", "x" * 900, "y" * 900]
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(gap_s=1e-4), cache=no_cache()) as engine:
        right = [engine.generate(prompt, sampling=GREEDY).token_ids for prompt in prompts]
        broken(engine, no_numbers)
        shown = engine.submit("Go on", sampling=endless(engine))
        while not shown.progress.tokens:
            time.sleep(0.002)
        handles = [engine.submit(prompt, sampling=GREEDY) for prompt in prompts]
        assert [h.result(60).token_ids for h in handles] == right
        with pytest.raises(EngineFaultError):
            shown.result(30)


@pytest.mark.parametrize("breaks", [out_of_memory, no_numbers])
def test_requests_that_said_nothing_run_again_alone(
    checkpoint: Callable[..., Path], breaks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        right = [engine.generate(prompt, sampling=GREEDY).token_ids for prompt in PROMPTS]
        broken(engine, breaks)
        shown = engine.submit("Go on", sampling=endless(engine))
        while not shown.progress.tokens:
            time.sleep(0.002)
        handles = [engine.submit(prompt, sampling=GREEDY) for prompt in PROMPTS]
        assert [h.result(30).token_ids for h in handles] == right
        with pytest.raises(EngineFaultError):
            shown.result(30)
        able = engine.capabilities
        assert not able.batched
        assert "one at a time until the kernel ends" in able.why["batched"]
        assert "RuntimeError" not in able.why["batched"]
        again = [engine.submit(prompt, sampling=GREEDY) for prompt in PROMPTS]
        assert [h.result(30).token_ids for h in again] == right
        assert max(h.usage.peak_rows for h in again) == 1
    assert any("one at a time" in record.getMessage() for record in caplog.records)


def test_it_stays_off_when_the_model_is_loaded_again(checkpoint: Callable[..., Path]) -> None:
    path = checkpoint("qwen2_vl")
    with Engine.load(path, cache=no_cache()) as engine:
        switched.switch_off(engine._loop.model, "alone", RuntimeError("x"))
    with Engine.load(path, cache=no_cache()) as engine:
        assert not engine.capabilities.batched
        engine.forget_proofs()
    with Engine.load(path, cache=no_cache()) as engine:
        assert engine.capabilities.batched


def test_a_number_that_is_none_ends_a_request_that_runs_alone(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        model = engine._loop.model
        forward = model.forward
        model.forward = lambda ids, *rest, **more: no_numbers(ids, forward(ids, *rest, **more))
        with pytest.raises(EngineFaultError, match="no number"):
            engine.generate("Hello", sampling=GREEDY)
        del model.forward
        assert engine.capabilities.batched
        assert engine.generate("Hello", sampling=GREEDY).token_ids


def test_a_fault_in_pieces_makes_prompts_whole(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.load(checkpoint("mistral3"), cache=CacheSettings(2**26)) as engine:
        asked = [Message("user", [ImagePart(noise_image(90, 60, 1)), "What is it?"])]
        right = engine.generate(asked, sampling=GREEDY).token_ids
        model, embed = engine._loop.model, engine._loop.model.embed

        def faulty(prompt: Any, features: Any) -> Any:
            if features:
                raise RuntimeError("a shape")
            return embed(prompt, features)

        monkeypatch.setattr(model, "embed", faulty)
        engine.forget()
        again = engine.generate(asked, sampling=GREEDY)
        assert (again.token_ids, again.usage.cached_tokens) == (right, 0)
        assert "whole and uncached until the kernel ends" in engine.capabilities.why["cached"]
        assert engine.capabilities.batched
