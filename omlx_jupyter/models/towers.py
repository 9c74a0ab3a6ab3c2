"""One picture through a family's vision tower: what `get_input_embeddings` takes as cached features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from .prepared import ImageSpan, VisionInput

if TYPE_CHECKING:
    from .shapes import VisionModel


def encode(model: VisionModel, tower_style: str, image: VisionInput) -> mx.array:
    """Features (cells, hidden) of one picture, not yet evaluated."""
    return _STYLES[tower_style](model, image)


def _grid(model: VisionModel, image: VisionInput) -> mx.array:
    """Qwen2-VL, Qwen2.5-VL, GLM-4V, GLM-OCR, DOTS-OCR: flat patches and a (t, h, w) grid."""
    tower = model.vision_tower
    embed = tower.patch_embed
    dtype = getattr(embed, "patchifier", embed).proj.weight.dtype
    grid = mx.array(image.arrays["image_grid_thw"].reshape(-1, 3))
    features = tower(mx.array(image.arrays["pixel_values"]).astype(dtype), grid, output_hidden_states=False)
    made: mx.array = features[0] if isinstance(features, tuple) else features
    return made


def _qwen3(model: VisionModel, image: VisionInput) -> mx.array:
    """Qwen3.5: like the grid families; the tower also returns (empty) deep-stack features."""
    tower = model.vision_tower
    grid = mx.array(image.arrays["image_grid_thw"].reshape(-1, 3))
    features: mx.array
    features, _ = tower(mx.array(image.arrays["pixel_values"]).astype(tower.patch_embed.proj.weight.dtype), grid)
    return features


def _pixtral(model: VisionModel, image: VisionInput) -> mx.array:
    """Pixtral: one channels-first picture of its own size, a chosen layer, the projector."""
    pixels = mx.array(image.arrays["pixel_values"])
    pixels = pixels.reshape(1, *pixels.shape[-3:]).transpose(0, 2, 3, 1)
    sizes = image.arrays.get("image_sizes")
    *_, hidden = model.vision_tower(
        pixels, output_hidden_states=True, image_sizes=None if sizes is None else mx.array(sizes.reshape(-1, 2))
    )
    features = model.multi_modal_projector(hidden[model.vision_feature_layer])
    return features.reshape(-1, features.shape[-1])


def _span(model: VisionModel, image: VisionInput) -> mx.array:
    """DeepSeek-OCR: tiles and a global view, merged by the model into the picture's own span.

    Upstream merges one picture a prompt only, so each goes through alone. bfloat16 as upstream.
    """
    views = [mx.array(image.arrays[name]).astype(mx.bfloat16) for name in ("tiles", "pixel_values")]
    ids = mx.array([image.tokens])
    return model.get_input_embeddings(
        ids,
        pixel_values=views,
        images_spatial_crop=mx.array(image.arrays["images_spatial_crop"]),
        images_seq_mask=mx.ones(ids.shape, mx.bool_),
    ).inputs_embeds[0]


def place_spans(embeds: mx.array, spans: Sequence[ImageSpan], features: Sequence[mx.array]) -> mx.array:
    """(1, N, hidden) text embeddings with each picture's merged span put in its place."""
    pieces, at = [], 0
    for span, feature in zip(spans, features, strict=True):
        pieces += [embeds[:, at : span.start], feature[None].astype(embeds.dtype)]
        at = span.start + span.length
    return mx.concatenate([*pieces, embeds[:, at:]], axis=1)


_STYLES = {"span": _span, "grid": _grid, "qwen3": _qwen3, "pixtral": _pixtral}
