"""Text models: what chunks, blocks, states and rows together give is shown at load, and what isn't shown isn't done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from omlx_jupyter import Engine
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.models import kv_records, kv_state, text_proof
from omlx_jupyter.models.loader import load_model

from ..conftest import endless
from ..parity.test_matrix import GREEDY, Family

# One of each treatment; `make families` has them all
KINDS = {
    "gemma2": "masks of another shape",
    "mamba": "states only",
    "falcon_h1": "a state and KV in every layer",
}
PROMPTS = ["Hi", "What is it?", ("Tell me about it. " * 12).strip()]


@pytest.mark.parametrize("name", KINDS)
def test_its_tokens_are_the_familys_own(checkpoint: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Together, again from RAM, and in a second turn from the state at the first one's end."""
    family = Family(name, checkpoint(name), tmp_path)
    asked = [family.messages(text, ()) for text in PROMPTS]
    tokens = [family.reference(messages, i) for i, messages in enumerate(asked)]
    with Engine.load(family.path, cache=CacheSettings(2**26)) as engine:
        able = engine.capabilities
        assert (able.batched, able.cached) == (True, True)
        company = engine.submit("go on", sampling=endless(engine))
        handles = [engine.submit(messages, sampling=GREEDY) for messages in asked]
        assert [h.result(60).token_ids for h in handles] == tokens
        assert max(h.usage.peak_rows for h in handles) > 1
        company.cancel()
        again = engine.generate(asked[2], sampling=GREEDY)
        assert (again.token_ids, again.usage.cached_tokens) == (tokens[2], again.usage.prompt_tokens - 1)


def _unknown(model: Any) -> None:
    """A cache that is a KVCache and keeps something else."""
    from mlx_lm.models.cache import KVCache

    class Ring(KVCache):
        pass

    model.language_model.make_cache = lambda: [Ring() for _ in model.language_model.layers]


def test_an_unknown_kind_of_cache_is_never_taken_for_a_plain_one(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = text_proof.text_if_shown

    def with_rings(model: Any, within: float) -> Any:
        _unknown(model)
        return real(model, within)

    monkeypatch.setattr(text_proof, "text_if_shown", with_rings)
    right = [_of("qwen2", checkpoint("qwen2"), text) for text in PROMPTS]
    with Engine.load(checkpoint("qwen2"), cache=CacheSettings(2**26)) as engine:
        able = engine.capabilities
        assert (able.batched, able.cached) == (False, False)
        assert "keep a Ring" in able.why["batched"]
        handles = [engine.submit(text, sampling=GREEDY) for text in PROMPTS]
        assert [h.result(60).token_ids for h in handles] == right
        assert max(h.usage.peak_rows for h in handles) == 1


def test_a_lost_state_is_seen(checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = kv_records.take_state
    monkeypatch.setattr(kv_records, "take_state", lambda *args: {n: a * 0 for n, a in real(*args).items()})
    model = load_model(checkpoint("mamba"))
    assert "differ" in model.whole_because
    assert not model.alone_because


def test_mixed_up_rows_are_seen(checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = kv_state.MergedBatch.put

    def put(self: Any, row: list[Any], tokens: int = 0) -> int:
        slot = real(self, row, tokens)
        if slot == 2:  # the first two change places
            for cache in self.caches:
                cache.cache = [array[mx.array([1, 0, 2])] for array in cache.cache]
        return slot

    monkeypatch.setattr(text_proof.MergedBatch, "put", put)
    model = load_model(checkpoint("mamba"))
    assert "differ" in model.alone_because
    assert not model.whole_because


def test_a_mask_of_the_wrong_shape_runs_alone(checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from omlx_jupyter.models.row_store import LayerKV

    real = LayerKV.make_mask

    def four_axes(self: Any, *args: Any, **settings: Any) -> Any:
        mask = real(self, *args, **settings)
        return mask if mask is None else mask.reshape(mask.shape[0], 1, 1, -1)

    monkeypatch.setattr(LayerKV, "make_mask", four_axes)
    right = [_of("gemma2", checkpoint("gemma2"), text) for text in PROMPTS]
    with Engine.load(checkpoint("gemma2"), cache=CacheSettings(2**26)) as engine:
        assert not engine.capabilities.batched
        handles = [engine.submit(text, sampling=GREEDY) for text in PROMPTS]
        assert [h.result(60).token_ids for h in handles] == right


def _of(name: str, path: Path, text: str) -> list[int]:
    family = Family(name, path, path)
    return family.reference(family.messages(text, ()), text)
