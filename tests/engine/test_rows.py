"""Rows that own their KV: joins, leaves, widths and short lengths change nothing that a row attends to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx_jupyter import Engine
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.models import row_proof
from omlx_jupyter.models.attention import HandleError, KeysHandle, hook
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.row_store import Grouping, RowStore, SlotRow, own_copies

from ..conftest import endless, no_cache, told_why

HEADS, WIDTH, SCALE = 2, 4, 0.5


class Alone:
    """One row kept in numpy: what attention over exactly its tokens gives."""

    def __init__(self, length: int, random: np.random.Generator) -> None:
        self.keys = random.normal(size=(HEADS, length, WIDTH)).astype(np.float32)
        self.values = random.normal(size=(HEADS, length, WIDTH)).astype(np.float32)

    def prefilled(self) -> list[SlotRow]:
        return [SlotRow(mx.array(self.keys)[None], mx.array(self.values)[None], self.keys.shape[1])]

    def attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        self.keys = np.concatenate([self.keys, key[:, None]], axis=1)
        self.values = np.concatenate([self.values, value[:, None]], axis=1)
        scores = np.einsum("hd,hnd->hn", query, self.keys) * SCALE
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hn,hnd->hd", weights / weights.sum(-1, keepdims=True), self.values)

    def shorten(self, tokens: int) -> None:
        end = self.keys.shape[1] - tokens
        self.keys, self.values = self.keys[:, :end], self.values[:, :end]


def attended(store: RowStore, queries: mx.array, keys: mx.array, values: mx.array) -> np.ndarray:
    layer = store.caches[0]
    found, also = layer.update_and_fetch(keys, values)
    if isinstance(found, KeysHandle):
        return np.array(found.layer.attend(queries, SCALE, None))
    mask = layer.make_mask(1)
    return np.array(mx.fast.scaled_dot_product_attention(queries, found, also, scale=SCALE, mask=mask))


def step(store: RowStore, rows: list[Alone], widths: list[int], random: np.random.Generator) -> None:
    total = sum(widths)
    queries, keys, values = (random.normal(size=(total, HEADS, 1, WIDTH)).astype(np.float32) for _ in range(3))
    store.begin(widths)
    assert np.array(store.offsets).tolist() == [
        row.keys.shape[1] + i for row, width in zip(rows, widths, strict=True) for i in range(width)
    ]
    made = attended(store, mx.array(queries), mx.array(keys), mx.array(values))
    at = 0
    for row, width in zip(rows, widths, strict=True):
        for _ in range(width):
            wanted = row.attend(queries[at, :, 0], keys[at, :, 0], values[at, :, 0])
            np.testing.assert_allclose(made[at, :, 0], wanted, rtol=2e-4, atol=2e-5)
            at += 1


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 200)),
        st.tuples(st.just("leave"), st.integers(0, 99)),
        st.tuples(st.just("park"), st.integers(0, 99)),
        st.tuples(st.just("shorten"), st.integers(0, 99)),
        st.tuples(st.just("step"), st.integers(0, 2**16)),
        st.tuples(st.just("plain"), st.integers(1, 70)),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=60)
@given(ACTIONS, st.sampled_from([(0, 0), (16, 0), (64, 2), (10**6, 4)]), st.booleans())
def test_every_row_attends_to_its_own_tokens(actions: Any, cost: tuple[int, int], handles: bool) -> None:
    """`cost` ranges from a call a row to one call for all."""
    store, rows = RowStore(1, Grouping(*cost, handles)), list[Alone]()
    random = np.random.default_rng(1)
    for action, number in [("join", 7), *actions, ("plain", 2)]:
        if action == "join" or not rows:
            row = Alone(number + 1, random)
            rows.insert(store.put(row.prefilled()), row)
        elif action == "leave":
            del rows[number % len(rows)]
            store.remove(number % (len(rows) + 1))
        elif action == "park":
            at = number % len(rows)
            parked, row = own_copies(store.row(at)), rows.pop(at)
            store.remove(at)
            rows.insert(store.put(parked), row)
        elif action == "shorten":
            at = number % len(rows)
            store.shorten(at, min(3, store.length(at) - 1))
            rows[at].shorten(min(3, rows[at].keys.shape[1] - 1))
        elif action == "step" and handles:
            step(store, rows, [1 + (number >> (2 * i)) % 4 for i in range(len(rows))], random)
        else:
            for _ in range(number % 70 if action == "plain" else 1):
                step(store, rows, [1] * len(rows), random)
        assert [store.length(i) for i in range(len(rows))] == [row.keys.shape[1] for row in rows]
        assert not (cost[1] and len(store.groups) > cost[1])


def test_a_long_row_costs_its_neighbours_no_memory() -> None:
    store, random = RowStore(1, Grouping(128)), np.random.default_rng(0)
    for length in (4000, *[60] * 7):
        store.put(Alone(length, random).prefilled())
    own = (4000 + 7 * 60) * HEADS * WIDTH * 4 * 2
    assert len(store.groups) == 2
    assert store.nbytes <= 1.15 * own


def test_a_handle_shows_its_shape_and_nothing_else() -> None:
    store = RowStore(1, Grouping())
    store.put(Alone(3, np.random.default_rng(0)).prefilled())
    store.begin()
    keys = mx.zeros((1, HEADS, 1, WIDTH))
    handle, _ = store.caches[0].update_and_fetch(keys, keys)
    assert handle.shape == (1, HEADS, 4, WIDTH)  # as long as the row is now: masks are cut to it
    for use in (lambda: handle.dtype, lambda: handle.transpose(0, 1), lambda: handle[0], lambda: handle + 1):
        with pytest.raises(TypeError):
            use()
    with pytest.raises(HandleError):
        store.caches[0].make_mask(1, window_size=4)
    assert not hasattr(store.caches[0], "bits")
    assert not hasattr(store.caches[0], "__len__")


@pytest.mark.parametrize("family", ["qwen2_vl", "pixtral", "qwen2", "glm_ocr"])
def test_the_proof_holds_where_it_should(checkpoint: Callable[..., Path], family: str) -> None:
    proof = row_proof.prove(load_model(str(checkpoint(family))))
    assert proof.grouping.handles, proof.why


def _reads_keys(queries: Any, keys: Any, values: Any, cache: Any, scale: float, mask: Any, **_: Any) -> mx.array:
    return mx.fast.scaled_dot_product_attention(queries, keys + 0, values, scale=scale, mask=mask)


def test_a_model_that_uses_keys_itself_gets_arrays(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx_vlm.models.qwen2_vl.language as language

    model = load_model(str(checkpoint("qwen2_vl")))
    monkeypatch.setattr(language, "scaled_dot_product_attention", _reads_keys)
    proof = row_proof.prove(model)
    assert not proof.grouping.handles
    assert "keys" in proof.why


def test_attention_over_the_wrong_tokens_fails_the_proof(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(checkpoint("qwen2_vl")))
    assert row_proof.prove(model).grouping.handles
    real = RowStore.begin

    def shifted(self: RowStore, widths: Any = None) -> None:
        real(self, widths)
        for group in self.groups:  # the first row of each group loses sight of its first token
            group.keys = [mx.roll(keys, 1, axis=2) for keys in group.keys]

    monkeypatch.setattr(RowStore, "begin", shifted)
    assert "differ" in row_proof.prove(model).why


def test_rows_with_arrays_give_the_same_tokens(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of models whose attention takes no handles, through the engine."""

    def answers() -> list[list[int]]:
        with Engine.load(checkpoint("qwen2_vl"), limits=Limits(max_rows=4), cache=no_cache()) as engine:
            prompts = ["a", "b" * 90, "c" * 300, "d" * 40, "e" * 9]
            handles = [engine.submit(p, sampling=endless(engine, max_tokens=12 + 3 * len(p) % 7)) for p in prompts]
            return [h.result(60).token_ids for h in handles]

    def refuse(model: Any) -> None:
        raise HandleError("none for this test")

    owned = answers()
    monkeypatch.setattr(row_proof, "hook", refuse)
    assert answers() == owned


def test_a_length_at_which_rows_change_their_neighbours_bounds_sharing(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """phi3's rope picks its factors by the longest offset in the batch: the same, put onto a family made here."""
    model = load_model(str(checkpoint("qwen2")))
    assert row_proof.prove(model).shared_to == 0
    model.checkpoint.config["rope_scaling"] = {"original_max_position_embeddings": 300, "short_factor": [1]}
    real = type(model).forward

    def by_the_longest(self: Any, ids: Any, caches: Any, *rest: Any) -> mx.array:
        beyond = mx.max(mx.array(caches[0].offset)) > 300
        return real(self, ids, caches, *rest) * mx.where(beyond, 2.0, 1.0)

    monkeypatch.setattr(type(model), "forward", by_the_longest)
    assert row_proof.prove(model).shared_to == 300


def test_rows_beyond_that_length_run_alone_and_it_is_told(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from omlx_jupyter.models import loaded

    def proved(model: Any) -> row_proof.RowProof:
        hook(model.language_model)  # as the proof does
        return row_proof.RowProof(Grouping(), shared_to=200)

    monkeypatch.setattr(loaded, "prove", proved)
    with Engine.load(checkpoint("qwen2"), limits=Limits(max_rows=4), cache=no_cache()) as engine:
        asked = [("a", 100), ("b" * 190, 30)]
        (first, long), told = told_why(
            engine, lambda: [engine.submit(text, sampling=endless(engine, max_tokens=n)) for text, n in asked]
        )
        assert "one at a time" in told
        assert long.result(60).usage.peak_rows == first.result(60).usage.peak_rows == 1
        both = [engine.submit(text, sampling=endless(engine, max_tokens=60)) for text in "ab"]
        assert max(h.result(60).usage.peak_rows for h in both) == 2


def test_a_config_may_have_a_size_for_each_layer() -> None:
    """Gemma 3n's has a list of them."""
    from omlx_jupyter.models.memory import attention_per_token, prefill_bytes

    one = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 256}
    each = {**one, "intermediate_size": [128, 256], "num_attention_heads": [4, 2]}
    assert prefill_bytes(each, "float32", 100, 64, False) == prefill_bytes(one, "float32", 100, 64, False)
    assert attention_per_token(each) == attention_per_token(one)
    assert prefill_bytes({"intermediate_size": []}, "float32", 100, 64, True) == 0
