"""Patch embeddings as matrix products: the convolution's sums, and only where the windows lie side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from omlx_jupyter.models import device, patches
from omlx_jupyter.models.loader import load_model


def convolutions() -> dict[str, tuple[nn.Module, mx.array]]:
    def noise(*shape: int) -> mx.array:
        return mx.random.normal(shape)

    return {
        "1d": (nn.Conv1d(3, 5, 4, stride=4), noise(2, 16, 3)),
        "2d": (nn.Conv2d(3, 5, 4, stride=4, bias=False), noise(2, 12, 8, 3)),
        "2d, a rest is left out": (nn.Conv2d(3, 5, (4, 2), stride=(4, 2)), noise(1, 15, 9, 3)),
        "3d, a patch each": (nn.Conv3d(3, 5, (2, 4, 4), stride=(2, 4, 4)), noise(7, 2, 4, 4, 3)),
        "3d, windows": (nn.Conv3d(2, 5, (2, 3, 4), stride=(2, 3, 4)), noise(2, 4, 9, 8, 2)),
    }


@pytest.mark.parametrize("name", list(convolutions()))
def test_the_sums_are_the_convolution_s(name: str) -> None:
    mx.random.seed(1)
    conv, x = convolutions()[name]
    if "bias" in conv:
        conv.bias = mx.random.normal(conv.bias.shape)
    wanted, weights = conv(x), dict(conv.parameters())
    assert patches.as_products(conv) == 1
    made = conv(x)
    assert made.shape == wanted.shape
    assert mx.allclose(made, wanted, rtol=1e-5, atol=1e-5)
    assert conv.parameters().keys() == weights.keys()
    assert patches.as_products(conv) == 0  # once


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 5, 4, stride=2),
        nn.Conv2d(3, 5, 3, stride=3, padding=1),
        nn.Conv2d(3, 5, 2, stride=2, dilation=2),
        nn.Conv2d(4, 4, 2, stride=2, groups=2),
        nn.Conv2d(3, 5, 1),
        nn.Conv1d(3, 5, 4, stride=(2,)),
    ],
    ids=str,
)
def test_others_stay(conv: nn.Module) -> None:
    kind = type(conv)
    assert patches.as_products(conv) == 0
    assert type(conv) is kind


def test_a_gpu_keeps_its_own(monkeypatch: Any) -> None:
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    assert patches.as_products(nn.Conv2d(3, 5, 4, stride=4)) == 0


@pytest.mark.parametrize("family", ["qwen2_vl", "glm_ocr", "pixtral", "qwen3_5"])
def test_a_loaded_tower_uses_them(family: str, checkpoint: Callable[..., Path]) -> None:
    model = load_model(checkpoint(family)).model
    kinds = {type(module).__name__ for module in model.modules()}
    assert kinds & {"_Product2d", "_Product3d"}
