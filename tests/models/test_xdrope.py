"""Positions on four axes: in pieces and for several rows as at once and alone. `make families` has the whole family."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from mlx_vlm.utils import load_model

from omlx_jupyter.models import xdrope
from omlx_jupyter.models.kv_state import MergedBatch
from omlx_jupyter.models.prepared import ImageSpan, Prepared, VisionInput

from ..checkpoints.wide import WIDE


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: Any) -> Any:
    folder: Path = tmp_path_factory.mktemp("hunyuan") / "model"
    folder.mkdir()
    WIDE["hunyuan_vl"](folder)
    return load_model(folder).language_model


def picture() -> VisionInput:
    """Two rows of three cells behind three tokens of a prompt of its own."""
    own = np.tile(np.arange(12), (4, 1))
    own[1, 4:10], own[2, 4:10], own[3, 4:10] = [0, 1, 2] * 2, [0] * 3 + [1] * 3, 0
    return VisionInput("a", (9,) * 8, {"position_ids": own[None], "start": np.array(3)}, 3, 2)


def places() -> np.ndarray:
    prompt = Prepared(list(range(20)), [picture()], [ImageSpan(6, 8, "a")])
    return xdrope.positions(prompt).ids


def test_a_picture_has_its_own_wherever_it_stands() -> None:
    made = places()
    assert made[0].tolist() == list(range(20))
    assert made[1].tolist() == [*range(7), 0, 1, 2, 0, 1, 2, *range(13, 20)]
    assert made[2].tolist() == [*range(7), 0, 0, 0, 1, 1, 1, *range(13, 20)]
    assert made[3].tolist() == [*range(7), *[0] * 6, *range(13, 20)]


def test_in_pieces_as_at_once(language_model: Any) -> None:
    ids, positions = mx.array([list(range(20, 40))]), mx.array(places())
    layers = len(language_model.layers)
    language_model._position_ids = None
    once = language_model(ids, cache=[KVCache() for _ in range(layers)], position_ids=positions[None]).logits
    language_model._position_ids = None
    plain = language_model(ids, cache=[KVCache() for _ in range(layers)]).logits
    caches, made = [KVCache() for _ in range(layers)], []
    for start, end in ((0, 5), (5, 9), (9, 20)):
        piece = positions[:, None, start:end]

        def call(start: int = start, end: int = end, caches: Any = caches) -> Any:
            return language_model(ids[:, start:end], cache=caches).logits

        made.append(xdrope.forward(language_model, piece, call))
    assert float(mx.max(mx.abs(mx.concatenate(made, axis=1) - once))) < 1e-4
    assert float(mx.max(mx.abs(plain - once))) > 1e-2


def test_what_is_behind_the_prompt_counts_on_for_each_row(language_model: Any) -> None:
    """Positions alike on all axes are one offset; two rows at once have two."""
    store, alone, order = MergedBatch(), [], []
    for row, length in enumerate((4, 7)):
        caches = [KVCache() for _ in language_model.layers]
        language_model._position_ids = None
        language_model(mx.array([list(range(length))]), cache=caches)
        order.insert(store.put(copy.deepcopy(caches)), row)
        alone.append(language_model(mx.array([[50]]), cache=caches).logits[0, -1])
    at = np.array([(4, 7)[row] for row in order], np.int32)
    store.begin()

    def call() -> Any:
        return language_model(mx.array([[50], [50]]), cache=store.caches).logits

    made = xdrope.forward(language_model, mx.array(np.broadcast_to(at[None, :, None], (3, 2, 1))), call)
    for place, row in enumerate(order):
        assert float(mx.max(mx.abs(made[place, -1] - alone[row]))) < 1e-4
