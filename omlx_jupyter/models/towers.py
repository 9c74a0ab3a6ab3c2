"""One picture through a family's vision tower: what `get_input_embeddings` takes as cached features."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from .prepared import VisionInput


def encode(model: Any, tower_style: str, image: VisionInput) -> mx.array:
    """Features (cells, hidden) of one picture, not yet evaluated."""
    return _STYLES[tower_style](model, image)


def _grid(model: Any, image: VisionInput) -> mx.array:
    """Qwen2-VL, Qwen2.5-VL, GLM-4V, GLM-OCR, DOTS-OCR: flat patches and a (t, h, w) grid."""
    tower = model.vision_tower
    embed = tower.patch_embed
    dtype = getattr(embed, "patchifier", embed).proj.weight.dtype
    grid = mx.array(image.arrays["image_grid_thw"].reshape(-1, 3))
    features = tower(mx.array(image.arrays["pixel_values"]).astype(dtype), grid, output_hidden_states=False)
    return features[0] if isinstance(features, tuple) else features


def _qwen3(model: Any, image: VisionInput) -> mx.array:
    """Qwen3.5: like the grid families; the tower also returns (empty) deep-stack features."""
    tower = model.vision_tower
    grid = mx.array(image.arrays["image_grid_thw"].reshape(-1, 3))
    features, _ = tower(mx.array(image.arrays["pixel_values"]).astype(tower.patch_embed.proj.weight.dtype), grid)
    return features


def _pixtral(model: Any, image: VisionInput) -> mx.array:
    """Pixtral: one channels-first picture of its own size, a chosen layer, the projector."""
    pixels = mx.array(image.arrays["pixel_values"])
    pixels = pixels.reshape(1, *pixels.shape[-3:]).transpose(0, 2, 3, 1)
    sizes = image.arrays.get("image_sizes")
    *_, hidden = model.vision_tower(
        pixels, output_hidden_states=True, image_sizes=None if sizes is None else mx.array(sizes.reshape(-1, 2))
    )
    features = model.multi_modal_projector(hidden[model.vision_feature_layer])
    return features.reshape(-1, features.shape[-1])


_STYLES = {"grid": _grid, "qwen3": _qwen3, "pixtral": _pixtral}
