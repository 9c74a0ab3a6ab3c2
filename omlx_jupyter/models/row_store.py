"""The decode batch's KV for models whose layers all keep plain KV: every row owns its tokens.

A step is (tokens, 1): each token is a batch row of its own with its own offset, and a row may have several. Rows of
like length lie in one group and attend in one call; how like is a matter of what a call costs on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import numpy as np

from .attention import HandleError, KeysHandle

if TYPE_CHECKING:
    from .shapes import KV

_GROW = 64  # tokens; steps of 256 make short rows cost 1.2 times as much
_COPIED = 32  # a group is copied when a row joins or leaves it: about twice in 64 steps


@dataclass(frozen=True)
class Grouping:
    """How rows are put together. `call_tokens` is what an attention call costs besides its tokens, in tokens of one
    row; `most` bounds the calls a layer (0: as many as rows). Without `handles` the model's own attention gets
    arrays and a mask of `mask_axes`: one group."""

    call_tokens: int = 128
    most: int = 0
    handles: bool = True
    mask_axes: int = 4


class SlotRow(NamedTuple):
    """One row, read as a KVCache: keys and values (1, heads, capacity, width)."""

    keys: mx.array
    values: mx.array
    offset: int


@dataclass
class Group:
    """Rows side by side: keys and values a layer (rows, heads, capacity, width), a row's tokens at [0, length)."""

    keys: list[mx.array]
    values: list[mx.array]
    lengths: list[int]
    widths: list[int] = field(default_factory=list)  # of the step being made
    places: tuple[mx.array, mx.array] | None = None  # where its tokens are written, unless all at one place
    mask: mx.array | None = None

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def capacity(self) -> int:
        return int(self.keys[0].shape[2])

    @property
    def single(self) -> bool:
        """Whether each row gets one token."""
        return max(self.widths) == 1

    def begin(self, widths: list[int]) -> None:
        """Make room for `widths` tokens a row and count them."""
        before, self.widths = self.lengths, widths
        self.lengths = [n + w for n, w in zip(before, widths, strict=True)]
        if self.longest > self.capacity:
            self.resize(self.longest)
        self.places = self.mask = None
        if len(set(before)) > 1 and self.single:
            self.places = mx.arange(len(before)), mx.array(before)
            self.mask = self.seen()

    def seen(self, window: int | None = None) -> mx.array:
        """(rows, 1, 1, longest) boolean: what each row's new token attends to."""
        place, length = mx.arange(self.longest)[None], mx.array(self.lengths)[:, None]
        mask = place < length
        if window is not None:
            mask = mask & (place >= length - window)
        return mask[:, None, None]

    def resize(self, tokens: int) -> None:
        """Copy into arrays with room for `tokens`."""
        for arrays in (self.keys, self.values):
            for layer, array in enumerate(arrays):
                arrays[layer] = _with_room(array, tokens)

    def add(self, row: Sequence[KV], length: int) -> None:
        """Copy a row's caches (or SlotRows) behind the others."""
        room = _capacity(max(self.longest, length) + 1)
        made = []
        for layer, part in enumerate(row):
            for old, new in ((self.keys[layer], part.keys), (self.values[layer], part.values)):
                both = [_with_room(old[:, :, :room], room), _with_room(new[:, :, :length], room)]
                made.append(mx.concatenate(both, axis=0))
        self.keys, self.values = made[::2], made[1::2]
        self.lengths.append(length)

    def drop(self, place: int) -> None:
        """Take a row out."""
        self.lengths.pop(place)
        kept = _capacity(self.longest + 1)
        for arrays in (self.keys, self.values):
            for layer, array in enumerate(arrays):
                arrays[layer] = mx.concatenate([array[:place, :, :kept], array[place + 1 :, :, :kept]], axis=0)


class LayerKV:
    """One layer of a RowStore, as a model sees a cache. It has no length, no `bits` and no padding to ask about."""

    _idx = 0  # models that slice a whole prompt's metadata by it get positions from us

    def __init__(self, store: RowStore, layer: int) -> None:
        self._store, self._layer = store, layer

    @property
    def offset(self) -> mx.array:
        """(tokens,): how many tokens of its row lie before each token of the step."""
        return self._store.offsets

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> mx.array | None:
        if count != 1:
            raise ValueError("a step is of one token a row")
        if not self._store.grouping.handles:
            group = self._store.groups[0]
            mask = group.mask if window_size is None else group.seen(window_size)
            return mask[:, None] if mask is not None and self._store.grouping.mask_axes == 5 else mask
        if window_size is not None:
            raise HandleError("its attention sees a window")
        return None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Append the step's tokens, (tokens, heads, 1, width); gives handles, or all keys and values."""
        at = 0
        for group in self._store.groups:
            count = sum(group.widths)
            self._write(group, keys[at : at + count], values[at : at + count])
            at += count
        if self._store.grouping.handles:
            longest = max(group.longest for group in self._store.groups)
            handle = KeysHandle(self, (*keys.shape[:2], longest, keys.shape[3]))  # what a mask is cut to
            return handle, handle
        whole, n = self._store.groups[0], self._store.groups[0].longest
        return whole.keys[self._layer][:, :, :n], whole.values[self._layer][:, :, :n]

    @property
    def state(self) -> tuple[list[mx.array], list[mx.array]]:
        groups = self._store.groups
        return [g.keys[self._layer] for g in groups], [g.values[self._layer] for g in groups]

    def empty(self) -> bool:
        return not self._store.groups

    def _write(self, group: Group, keys: mx.array, values: mx.array) -> None:
        for arrays, new in ((group.keys, keys), (group.values, values)):
            into = arrays[self._layer]
            if group.places is not None:
                rows, places = group.places
                into[rows, :, places] = new[:, :, 0]
            elif group.single:
                end = group.lengths[0]
                into[:, :, end - 1 : end] = new
            else:
                at = 0
                for row, (length, width) in enumerate(zip(group.lengths, group.widths, strict=True)):
                    into[row : row + 1, :, length - width : length] = _side_by_side(new[at : at + width])
                    at += width

    def attend_masked(self, queries: mx.array, scale: float, sinks: mx.array | None, mask: mx.array) -> mx.array:
        """The same for a token that is alone in its step, under the model's own `mask` (.., 1, keys).

        :raises HandleError: it isn't alone.
        """
        groups = self._store.groups
        if len(groups) != 1 or groups[0].widths != [1]:
            raise HandleError("its attention brings a mask of its own")
        n = groups[0].longest
        keys, values = groups[0].keys[self._layer][:, :, :n], groups[0].values[self._layer][:, :, :n]
        return mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=scale, mask=mask[..., -n:], sinks=sinks
        )

    def attend(self, queries: mx.array, scale: float, sinks: mx.array | None) -> mx.array:
        """(tokens, heads, 1, width) of queries of that shape."""
        made, at = [], 0
        for group in self._store.groups:
            keys, values = group.keys[self._layer], group.values[self._layer]
            if group.single:
                count, n = len(group.widths), group.longest
                made.append(
                    mx.fast.scaled_dot_product_attention(
                        queries[at : at + count],
                        keys[:, :, :n],
                        values[:, :, :n],
                        scale=scale,
                        mask=group.mask,
                        sinks=sinks,
                    )
                )
                at += count
                continue
            for row, (n, width) in enumerate(zip(group.lengths, group.widths, strict=True)):
                seen = mx.fast.scaled_dot_product_attention(
                    _side_by_side(queries[at : at + width]),
                    keys[row : row + 1, :, :n],
                    values[row : row + 1, :, :n],
                    scale=scale,
                    mask="causal" if width > 1 else None,
                    sinks=sinks,
                )
                made.append(seen[0].transpose(1, 0, 2)[:, :, None])
                at += width
        return mx.concatenate(made, axis=0) if len(made) > 1 else made[0]


class RowStore:
    """The rows of a decode batch. Rows are numbered in step order, which joins and leaves change."""

    def __init__(self, layers: int, grouping: Grouping) -> None:
        self.grouping = grouping
        self.groups: list[Group] = []
        self.offsets = mx.array([0])
        self.caches: list[Any] = [LayerKV(self, layer) for layer in range(layers)]

    @property
    def rows(self) -> int:
        return sum(len(group.lengths) for group in self.groups)

    def put(self, row: Sequence[Any], tokens: int = 0) -> int:
        """Take a prefilled row's caches in, at most one copy of it; where it stands now. A fault changes nothing."""
        length = int(row[0].offset)
        place = self._place_for(length)
        if place is None:
            self.groups.append(_alone(row, length))
            return self.rows - 1
        self.groups[place].add(row, length)
        return sum(len(group.lengths) for group in self.groups[: place + 1]) - 1

    def _place_for(self, length: int) -> int | None:
        """The group that a row of `length` tokens joins, None for one of its own."""
        costs = []
        for place, group in enumerate(self.groups):
            longest, rows = max(group.longest, length), len(group.lengths)
            padding = longest - length + (longest - group.longest) * rows
            costs.append((padding + longest * (rows + 1) // _COPIED, place))
        if not costs:
            return None
        cost, place = min(costs)
        full = bool(self.grouping.most) and len(self.groups) >= self.grouping.most
        return place if cost < self.grouping.call_tokens or full or not self.grouping.handles else None

    def remove(self, row: int) -> None:
        """Take a row out; those behind it move up."""
        group, place = self._find(row)
        if len(group.lengths) > 1:
            group.drop(place)
        else:
            self.groups = [g for g in self.groups if g is not group]

    def begin(self, widths: Sequence[int] | None = None) -> None:
        """Set up a step of `widths` tokens a row, one each where None. Counts them at once."""
        widths = list(widths) if widths is not None else [1] * self.rows
        before: list[int] = []
        at = 0
        for group in self.groups:
            mine = widths[at : at + len(group.lengths)]
            before += [n + i for n, width in zip(group.lengths, mine, strict=True) for i in range(width)]
            group.begin(mine)
            at += len(mine)
        self.offsets = mx.array(np.array(before, np.int32))

    def length(self, row: int) -> int:
        """Tokens of a row, those of the step in flight included."""
        group, place = self._find(row)
        return group.lengths[place]

    def shorten(self, row: int, tokens: int) -> None:
        """Forget a row's last tokens."""
        group, place = self._find(row)
        group.lengths[place] -= tokens

    def row(self, row: int) -> list[SlotRow]:
        """Views of a row's layers, to copy from: one that is kept makes the next step copy its whole layer."""
        group, place = self._find(row)
        pairs = zip(group.keys, group.values, strict=True)
        return [SlotRow(k[place : place + 1], v[place : place + 1], group.lengths[place]) for k, v in pairs]

    def _find(self, row: int) -> tuple[Group, int]:
        for group in self.groups:
            if row < len(group.lengths):
                return group, row
            row -= len(group.lengths)
        raise IndexError(row)

    @property
    def nbytes(self) -> int:
        return sum(int(array.nbytes) for group in self.groups for array in [*group.keys, *group.values])


def own_copies(row: Sequence[Any]) -> list[Any]:
    """A row's layers, evaluated, that share nothing with a batch."""
    made = [
        SlotRow(mx.contiguous(p.keys[:, :, : p.offset]), mx.contiguous(p.values[:, :, : p.offset]), p.offset)
        if isinstance(p, SlotRow)
        else p
        for p in row
    ]
    mx.eval([[p.keys, p.values] if isinstance(p, SlotRow) else p.state for p in made])
    return made


def _alone(row: Sequence[KV], length: int) -> Group:
    """A group of one: the row's own arrays where they fit, else a copy that does."""
    fits = _capacity(length + 1 + length // 16)
    as_is = length < row[0].keys.shape[2] <= fits
    pairs = [(p.keys, p.values) if as_is else (_fitting(p.keys, length), _fitting(p.values, length)) for p in row]
    return Group([k for k, _ in pairs], [v for _, v in pairs], [length])


def _capacity(tokens: int) -> int:
    return -(-tokens // _GROW) * _GROW


def _fitting(array: mx.array, length: int) -> mx.array:
    return _with_room(array[:, :, :length], length + 1)


def _with_room(array: mx.array, tokens: int) -> mx.array:
    """`array` with a capacity of at least `tokens`, zeros behind."""
    rows, heads, have, width = array.shape
    if have >= tokens:
        return array
    return mx.concatenate([array, mx.zeros((rows, heads, _capacity(tokens) - have, width), array.dtype)], axis=2)


def _side_by_side(tokens: mx.array) -> mx.array:
    """(width, heads, 1, n) of one row's tokens as (1, heads, width, n)."""
    return tokens[:, :, 0].transpose(1, 0, 2)[None]
