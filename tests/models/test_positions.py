"""M-RoPE positions against mlx-vlm's own and against a slow reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter.images.source import open_images
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.positions import mrope_positions
from omlx_jupyter.models.prepared import ImageSpan
from omlx_jupyter.types import ImagePart, Message

from ..conftest import noise_image


def slow_reference(tokens: list[tuple[int, int, int] | None]) -> list[tuple[int, int, int]]:
    """One token at a time. `tokens` holds None for text, and (rows, columns, index) for a picture's cells."""
    positions: list[tuple[int, int, int]] = []
    following = 0
    for token in tokens:
        if token is None:
            positions.append((following,) * 3)
            following += 1
            continue
        rows, columns, index = token
        if index == 0:
            start = following
        positions.append((start, start + index // columns, start + index % columns))
        following = start + max(rows, columns)
    return positions


def test_two_pictures_and_text_between() -> None:
    tokens: list[Any] = [None] * 3 + [(2, 4, i) for i in range(8)] + [None] * 2 + [(3, 1, i) for i in range(3)] + [None]
    spans = [ImageSpan(3, 8, "a"), ImageSpan(13, 3, "b")]
    made = mrope_positions(len(tokens), spans, [(1, 2, 4), (1, 3, 1)], [np.ones(8, bool), np.ones(3, bool)])
    assert [tuple(p) for p in made.ids.T.tolist()] == slow_reference(tokens)
    assert made.ids[0, -1] == len(tokens) - 1 + made.delta


@pytest.mark.parametrize("family", ["tiny-ocr", "glm4v", "glm_ocr", "qwen2_vl", "qwen2_5_vl", "qwen3_5"])
@pytest.mark.parametrize("sizes", [[], [(64, 64)], [(200, 40), (40, 200)], [(28, 28)] * 5])
def test_equal_to_mlx_vlm(family: str, sizes: list[tuple[int, int]], checkpoint: Callable[..., Path]) -> None:
    import mlx.core as mx

    model = load_model(None if family == "tiny-ocr" else checkpoint(family))
    images = [open_images(noise_image(*size, seed=i))[0] for i, size in enumerate(sizes)]
    parts: list[Any] = ["before "]
    for image in images:
        parts += [ImagePart(image), " then "]
    prompt = model.prepare([Message("user", [*parts, "after"])], images)
    made = model.positions(prompt)
    assert made is not None
    grid = mx.array(np.concatenate([i.arrays["image_grid_thw"] for i in prompt.images])) if images else None
    expected, delta = model.language_model.get_rope_index(mx.array([prompt.ids]), grid)
    np.testing.assert_array_equal(np.broadcast_to(np.array(expected), (3, 1, len(prompt.ids)))[:, 0], made.ids)
    assert made.delta == int(np.array(delta).reshape(-1)[0])
