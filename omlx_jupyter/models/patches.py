"""A vision tower's patch embedding as a matrix product, on a CPU.

MLX has no fast convolution on a CPU: where the windows don't overlap, as in all patch embeddings, the same sums as one
product take a thirtieth of the time, which was half of a picture's encoding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import mlx.core as mx
import mlx.nn as nn

from . import device

if TYPE_CHECKING:
    from .shapes import HasModules


Conv: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d


def as_products(model: HasModules) -> int:
    """Replace what can be replaced in place, weights untouched; how many. On a GPU nothing is."""
    if device.on_gpu():
        return 0
    found = [
        module
        for module in model.modules()
        if isinstance(module, Conv) and type(module) in _PRODUCTS and _apart(module)
    ]
    for module in found:
        module.__class__ = _PRODUCTS[type(module)]
    return len(found)


def _apart(conv: Conv) -> bool:
    """Whether its windows lie side by side, each input in at most one."""
    kernel = tuple(conv.weight.shape[1:-1])
    return (
        math.prod(kernel) > 1
        and _each(conv.stride, len(kernel)) == kernel
        and set(_each(conv.padding, len(kernel))) == {0}
        and set(_each(conv.dilation, len(kernel))) == {1}
        and getattr(conv, "groups", 1) == 1
    )


def _each(value: int | list[int] | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * axes


def _product(conv: Conv, x: mx.array) -> mx.array:
    """(B, *space, C) -> (B, *windows, O), as a convolution: what fills no window at the end is left out."""
    kernel = conv.weight.shape[1:-1]
    counts = [size // width for size, width in zip(x.shape[1:-1], kernel, strict=True)]
    x = x[(slice(None), *(slice(0, n * k) for n, k in zip(counts, kernel, strict=True)))]
    split = [n for pair in zip(counts, kernel, strict=True) for n in pair]
    axes = range(1, 1 + 2 * len(kernel), 2)  # the windows' axes; the axes inside a window follow each
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.transpose(0, *axes, *(axis + 1 for axis in axes), x.ndim - 1)
    x = x.reshape(x.shape[0], *counts, -1)
    made = x @ conv.weight.reshape(conv.weight.shape[0], -1).T
    return made + conv.bias if "bias" in conv else made


class _Product1d(nn.Conv1d):
    def __call__(self, x: mx.array) -> mx.array:
        return _product(self, x)


class _Product2d(nn.Conv2d):
    def __call__(self, x: mx.array) -> mx.array:
        return _product(self, x)


class _Product3d(nn.Conv3d):
    def __call__(self, x: mx.array) -> mx.array:
        return _product(self, x)


_PRODUCTS: dict[type, type] = {nn.Conv1d: _Product1d, nn.Conv2d: _Product2d, nn.Conv3d: _Product3d}
