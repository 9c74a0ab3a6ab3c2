"""The hook through which a decode step's attention reads KV that rows own.

Models call `scaled_dot_product_attention` of their library's `base`. Where the keys are a `KeysHandle`, the store
that made it attends; everything else goes to the library as before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, Protocol

import mlx.core as mx

if TYPE_CHECKING:
    from .shapes import HasModules


class HandleError(TypeError):
    """A model used the keys of a row store itself: its rows need plain arrays."""


class Attends(Protocol):
    """One layer of a row store."""

    def attend(self, queries: mx.array, scale: float, sinks: mx.array | None) -> mx.array: ...

    def attend_masked(self, queries: mx.array, scale: float, sinks: mx.array | None, mask: mx.array) -> mx.array: ...


class KeysHandle:
    """What a row store gives a model in place of keys and values: a shape, and nothing else."""

    __slots__ = ("layer", "shape")

    def __init__(self, layer: Attends, shape: tuple[int, ...]) -> None:
        self.layer, self.shape = layer, shape

    def __getattr__(self, name: str) -> NoReturn:
        raise HandleError(f"its attention reads `{name}` of the keys itself")


def hook(model: HasModules) -> None:
    """Let the attention of `model` see handles: replaces each global of its modules that is a library's function.

    For everything but handles the replaced function does what it did, so that it may stay.
    """
    originals = dict(_originals())
    for module in _modules_of(model):
        for name, value in list(vars(module).items()):
            if callable(value) and id(value) in originals:
                setattr(module, name, originals[id(value)])


_hooked: dict[int, Callable[..., mx.array]] = {}


def _originals() -> Iterator[tuple[int, Callable[..., mx.array]]]:
    """The libraries' functions by identity, each with what stands in for it."""
    for library in ("mlx_vlm.models.base", "mlx_lm.models.base"):
        base = sys.modules.get(library)
        if base is not None:
            original = base.scaled_dot_product_attention
            yield id(original), _hooked.setdefault(id(original), _standing_in(original))


def _modules_of(model: HasModules) -> Iterator[ModuleType]:
    classes = {kind for part in model.modules() for kind in type(part).__mro__}
    for name in {kind.__module__ for kind in classes}:
        if name.startswith(("mlx_vlm.models.base", "mlx_lm.models.base")):
            continue  # where the original lives: other models still import it from there
        if name in sys.modules:
            yield sys.modules[name]


def _standing_in(original: Callable[..., mx.array]) -> Callable[..., mx.array]:
    def scaled_dot_product_attention(
        queries: mx.array,
        keys: mx.array | KeysHandle,
        values: mx.array | KeysHandle,
        cache: object,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None = None,
    ) -> mx.array:
        if type(keys) is not KeysHandle:
            return original(queries, keys, values, cache, scale=scale, mask=mask, sinks=sinks)
        if isinstance(mask, mx.array):
            return keys.layer.attend_masked(queries, scale, sinks, mask)
        if mask is not None:
            raise HandleError("its attention brings a mask of its own")
        return keys.layer.attend(queries, scale, sinks)

    return scaled_dot_product_attention
