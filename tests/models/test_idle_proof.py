"""A proof that takes longer than the first answer may wait is made when the engine is idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.models import proof, text_proof
from omlx_jupyter.models.found import FoundModel

from ..conftest import noise_image

GREEDY = SamplingParams(temperature=0, max_tokens=12)
ASKED = [Message("user", [ImagePart(noise_image(90, 60, 1)), "What is it?"])]


def test_it_answers_alone_first_and_shares_later(checkpoint: Callable[..., Path], monkeypatch: Any) -> None:
    path = checkpoint("mistral3")
    with Engine.load(path, cache=CacheSettings(2**26)) as engine:
        right = engine.generate(ASKED, sampling=GREEDY).token_ids
        assert engine.capabilities.batched
    real = proof.Proof._difference_shown
    asked: list[Any] = []
    loaded = threading.Event()  # the proof may begin before the engine has come back from its load

    def interrupted(self: Any, axes: int, most: int, both: bool) -> str:
        """A request comes just now: what is half done begins anew when it has gone."""
        assert loaded.wait(30)
        if not asked:
            asked.append(engine.submit(ASKED, sampling=GREEDY))
        return real(self, axes, most, both)

    monkeypatch.setattr(proof.Proof, "_difference_shown", interrupted)
    monkeypatch.setattr(proof, "_PROMPTS", 10**6)
    with Engine.load(path, limits=Limits(prove_s=5), cache=CacheSettings(2**26)) as engine:
        loaded.set()
        while not asked:
            time.sleep(0.002)
        assert asked[0].result(60).token_ids == right
        deadline = time.monotonic() + 60
        while not isinstance(engine._loop.model, FoundModel):
            assert time.monotonic() < deadline, engine._loop.model.alone_because
            time.sleep(0.01)
        able = engine.capabilities
        assert (able.batched, able.cached) == (True, True)
        again = [engine.generate(ASKED, sampling=GREEDY) for _ in range(2)]
        assert [a.token_ids for a in again] == [right] * 2
        assert again[1].usage.cached_tokens > 0


def test_until_then_it_is_told(checkpoint: Callable[..., Path], monkeypatch: Any) -> None:
    """As long as the engine is wanted."""
    from omlx_jupyter.models.loader import load_model

    monkeypatch.setattr(proof, "_PROMPTS", 10**6)
    model = load_model(checkpoint("mistral3"), prove_s=5)
    assert not model.family.batchable
    assert "when the engine is idle: it takes about" in model.alone_because
    with pytest.raises(proof.Interrupted):
        proof.go_on(model, wanted=lambda: True)
    made = proof.go_on(model)
    assert isinstance(made, FoundModel)
    assert (made.alone_because, made.whole_because, made.unproved) == ("", "", None)


def test_a_text_model_answers_alone_first_too(checkpoint: Callable[..., Path], monkeypatch: Any) -> None:
    path = checkpoint("qwen2")
    with Engine.load(path, cache=CacheSettings(2**26)) as engine:
        right = engine.generate("Say something. " * 4, sampling=GREEDY).token_ids
    monkeypatch.setattr(text_proof, "_FORWARDS", 10**7)
    real, asked, loaded = text_proof.pieces_apart, list[Any](), threading.Event()

    def interrupted(model: Any) -> str:
        assert loaded.wait(30)
        if not asked:
            asked.append(engine.submit("Say something. " * 4, sampling=GREEDY))
        return real(model)

    monkeypatch.setattr(text_proof, "pieces_apart", interrupted)
    with Engine.load(path, limits=Limits(prove_s=5), cache=CacheSettings(2**26)) as engine:
        loaded.set()
        while not asked:
            time.sleep(0.002)
        first = asked[0].result(60)
        assert first.token_ids == right
        assert first.usage.cached_tokens == 0
        deadline = time.monotonic() + 60
        while not engine.capabilities.batched:
            assert time.monotonic() < deadline, engine.capabilities.why
            time.sleep(0.01)
        able = engine.capabilities
        assert (able.cached, able.own_kv, able.drafts) == (True, True, True)
        again = [engine.generate("Say something. " * 4, sampling=GREEDY) for _ in range(2)]
        assert [answer.token_ids for answer in again] == [right] * 2
        assert again[1].usage.cached_tokens > 0


def test_a_text_models_proof_gives_way(checkpoint: Callable[..., Path], monkeypatch: Any) -> None:
    from omlx_jupyter.models.loader import load_model

    monkeypatch.setattr(text_proof, "_FORWARDS", 10**7)
    model = load_model(checkpoint("qwen2"), prove_s=5)
    assert model.rows is None
    assert "when the engine is idle: it takes about" in model.alone_because
    with pytest.raises(proof.Interrupted):
        proof.go_on(model, wanted=lambda: True)
    made = proof.go_on(model)
    assert (made.alone_because, made.whole_because, made.unproved) == ("", "", None)
    assert made.rows is not None
