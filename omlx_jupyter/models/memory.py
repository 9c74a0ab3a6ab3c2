"""How much memory a request will take, and how much there is. Estimates: an answer before anything is allocated."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from . import device
from .kv_state import parts_of
from .prepared import VisionInput

if TYPE_CHECKING:
    from .loaded import LoadedModel

_log = logging.getLogger(__name__)

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def _number(config: dict[str, Any], name: str) -> int:
    """A number of a config, the largest where each layer has its own; 0 where it says nothing."""
    found = config.get(name) or 0
    return max(map(int, found), default=0) if isinstance(found, list | tuple) else int(found)


def attention_per_token(config: dict[str, Any]) -> int:
    """Multiply-adds of one token for each token before it, in all layers; 0 where a config doesn't say."""
    text = config.get("text_config") or config
    heads, hidden = _number(text, "num_attention_heads"), _number(text, "hidden_size")
    width = _number(text, "head_dim") or (hidden // heads if heads else 0)
    return 2 * _number(text, "num_hidden_layers") * heads * width


def kv_bytes_per_token(config: dict[str, Any], dtype: str) -> int:
    """Bytes of keys and values of one token over all layers, from a checkpoint's config."""
    text = {**config, **(config.get("text_config") or {})}
    layers = _number(text, "num_hidden_layers")
    heads = _number(text, "num_attention_heads") or 1
    kv_heads = _number(text, "num_key_value_heads") or heads
    head_dim = _number(text, "head_dim") or _number(text, "hidden_size") // heads
    return 2 * layers * kv_heads * head_dim * _BYTES.get(dtype, 4)


@dataclass(frozen=True)
class RowCost:
    """Bytes of one row's caches: `token` a token, `windows` are (tokens kept, bytes a token), `fixed` whatever its
    length."""

    token: int
    windows: tuple[tuple[int, int], ...] = ()
    fixed: int = 0

    def of(self, tokens: int) -> int:
        return tokens * self.token + sum(min(tokens, kept) * each for kept, each in self.windows) + self.fixed


def row_cost(model: LoadedModel) -> RowCost:
    """Of a LoadedModel: its caches measured after one token, else by its config. Engine thread."""
    try:
        caches = model.new_cache()
        mx.eval(model.forward(mx.array([[0]]), caches, None, None), [c.state for c in caches])
        token, fixed, windows = 0, 0, []
        for part in parts_of(caches):
            if type(part).__name__ == "KVCache":
                token += (part.keys.nbytes + part.values.nbytes) // part.keys.shape[2]
            elif type(part).__name__ == "RotatingKVCache":
                windows.append((int(part.max_size), (part.keys.nbytes + part.values.nbytes) // part.keys.shape[2]))
            else:
                fixed += int(part.nbytes)
        if token or windows or fixed:
            return RowCost(token, tuple(windows), fixed)
    except Exception as error:  # a family that wants more than tokens
        _log.debug("a row's bytes are taken from the config", exc_info=error)
    return RowCost(kv_bytes_per_token(model.checkpoint.config, model.dtype))


def prefill_bytes(config: dict[str, Any], dtype: str, tokens: int, chunk: int, on_gpu: bool) -> int:
    """Activations while a prompt is prefilled: its embeddings, a chunk's layer, and on a CPU the scores."""
    text = {**config, **(config.get("text_config") or {})}
    hidden, inner = _number(text, "hidden_size"), _number(text, "intermediate_size")
    each, chunk = _BYTES.get(dtype, 4), min(chunk, tokens)
    scores = 0 if on_gpu else 2 * (_number(text, "num_attention_heads") or 1) * chunk * tokens
    return each * (tokens * hidden + chunk * (3 * inner + 8 * hidden) + scores)


def vision_bytes(images: Sequence[VisionInput], config: dict[str, Any], on_gpu: bool = False) -> int:
    """Peak of the vision tower, one picture at a time: its pixels as arrays, a block's activations and the scores:
    one head's, or on a CPU all heads'."""
    vision = config.get("vision_config") or {}
    width = _number(vision, "embed_dim") or _number(vision, "hidden_size") or 1024
    heads = 1 if on_gpu else _number(vision, "num_heads") or _number(vision, "num_attention_heads") or 1
    peak = 0
    for image in images:
        grid = image.arrays.get("image_grid_thw")
        patches = int(grid.prod()) if grid is not None else image.width * image.height // 14**2
        peak = max(peak, 3 * image.nbytes + patches * width * 4 * 18 + heads * patches * patches * 4)
    return peak


def feature_bytes(images: Sequence[VisionInput], config: dict[str, Any], dtype: str) -> int:
    """Features of a prompt's pictures, which its row holds until it has prefilled."""
    text = {**config, **(config.get("text_config") or {})}
    return sum(len(image.tokens) for image in images) * _number(text, "hidden_size") * _BYTES.get(dtype, 4)


def shared_bytes() -> int:
    """What all engines of this machine may hold together, for those who set nothing: a share of what the device
    recommends, or of the machine's memory, so that other programs have room."""
    size = device.working_set() if device.on_gpu() else 0
    return int(size * 0.9) if size else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


def context_length(config: dict[str, Any]) -> int:
    """Positions that the model was made for; 0 where its config doesn't say."""
    text = config.get("text_config") or {}
    return int(text.get("max_position_embeddings") or config.get("max_position_embeddings") or 0)
