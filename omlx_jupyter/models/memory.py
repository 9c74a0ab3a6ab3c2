"""How much memory a request will take, and how much there is. Estimates: an answer before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from .prepared import VisionInput

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def kv_bytes_per_token(config: dict[str, Any], dtype: str) -> int:
    """Bytes of keys and values of one token over all layers, from a checkpoint's config."""
    text = {**config, **(config.get("text_config") or {})}
    layers = int(text.get("num_hidden_layers") or 0)
    heads = int(text.get("num_attention_heads") or 1)
    kv_heads = int(text.get("num_key_value_heads") or heads)
    head_dim = int(text.get("head_dim") or int(text.get("hidden_size") or 0) // heads)
    return 2 * layers * kv_heads * head_dim * _BYTES.get(dtype, 4)


def vision_bytes(images: Sequence[VisionInput], config: dict[str, Any]) -> int:
    """Peak of the vision tower, one picture at a time: activations of a block and one head's scores."""
    vision = config.get("vision_config") or {}
    width = int(vision.get("embed_dim") or vision.get("hidden_size") or 1024)
    peak = 0
    for image in images:
        grid = image.arrays.get("image_grid_thw")
        patches = int(grid.prod()) if grid is not None else image.width * image.height // 14**2
        peak = max(peak, patches * width * 4 * 10 + patches * patches * 4)
    return peak


def usable_bytes(model_bytes: int) -> int:
    """Memory that KV and pictures may fill: half of what the model leaves of the device's."""
    if mx.metal.is_available():
        info = mx.device_info()
        total = int(info.get("max_recommended_working_set_size") or info.get("memory_size") or 0)
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(256 * 2**20, (total - model_bytes) // 2)


def context_length(config: dict[str, Any]) -> int:
    """Positions that the model was made for; 0 where its config doesn't say."""
    text = config.get("text_config") or {}
    return int(text.get("max_position_embeddings") or config.get("max_position_embeddings") or 0)
