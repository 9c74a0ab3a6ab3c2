"""A module's weights, as MLX flattens them."""

from __future__ import annotations

from typing import Protocol

import mlx.core as mx
from mlx.utils import tree_flatten


class Weighted(Protocol):
    """What has weights: an `nn.Module`, or a model of mlx-vlm's or mlx-lm's."""

    def parameters(self) -> object: ...


def weights_of(module: Weighted) -> list[mx.array]:
    """All of its arrays, in the order of its tree."""
    flat = tree_flatten(module.parameters())  # a dict only where one is handed in to be filled
    return [value for _, value in (flat.items() if isinstance(flat, dict) else flat)]
