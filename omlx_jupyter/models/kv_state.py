"""KV caches of single rows, and of decode batches with recurrent or sliding layers: mlx-vlm's classes, adapted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from . import chunked

if TYPE_CHECKING:
    from .shapes import Cache, LanguageModel, Layer


def new_row_cache(language_model: LanguageModel) -> list[Layer]:
    """Per-layer caches for one request's prefill.

    mlx-vlm's own `make_prompt_cache`: mlx-lm's ArraysCache lacks a method that qwen3_5 calls.
    """
    from mlx_vlm.models.cache import make_prompt_cache

    return chunked.plain(list(make_prompt_cache(language_model)), language_model)


def cache_bytes(caches: Sequence[object]) -> int:
    return sum(int(getattr(c, "nbytes", 0)) for c in caches)


class MergedBatch:
    """The decode batch's caches for models with recurrent or sliding-window layers.

    mlx-vlm's own batch caches: joining and leaving copy the batch, and rows stay close together.
    """

    def __init__(self) -> None:
        self.caches: list[Any] = []
        self._lengths: list[int] = []

    def put(self, row: list[Any], tokens: int = 0) -> int:
        """Append a row; its number. `tokens` is its length where none of its layers counts. A fault leaves the batch
        as it was."""
        slot = len(self._lengths)
        merged = [type(part).merge([part]) for part in row]
        length = max(row_length(part) for part in parts_of(row)) or tokens
        if not self._lengths:
            self.caches, self._lengths = merged, [length]
            return slot
        extended: list[Any] = []
        try:
            for cache, part in zip(self.caches, merged, strict=True):
                cache.extend(part)
                extended.append(cache)
        except BaseException:
            for cache in extended:
                cache.filter(mx.arange(slot))
            raise
        self._lengths.append(length)
        return slot

    def remove(self, slot: int) -> None:
        del self._lengths[slot]
        keep = [i for i in range(len(self._lengths) + 1) if i != slot]
        if keep:
            for cache in self.caches:
                cache.filter(mx.array(keep))

    def begin(self) -> None:
        """Count the token that every row is about to get."""
        self._lengths = [length + 1 for length in self._lengths]

    def length(self, slot: int) -> int:
        return self._lengths[slot]

    def row(self, slot: int) -> list[Any]:
        return [cache.extract(slot) for cache in self.caches]

    @property
    def nbytes(self) -> int:
        return cache_bytes(self.caches)


class SingleRow:
    """In place of a batch for models whose rows can't share one: a row, over its own caches."""

    def __init__(self) -> None:
        self.caches: list[Any] = []
        self._length = 0

    def put(self, row: list[Any], tokens: int = 0) -> int:
        """:raises ValueError: a row is there."""
        if self.caches:
            raise ValueError("this model's rows run alone")
        self.caches = [_as_cache(part) for part in row]
        self._length = max(row_length(part) for part in parts_of(row)) or tokens
        return 0

    def remove(self, slot: int) -> None:
        self.caches, self._length = [], 0

    def begin(self) -> None:
        """Count the token that the row is about to get."""
        self._length += 1

    def length(self, slot: int) -> int:
        return self._length

    def row(self, slot: int) -> list[Any]:
        return self.caches

    @property
    def nbytes(self) -> int:
        return cache_bytes(self.caches)


def _as_cache(part: Cache) -> Cache:
    """A layer's cache; of a row that was put aside there may be keys and values alone."""
    if hasattr(part, "update_and_fetch") or not hasattr(part, "keys"):
        return part
    from mlx_vlm.models.cache import KVCache

    made: Cache = KVCache()
    made.keys, made.values, made.offset = part.keys, part.values, part.offset
    return made


def row_length(cache: object) -> int:
    """Tokens that a single row's layer has seen; 0 for layers that don't count."""
    offset = getattr(cache, "offset", 0)
    return int(offset) if isinstance(offset, int) else 0


_KNOWN = frozenset(("KVCache", "RotatingKVCache", "ArraysCache", "CacheList"))


def unknown_kind(caches: Sequence[object]) -> str:
    """The class of the first layer's cache that nothing is known of; empty where all are known. What is derived from a
    known class departs from it."""
    for part in parts_of(caches):
        kind = type(part)
        if kind.__name__ not in _KNOWN or not kind.__module__.endswith(".models.cache"):
            return kind.__name__
    return ""


def parts_of(caches: Iterable[object]) -> list[Any]:
    """Every layer's cache, those of a layer that keeps several one by one."""
    return [part for cache in caches for part in (parts_of(cache.caches) if hasattr(cache, "caches") else [cache])]


def is_plain(caches: Sequence[object]) -> bool:
    """Whether every layer keeps plain KV."""
    return all(type(part).__name__ == "KVCache" for part in caches)
