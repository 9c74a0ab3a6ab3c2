"""KV caches of single rows and of the decode batch: the one adapter to mlx-vlm's cache classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx

_STEP = 256


def new_row_cache(language_model: Any) -> list[Any]:
    """Per-layer caches for one request's prefill.

    mlx-vlm's own `make_prompt_cache`: mlx-lm's ArraysCache lacks a method that qwen3_5 calls.
    """
    from mlx_vlm.models.cache import make_prompt_cache

    return list(make_prompt_cache(language_model))


def cache_bytes(caches: list[Any]) -> int:
    return sum(int(getattr(c, "nbytes", 0)) for c in caches)


class SlotRow(NamedTuple):
    """One slot, read as a KVCache: keys and values (1, heads, capacity, width)."""

    keys: mx.array
    values: mx.array
    offset: int


class SlotKVCache:
    """One layer's KV of a decode batch, every row in its own slot, written in place.

    keys and values are (slots, heads, capacity, head_dim). A row's tokens lie at [0, length); the
    rest of its slot is masked. Joining writes one slot, leaving writes nothing: mlx-vlm's
    BatchKVCache copies the whole batch for either. `offset` has BatchKVCache's meaning, a (rows,)
    array, so that models see what they know.
    """

    def __init__(self) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.lengths: list[int] = []
        self.rows = 0
        self.offset = mx.array([0])

    def begin(self, rows: int) -> None:
        """Set up one decode step over the first `rows` slots."""
        self.rows = rows
        self.offset = mx.array(self.lengths[:rows])

    @property
    def _longest(self) -> int:
        return max(self.lengths[: self.rows]) + 1

    def put(self, slot: int, row: Any) -> None:
        """Copy a prefilled KVCache into `slot`."""
        length = int(row.offset)
        if self.keys is None and slot == 0:  # the first row: take its arrays as they are
            self.keys, self.values = row.keys, row.values
            self.lengths = [length]
            return
        assert self.keys is not None
        assert self.values is not None
        self._reserve(slot + 1, length + 1)
        self.keys[slot : slot + 1, :, :length] = row.keys[:, :, :length]
        self.values[slot : slot + 1, :, :length] = row.values[:, :, :length]
        self.lengths[slot] = length

    def clear(self, slot: int) -> None:
        """Empty a slot; one that was never filled is empty."""
        if slot < len(self.lengths):
            self.lengths[slot] = 0

    def row(self, slot: int) -> SlotRow:
        assert self.keys is not None
        assert self.values is not None
        return SlotRow(self.keys[slot : slot + 1], self.values[slot : slot + 1], self.lengths[slot])

    def _reserve(self, slots: int, tokens: int) -> None:
        """Grow by doubling, so that the copies of growing stay rare."""
        assert self.keys is not None
        assert self.values is not None
        have_slots, heads, have_tokens, _ = self.keys.shape
        want_slots = have_slots if slots <= have_slots else max(slots, 2 * have_slots)
        want_tokens = have_tokens
        if tokens > have_tokens:
            want_tokens = -(-max(tokens, have_tokens * 3 // 2) // _STEP) * _STEP
        if (want_slots, want_tokens) != (have_slots, have_tokens):
            for name in ("keys", "values"):
                old = getattr(self, name)
                grown = mx.zeros((want_slots, heads, want_tokens, old.shape[3]), old.dtype)
                grown[:have_slots, :, :have_tokens] = old
                setattr(self, name, grown)
        self.lengths += [0] * (want_slots - len(self.lengths))

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append one token per row: (rows, heads, 1, head_dim) in, views of all tokens out."""
        longest = self._longest
        self._reserve(self.rows, longest)
        assert self.keys is not None
        assert self.values is not None
        if self.rows == 1:
            at = self.lengths[0]
            self.keys[:1, :, at : at + 1] = keys
            self.values[:1, :, at : at + 1] = values
        else:
            rows = mx.arange(self.rows)
            self.keys[rows, :, self.offset] = keys[:, :, 0]
            self.values[rows, :, self.offset] = values[:, :, 0]
        self.offset = self.offset + 1
        for row in range(self.rows):
            self.lengths[row] += 1
        return self.keys[: self.rows, :, :longest], self.values[: self.rows, :, :longest]

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> mx.array | None:
        """(rows, 1, 1, longest) boolean, or None where all rows are of one length."""
        if count != 1:
            raise ValueError("slots hold decode steps of one token")
        lengths = self.lengths[: self.rows]
        if min(lengths) == max(lengths) and window_size is None:
            return None
        place = mx.arange(self._longest)[None]
        mask = place <= self.offset[:, None]
        if window_size is not None:
            mask = mask & (place > self.offset[:, None] - window_size)
        return mask[:, None, None]

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        return self.keys, self.values

    @property
    def nbytes(self) -> int:
        return 0 if self.keys is None or self.values is None else int(self.keys.nbytes + self.values.nbytes)

    def empty(self) -> bool:
        return self.keys is None


class SlotBatch:
    """The decode batch's caches, one SlotKVCache a layer, for models whose layers are all KVCache.

    A row that leaves is a hole until another takes its slot.
    """

    compact = False

    def __init__(self, layers: int) -> None:
        self.caches: list[Any] = [SlotKVCache() for _ in range(layers)]

    def put(self, slot: int, row: list[Any]) -> None:
        """Copy a row into `slot`. A fault leaves the slot empty and the other rows as they were."""
        try:
            for cache, part in zip(self.caches, row, strict=True):
                cache.put(slot, part)
        except BaseException:
            self.remove(slot)
            raise

    def remove(self, slot: int) -> None:
        for cache in self.caches:
            cache.clear(slot)

    def begin(self, rows: int) -> None:
        for cache in self.caches:
            cache.begin(rows)

    def length(self, slot: int) -> int:
        return int(self.caches[0].lengths[slot])

    def row(self, slot: int) -> list[Any]:
        return [cache.row(slot) for cache in self.caches]

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in self.caches)


class MergedBatch:
    """The decode batch's caches for models with recurrent or sliding-window layers.

    mlx-vlm's own batch caches: joining and leaving copy the batch, and rows stay close together.
    """

    compact = True

    def __init__(self) -> None:
        self.caches: list[Any] = []
        self._lengths: list[int] = []

    def put(self, slot: int, row: list[Any]) -> None:
        """Append a row; `slot` must be the next one. A fault leaves the batch as it was."""
        if slot != len(self._lengths):
            raise ValueError("merged rows are appended")
        merged = [type(part).merge([part]) for part in row]
        length = max(row_length(part) for part in row)
        if not self._lengths:
            self.caches, self._lengths = merged, [length]
            return
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

    def remove(self, slot: int) -> None:
        del self._lengths[slot]
        keep = [i for i in range(len(self._lengths) + 1) if i != slot]
        if keep:
            for cache in self.caches:
                cache.filter(mx.array(keep))

    def begin(self, rows: int) -> None:
        """Count the token that every row is about to get."""
        self._lengths = [length + 1 for length in self._lengths]

    def length(self, slot: int) -> int:
        return self._lengths[slot]

    def row(self, slot: int) -> list[Any]:
        return [cache.extract(slot) for cache in self.caches]

    @property
    def nbytes(self) -> int:
        return cache_bytes(self.caches)


def row_length(cache: Any) -> int:
    """Tokens that a single row's layer has seen; 0 for layers that don't count."""
    offset = getattr(cache, "offset", 0)
    return int(offset) if isinstance(offset, int) else 0


def new_batch(row: list[Any]) -> SlotBatch | MergedBatch:
    """The store that fits a row's caches."""
    if all(type(part).__name__ == "KVCache" for part in row):
        return SlotBatch(len(row))
    return MergedBatch()
