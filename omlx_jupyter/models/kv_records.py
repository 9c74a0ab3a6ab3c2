"""KV caches to records and back: what a block, a window and a state are, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from .kv_state import parts_of, unknown_kind

if TYPE_CHECKING:
    from .shapes import Layer

_KINDS = {"KVCache": "kv", "RotatingKVCache": "window", "ArraysCache": "state"}

_PATIENCE_S = 60.0  # a look-up in a Room that nobody makes is a fault, not a wait

_TOKENS = "tokens"  # a block's only array where no layer keeps KV: its length is all that a block has then

Payload = dict[str, mx.array]


@dataclass(frozen=True)
class Layout:
    """`kinds` per layer, and one for each part of a layer that keeps several: kv (sliceable), window (the last
    `window` tokens), state (a checkpoint).

    `usable` is False where a layer's cache is of no known kind: such a model isn't cached.
    """

    kinds: tuple[str, ...]
    window: int = 0
    usable: bool = True

    @property
    def names(self) -> list[str]:
        """A block's arrays: keys and values of each layer that has tokens."""
        return sorted(f"{i}.{part}" for i, kind in enumerate(self.kinds) if kind != "state" for part in "kv") or [
            _TOKENS
        ]

    @property
    def has_tokens(self) -> bool:
        return any(kind != "state" for kind in self.kinds)

    @property
    def stateful(self) -> bool:
        return "state" in self.kinds


def layout_of(caches: Sequence[object]) -> Layout:
    caches, unknown = parts_of(caches), bool(unknown_kind(caches))
    kinds = tuple(_KINDS.get(type(cache).__name__, "") for cache in caches)
    windows = {int(c.max_size) for c, kind in zip(caches, kinds, strict=True) if kind == "window"}
    kept = any(c.keep for c, kind in zip(caches, kinds, strict=True) if kind == "window")
    usable = all(kinds) and not unknown and len(windows) <= 1 and not kept
    return Layout(kinds, max(windows, default=0), usable)


def _stored(array: mx.array) -> mx.array:
    """numpy has no bfloat16: its bits travel as uint16."""
    return array.view(mx.uint16) if array.dtype == mx.bfloat16 else array


def _restored(array: mx.array | np.ndarray) -> mx.array:
    made = to_mx(array)
    return made.view(mx.bfloat16) if made.dtype == mx.uint16 else made


def take_block(caches: Sequence[object], layout: Layout, start: int, end: int, deltas: Payload) -> Payload:
    """A block's arrays (heads, end - start, width), evaluated copies. `deltas` are the sliding layers'."""
    payload: Payload = {}
    if not layout.has_tokens:
        payload[_TOKENS] = mx.zeros((1, end - start, 1), mx.uint8)
    for layer, (cache, kind) in enumerate(zip(parts_of(caches), layout.kinds, strict=True)):
        if kind == "kv":
            for part, array in (("k", cache.keys), ("v", cache.values)):
                payload[f"{layer}.{part}"] = mx.contiguous(_stored(array[0, :, start:end]))
    payload |= deltas
    mx.eval(payload)
    return payload


def window_delta(caches: Sequence[object], layout: Layout, count: int) -> Payload:
    """The sliding layers' last `count` tokens, or as many as they hold, (heads, tokens, width)."""
    delta: Payload = {}
    for layer, (cache, kind) in enumerate(zip(parts_of(caches), layout.kinds, strict=True)):
        if kind == "window":
            for part, array in (("k", cache.keys), ("v", cache.values)):
                ordered = cache._temporal_order(array)[0]
                delta[f"{layer}.{part}"] = mx.contiguous(_stored(ordered[:, max(0, ordered.shape[1] - count) :]))
    mx.eval(delta)
    return delta


def join_deltas(deltas: Sequence[Payload], length: int) -> tuple[Payload, int]:
    """Deltas of consecutive tokens as one of `length` tokens, zeros in front where they are fewer; and how
    many zeros there are."""
    if not deltas:
        return {}, 0
    joined, missing = {}, 0
    for name in deltas[0]:
        array = mx.concatenate([delta[name] for delta in deltas], axis=1)[:, -length:]
        missing = length - array.shape[1]
        if missing:
            array = mx.concatenate([mx.zeros((array.shape[0], missing, array.shape[2]), array.dtype), array], axis=1)
        joined[name] = array
    mx.eval(joined)
    return joined, missing


def take_state(caches: Sequence[object], layout: Layout) -> Payload:
    """The recurrent layers' arrays, evaluated copies."""
    payload: Payload = {}
    for layer, (cache, kind) in enumerate(zip(parts_of(caches), layout.kinds, strict=True)):
        if kind == "state":
            for index, array in enumerate(cache.cache):
                if array is not None:
                    payload[f"{layer}.{index}"] = mx.contiguous(_stored(array))
    mx.eval(payload)
    return payload


def rebuild(
    caches: Sequence[Layer],
    layout: Layout,
    parts: Sequence[tuple[Mapping[str, Any], int]],
    length: int,
    state: Mapping[str, Any],
    capacity: int,
) -> None:
    """Fill new caches with `length` tokens from `parts` (arrays and how many tokens of them).

    KV layers get room for `capacity` tokens, so that what follows is written in place.
    """
    for layer, (cache, kind) in enumerate(zip(parts_of(caches), layout.kinds, strict=True)):
        if kind == "state":
            cache.cache = [
                _restored(state[f"{layer}.{index}"]) if f"{layer}.{index}" in state else None
                for index in range(len(cache.cache))
            ]
            continue
        pair = []
        for part in "kv":
            whole = parts[0][0][f"{layer}.{part}"]
            if kind == "kv" and len(parts) == 1 and whole.shape[1] >= capacity:  # read into its final place
                pair.append(_restored(whole)[None])
                continue
            pieces = [arrays[f"{layer}.{part}"][:, :take] for arrays, take in parts]
            if kind == "kv" and any(isinstance(piece, np.ndarray) for piece in pieces):
                pair.append(_gathered(pieces, capacity)[None])
                continue
            found = [_restored(piece) for piece in pieces]
            if kind == "window":
                joined = mx.concatenate(found, axis=1) if len(found) > 1 else found[0]
                pair.append(joined[None, :, -layout.window :])
                continue
            heads, _, width = found[0].shape
            padding = mx.zeros((heads, capacity - length, width), found[0].dtype)
            pair.append(mx.concatenate([*found, padding], axis=1)[None])
        cache.keys, cache.values = pair
        cache.offset = length
        if kind == "window":
            cache._idx = pair[0].shape[2]
    mx.eval([c.state for c in caches])


def _gathered(pieces: Sequence[mx.array | np.ndarray], capacity: int) -> mx.array:
    """Pieces (heads, tokens, width) from numpy and MLX side by side in one new array, zeros behind: one copy.

    MLX lets numpy write into an evaluated array's memory.
    """
    heads, _, width = pieces[0].shape
    dtype = to_mx(pieces[0][:, :1]).dtype
    made = mx.zeros((heads, capacity, width), dtype)
    mx.eval(made)
    view, at = np.array(made, copy=False), 0
    for piece in pieces:
        view[:, at : at + piece.shape[1]] = np.asarray(piece)
        at += piece.shape[1]
    return _restored(made)


class Room(Mapping[str, np.ndarray]):
    """Arrays of a row, (heads, capacity, width), that numpy writes into while others are still being made.

    A look-up waits for its array and gives a view of its first tokens. All views must have gone before the row
    writes: MLX spares an array that other MLX arrays share, but it doesn't see numpy's views, and writes under them.
    """

    def __init__(self, shapes: Mapping[str, tuple[Sequence[int], object]], capacity: int) -> None:
        self._shapes, self._capacity = shapes, capacity
        self._views: dict[str, Future[np.ndarray]] = {name: Future() for name in shapes}
        self.arrays: Payload = {}

    def make(self) -> None:
        """Engine thread: most of the time goes into touching new memory, so that it pays to read meanwhile."""
        for name, (shape, dtype) in self._shapes.items():
            size = (shape[0], max(self._capacity, shape[1]), *shape[2:])
            array = mx.zeros(size, getattr(mx, str(dtype)))
            mx.eval(array)
            self.arrays[name] = array
            self._views[name].set_result(np.array(array, copy=False)[:, : shape[1]])

    def give_up(self, error: BaseException) -> None:
        """Tell who waits for an array that none comes: he holds one of the threads that all rows read with."""
        for view in self._views.values():
            if not view.done():
                view.set_exception(RuntimeError(f"no room was made ({error})"))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name].result(_PATIENCE_S)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def to_mx(array: mx.array | np.ndarray) -> mx.array:
    """numpy to MLX, one copy, evaluated; what is MLX stays."""
    return array if isinstance(array, mx.array) else mx.array(array)


def features_out(features: mx.array) -> mx.array:
    """Vision features as numpy can read them."""
    made = mx.contiguous(_stored(features))
    mx.eval(made)
    return made


def features_in(array: np.ndarray) -> mx.array:
    return _restored(array)
