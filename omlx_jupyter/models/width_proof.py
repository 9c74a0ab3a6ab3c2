"""How many tokens of one row a step may take, shown on the checkpoint: drafts are fed side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from .row_proof import plain_positions, prefilled
from .row_store import Grouping, RowStore

if TYPE_CHECKING:
    from .loaded import LoadedModel

WIDTHS = (64, 16, 4)  # the first that is shown counts
_PROMPT = 11  # tokens


def widest(model: LoadedModel, grouping: Grouping) -> int:
    """The widest step whose logits are those of a prefill of the same tokens, 1 where none is. Engine thread.

    A negative control, the same with one token exchanged, has to differ behind it.
    """
    if not grouping.handles:
        return 1
    noise = model.noise
    return next((width for width in WIDTHS if _shown(model, grouping, width, noise)), 1)


def _shown(model: LoadedModel, grouping: Grouping, width: int, noise: float) -> bool:
    tokens = _tokens(model, _PROMPT + width)
    wanted = _whole(model, tokens)[_PROMPT:]
    if not _far(_wide(model, grouping, tokens), wanted) <= noise:
        return False
    wrong = [*tokens[:_PROMPT], tokens[_PROMPT] + 1, *tokens[_PROMPT + 1 :]]
    return _far(_wide(model, grouping, wrong)[-1:], wanted[-1:]) > 2 * noise


def _tokens(model: LoadedModel, count: int) -> list[int]:
    config = model.checkpoint.config
    size = int((config.get("text_config") or {}).get("vocab_size") or config.get("vocab_size") or 64)
    return [int(t) for t in np.random.default_rng(11).integers(1, max(2, min(size, 200) - 1), count)]


def _whole(model: LoadedModel, tokens: list[int]) -> mx.array:
    caches = model.new_cache()
    positions = plain_positions(model, [list(range(len(tokens)))])
    return model.forward(mx.array([tokens]), caches, None, positions)[0].astype(mx.float32)


def _wide(model: LoadedModel, grouping: Grouping, tokens: list[int]) -> mx.array:
    """Logits (width, V) of the tokens behind the prompt, in one step."""
    width = len(tokens) - _PROMPT
    store = RowStore(len(model.new_cache()), grouping)
    store.put(prefilled(model, tokens[:_PROMPT]))
    store.begin([width])
    positions = plain_positions(model, [[_PROMPT + i] for i in range(width)])
    made = model.forward(mx.array(tokens[_PROMPT:])[:, None], store.caches, None, positions)
    return made[:, -1].astype(mx.float32)


def _far(made: mx.array, wanted: mx.array) -> float:
    return float(mx.max(mx.abs(made - wanted)))
