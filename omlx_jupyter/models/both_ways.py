"""Pictures whose tokens see one another both ways, while text sees what is before it (Gemma 4's larger models).

mlx-vlm lays that over the mask of a whole prompt only, and leaves it out in silence behind a prefix. Here it is laid
over the last columns of a chunk's mask; a chunk ends inside no picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import mlx.core as mx
import numpy as np

from .places import NotFound

if TYPE_CHECKING:
    from .shapes import LanguageModel

_TYPES = "mm_token_type_ids"
_SEEN = (1, 2)  # a picture, a film
_OVERLAY = "_apply_blockwise_bidirectional_overlay"


class TextModel(Protocol):
    """mlx-vlm's: numbers a prompt's pictures, -1 at its text."""

    def _block_sequence_ids_for_mask(self, mm_token_type_ids: mx.array) -> mx.array: ...


def may_be(language_model: LanguageModel) -> bool:
    """Whether a language model is of this kind."""
    text = getattr(language_model, "model", None)
    config = getattr(text, "config", None)
    return hasattr(text, _OVERLAY) and getattr(config, "use_bidirectional_attention", None) == "vision"


def marked(rows: mx.array, arrays: Mapping[str, Any], span: slice) -> mx.array:
    """A picture's rows (tokens, wide), with a column more that is 1 where they see one another.

    :raises NotFound: the processor doesn't say where.
    """
    if _TYPES not in arrays:
        raise NotFound("its processor doesn't say which tokens of a picture see one another")
    seen = np.isin(np.asarray(arrays[_TYPES]).reshape(-1)[span], _SEEN)
    return mx.concatenate([rows, mx.array(seen[:, None].astype(np.float32)).astype(rows.dtype)], axis=-1)


def apart(language_model: LanguageModel, embeds: mx.array) -> tuple[mx.array, dict[str, Any]]:
    """A chunk (1, tokens, wide + 1): its embeddings, and what to call the language model with."""
    seen = embeds[..., -1] > 0.5
    if not bool(mx.any(seen)):
        return embeds[..., :-1], {}
    text = language_model.model
    if not isinstance(getattr(text, _OVERLAY), partial):
        setattr(text, _OVERLAY, partial(overlaid, text))
    return embeds[..., :-1], {_TYPES: seen.astype(mx.int32)}


def overlaid(text: TextModel, mask: mx.array, types: mx.array | None) -> mx.array:
    """`mask` (.., tokens, keys), True where a token sees a key, with each picture of the last `tokens` keys opened."""
    if types is None or mask.shape[-2] != types.shape[1] or mask.shape[-1] < types.shape[1]:
        return mask
    blocks = text._block_sequence_ids_for_mask(types)
    rows, columns = mx.expand_dims(blocks, -1), mx.expand_dims(blocks, -2)
    same = mx.expand_dims((rows != -1) & (rows == columns), 1)
    before = mask.shape[-1] - types.shape[1]
    if not before:
        return mask | same
    lead = mx.broadcast_to(mask[..., :before], (*same.shape[:2], mask.shape[-2], before))
    return mx.concatenate([lead, mask[..., before:] | same], axis=-1)
