"""Sampling per row: seeds, penalties, biases, log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.errors import RequestError


@pytest.fixture(scope="module")
def engine(checkpoint: Callable[..., Path]) -> Iterator[Any]:
    with Engine.load(checkpoint("qwen2_vl")) as made:
        yield made


def ids(engine: Any, **sampling: Any) -> list[int]:
    return engine.generate("Tell me", sampling=SamplingParams(**{"max_tokens": 24, **sampling})).token_ids


def test_the_same_seed_gives_the_same_tokens_whatever_the_batch(engine: Any) -> None:
    settings = {"temperature": 1.0, "seed": 7, "max_tokens": 30}
    alone = ids(engine, **settings)
    neighbours = [
        engine.submit(f"other {i}", sampling=SamplingParams(temperature=0.8, seed=i, max_tokens=20 + i))
        for i in range(5)
    ]
    handle = engine.submit("Tell me", sampling=SamplingParams(**settings))
    assert handle.result(30).token_ids == alone
    assert handle.usage.peak_rows > 1
    for neighbour in neighbours:
        neighbour.result(30)
    assert ids(engine, **{**settings, "seed": 8}) != alone
    assert len({tuple(ids(engine, temperature=1.0)) for _ in range(3)}) == 3


def test_truncation_to_one_token_is_greedy(engine: Any) -> None:
    greedy = ids(engine, temperature=0)
    assert ids(engine, temperature=1.5, top_k=1, seed=1) == greedy
    assert ids(engine, temperature=1.5, top_p=1e-6, seed=1) == greedy
    assert ids(engine, temperature=1.5, min_p=1.0, seed=1) == greedy


def test_bias_forces_and_forbids(engine: Any) -> None:
    assert set(ids(engine, temperature=0, logit_bias={65: 1e4})) == {65}
    greedy = ids(engine, temperature=0)
    without = ids(engine, temperature=0, logit_bias={greedy[0]: -1e4})
    assert greedy[0] not in without
    with pytest.raises(RequestError, match="has tokens 0 to"):
        ids(engine, logit_bias={10**9: 5.0})


def test_penalties_count_what_was_said(engine: Any) -> None:
    said = ids(engine, temperature=0, presence_penalty=2.0, frequency_penalty=2.0, repetition_penalty=100.0)
    plain = ids(engine, temperature=0, logit_bias={66: 30.0})
    held = ids(engine, temperature=0, logit_bias={66: 30.0}, frequency_penalty=2.0, max_tokens=60)
    assert len(set(said)) >= len(set(ids(engine, temperature=0)))
    assert set(plain) == {66}
    assert len(set(held)) > 1  # 30 of bias are used up after fifteen times


def test_logprobs_are_the_log_softmax(engine: Any) -> None:
    out = engine.generate("Tell me", sampling=SamplingParams(temperature=0, max_tokens=6, logprobs=3))
    assert out.logprobs is not None
    assert [entry.token_id for entry in out.logprobs] == out.token_ids
    for entry in out.logprobs:
        assert entry.top[0] == (entry.token_id, pytest.approx(entry.logprob))
        values = [value for _, value in entry.top]
        assert values == sorted(values, reverse=True)
        assert np.exp(values).sum() <= 1 + 1e-5
    assert engine.generate("x", sampling=SamplingParams(max_tokens=2)).logprobs is None


def test_a_sampler_that_raises_ends_its_request_only(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from omlx_jupyter.errors import RequestError
    from omlx_jupyter.models.sampling import RowSampler

    real = RowSampler._choose

    def faulty(self: Any, *chosen_from: Any) -> Any:
        if self.params.seed == 666:
            raise ValueError("out of luck")
        return real(self, *chosen_from)

    monkeypatch.setattr(RowSampler, "_choose", faulty)
    good = engine.submit("Tell me", sampling=SamplingParams(temperature=1.0, seed=7, max_tokens=30))
    bad = engine.submit("Tell me", sampling=SamplingParams(temperature=1.0, seed=666, max_tokens=30))
    with pytest.raises(RequestError, match="out of luck"):
        bad.result(10)
    monkeypatch.undo()
    assert good.result(10).token_ids == ids(engine, temperature=1.0, seed=7, max_tokens=30)
