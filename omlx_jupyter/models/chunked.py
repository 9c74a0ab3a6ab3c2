"""Layers that look no farther back than the beginning of a chunk of the prompt (Llama 4: 8,192 tokens).

mlx-vlm keeps their KV in a cache of its own, which forgets; and gives every token a mask, which a batch of rows of
different lengths can't have. Here they keep plain KV, under the same mask where a chunk's end is crossed and without
one where it isn't: rows up to that length share a batch, and longer ones run alone (`row_proof`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from .shapes import LanguageModel, Layer

_MASK = "create_chunked_attention_mask"


def plain(caches: list[Layer], language_model: LanguageModel) -> list[Layer]:
    """A prompt's caches, those that forget replaced by plain ones."""
    if not any(type(cache).__name__ == "ChunkedKVCache" for cache in caches):
        return caches
    text = getattr(language_model, "model", None)
    found = getattr(text, _MASK, None)
    if found is None:
        return caches
    if not isinstance(found, partial):
        setattr(text, _MASK, partial(_mask, found))
    from mlx_vlm.models.cache import KVCache

    return [KVCache() if type(cache).__name__ == "ChunkedKVCache" else cache for cache in caches]


def _mask(made: Callable[..., mx.array], tokens: int, chunk: int, start: int = 0, offset: int = 0) -> mx.array | None:
    """(tokens, start..) bool, or None for one token that sees all there is."""
    if tokens == 1 and offset + tokens <= chunk:
        return None
    return made(tokens, chunk, start, offset)
