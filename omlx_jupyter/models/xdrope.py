"""Positions on four axes (Hunyuan-VL's XD-RoPE): token, row, column and picture.

mlx-vlm 0.7.10 gives them to the first piece of a prompt only, and turns a batch's rows by one offset. Here its
attention takes each row's own, wherever they come from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .places import NotFound
from .positions import Positions
from .prepared import Prepared

if TYPE_CHECKING:
    from .shapes import Fetches, LanguageModel

AXES = 4
Made = TypeVar("Made")
_INDEX = "get_xdrope_input_positions"


class Held:
    """(B, 4, L) int32 positions of what is computed just now, and how far they reach; None: by the cache's length."""

    def __init__(self) -> None:
        self.positions: mx.array | None = None
        self.reach = 0


def may_be(language_model: LanguageModel) -> bool:
    """Whether a language model is of this kind."""
    scaling = getattr(getattr(language_model, "args", None), "rope_scaling", None) or {}
    return hasattr(language_model, _INDEX) and len(scaling.get("xdrope_section") or ()) == AXES


def positions(prompt: Prepared) -> Positions:
    """As the processor gives them: text counts on; a picture's cells have its rows and columns, and 0 as the fourth.

    :raises NotFound: the processor gives none.
    """
    made = np.tile(np.arange(len(prompt.ids), dtype=np.int32), (AXES, 1))
    for image, span in zip(prompt.images, prompt.spans, strict=True):
        own = image.arrays.get("position_ids")
        if own is None or np.asarray(own).shape[:2] != (1, AXES):
            raise NotFound("its processor gives no positions")
        start = int(image.arrays["start"])
        seen = np.asarray(own)[0, 1:, start : start + span.length]
        cells = seen[-1] != np.arange(start, start + span.length)
        made[1:, span.start : span.start + span.length][:, cells] = seen[:, cells]
    return Positions(made, 0)


def forward(language_model: LanguageModel, places: mx.array | None, call: Callable[[], Made]) -> Made:
    """`call()` with positions (4, B, L), or (3, B, L) that are alike on all axes."""
    held = _hooked(language_model)
    if places is not None:
        alike = places if places.shape[0] == AXES else mx.broadcast_to(places[:1], (AXES, *places.shape[1:]))
        held.positions, held.reach = alike.transpose(1, 0, 2), int(np.array(places).max()) + 1
    try:
        return call()
    finally:
        held.positions = None


def _hooked(language_model: Any) -> Held:
    held = getattr(language_model, "held_positions", None)
    if held is None:
        held = language_model.held_positions = Held()
        for layer in language_model.layers:
            attention = layer.self_attn
            attention.held_positions = held
            attention.__class__ = _placed(type(attention))
    return held


def _placed(family: Any) -> type[nn.Module]:
    """The family's attention with positions from `held_positions`."""
    module = sys.modules[family.__module__]

    class Placed(family):
        def __call__(
            self,
            x: mx.array,
            mask: mx.array | str | None = None,
            cache: Fetches | None = None,
            position_ids: mx.array | None = None,
        ) -> mx.array:
            if self.held_positions.positions is None:
                whole: mx.array = super().__call__(x, mask, cache, position_ids)
                return whole
            batch, length, _ = x.shape
            queries, keys, values = (
                part(x).reshape(batch, length, heads, self.head_dim).transpose(0, 2, 1, 3)
                for part, heads in (
                    (self.q_proj, self.n_heads),
                    (self.k_proj, self.n_kv_heads),
                    (self.v_proj, self.n_kv_heads),
                )
            )
            cos, sin = self.rotary_emb(values, seq_len=self.held_positions.reach)
            places, size = self.held_positions.positions, (batch, self.n_heads, length, length)
            queries, keys = module.apply_rotary_pos_emb_xdrope(
                queries, keys, cos, sin, places, self.xdrope_section, size
            )
            if self.config.use_qk_norm:
                queries, keys = self.query_layernorm(queries), self.key_layernorm(keys)
            if cache is not None:
                keys, values = cache.update_and_fetch(keys, values)
            if isinstance(mask, mx.array):
                mask = mask[..., : module.kv_sequence_length(keys)]
            seen = module.scaled_dot_product_attention(queries, keys, values, cache=cache, scale=self.scale, mask=mask)
            made: mx.array = self.o_proj(seen.transpose(0, 2, 1, 3).reshape(batch, length, -1))
            return made

    return Placed
