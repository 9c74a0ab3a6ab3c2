"""What a checkpoint's text may do, shown on its weights: prompts in chunks, caches put together from blocks and states,
and rows together whose layers keep more than plain KV. Windows that the config names are crossed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from . import kv_records, kv_state
from .kv_state import MergedBatch
from .row_proof import give_way, lengths_named, made_up, plain_positions, prefilled

if TYPE_CHECKING:
    from .loaded import LoadedModel
    from .shapes import Layer

_log = logging.getLogger(__name__)
_PROMPT, _CHUNK, _STEPS = 80, 7, 6  # tokens
_LOOKED = 32  # tokens by which it is estimated
_PREFILLS, _FORWARDS = 10, 80  # of its prompt, and of a token, that the whole proof comes to
_CROSSED = 2048  # a window longer than this isn't tried: a prompt of that length would take too long


LATER = "what it may do is found out when the engine is idle: it takes about {:.0f} s"


def text_if_shown(model: LoadedModel, within: float = float("inf")) -> LoadedModel:
    """`model`, a text model, with what it may not do in `alone_because` and `whole_because`. A proof that would take
    more than about `within` seconds is left in `unproved`, for `proof.go_on`. Engine thread."""
    if model.vision is not None or model.alone_because:
        return model
    known = model.remembered.get("text")
    if isinstance(known, list) and len(known) == 2 and all(isinstance(part, str) for part in known):
        model.alone_because, model.whole_because = known
        return model
    seconds = _estimated(model) if within < float("inf") else 0.0
    if seconds > within:
        model.unproved = TextProof(model)
        model.alone_because = model.whole_because = LATER.format(seconds)
        return model
    return TextProof(model).go_on()


class TextProof:
    """A text model's proof. Engine thread."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._made: LoadedModel | None = None

    def go_on(self) -> LoadedModel:
        """The same weights as a model of which it is known.

        :raises Interrupted: the engine is wanted (`interruptible`).
        """
        if self._made is None:
            self._made = self._model
            if self._model.unproved is not None:  # what is cached of it says that nothing is known
                self._made = replace(self._model, unproved=None, alone_because="", whole_because="")
                vars(self._made)["remembered"] = self._model.remembered
        made = self._made
        known = [_alone(made), tried(made.name, lambda: pieces_apart(made))]
        made.remembered.put("text", known)
        made.alone_because, made.whole_because = known
        return made


def _estimated(model: LoadedModel) -> float:
    """Seconds that the proof takes, by a few tokens."""
    ids = made_up(model, _LOOKED + 2)
    caches, seconds = model.new_cache(), []
    for start, end in ((0, 1), (1, 1 + _LOOKED), (1 + _LOOKED, 2 + _LOOKED)):
        began = time.perf_counter()
        _forward(model, caches, ids[start:end], start)
        seconds.append(time.perf_counter() - began)
    _, prompt, step = seconds
    return _PREFILLS * max(_PROMPT, window_of(model)) / _LOOKED * prompt + _FORWARDS * step


def _alone(model: LoadedModel) -> str:
    unknown = kv_state.unknown_kind(model.new_cache())
    if unknown:
        return f"its layers keep a {unknown}, a kind of cache that isn't known"
    return tried(model.name, lambda: model.rows.alone if model.rows else rows_apart(model))


def tried(name: str, do: Callable[[], str]) -> str:
    """What `do` found, or a sentence where the model's code met an error."""
    try:
        return do()
    except Exception as error:
        _log.debug("a proof of %s met a fault", name, exc_info=error)
        return "its code can't do this"


def window_of(model: LoadedModel) -> int:
    """The shortest window that its config names and that is short enough to be crossed, or 0."""
    short = [length for length in lengths_named(model.checkpoint.config) if length <= _CROSSED]
    return short[0] if short else 0


def pieces_apart(model: LoadedModel) -> str:
    """Why a prompt can't go in chunks and begin with restored ones; empty where it can."""
    window = window_of(model)
    ids = made_up(model, max(_PROMPT, window + 24))
    cut = len(ids) - 9
    wanted = _last(model, model.new_cache(), ids, len(ids))
    layout = kv_records.layout_of(model.new_cache())
    caches, deltas = model.new_cache(), []
    for at in range(0, cut, _CHUNK):
        _forward(model, caches, ids[at : min(cut, at + _CHUNK)], at)
        if layout.usable and layout.window:
            deltas.append(kv_records.window_delta(caches, layout, min(cut, at + _CHUNK) - at))
    if layout.usable:
        block = kv_records.take_block(caches, layout, 0, cut, kv_records.join_deltas(deltas, cut)[0])
        state, caches = kv_records.take_state(caches, layout), model.new_cache()
        kv_records.rebuild(caches, layout, [(block, cut)], cut, state, cut + 64)
    far = _far(_last(model, caches, ids[cut:], 2, cut), wanted)
    if not far <= model.noise:
        return f"its logits differ by {far:.2g} where a prompt goes in chunks (noise {model.noise:.2g})"
    wrong = _far(_last(model, model.new_cache(), [*ids[:-2], ids[-2] + 1, ids[-1]], len(ids)), wanted)
    return "" if wrong > 2 * model.noise else "the proof can't tell right from wrong on this checkpoint"


def rows_apart(model: LoadedModel) -> str:
    """Why rows can't decode together over the libraries' own batch caches; empty where they can."""
    window = window_of(model)
    lengths = [5, 11, *([window - 3, window + 9] if window > 14 else [_PROMPT])]
    rows = [made_up(model, length + _STEPS, seed) for seed, length in enumerate(lengths)]
    wanted = [_decoded(model, row, length) for row, length in zip(rows, lengths, strict=True)]
    made = _together(model, rows, lengths)
    far = max(_far(a, b) for a, b in zip(made, wanted, strict=True))
    if not far <= model.noise:
        return f"its logits differ by {far:.2g} where rows decode together (noise {model.noise:.2g})"
    swapped = _together(model, [rows[1], *rows[1:]], [lengths[1], *lengths[1:]])
    return "" if _far(swapped[0], wanted[0]) > 2 * model.noise else "the proof can't tell one row from another"


def _decoded(model: LoadedModel, row: list[int], length: int) -> mx.array:
    """Logits (steps, V) of a row's last tokens, alone, one a step."""
    caches = prefilled(model, row[:length])
    return mx.stack([_forward(model, caches, row[at : at + 1], at) for at in range(length, len(row))])


def _together(model: LoadedModel, rows: list[list[int]], lengths: list[int]) -> list[mx.array]:
    batch = MergedBatch()
    for row, length in zip(rows, lengths, strict=True):
        batch.put(prefilled(model, row[:length]), length)
    made = []
    for step in range(_STEPS):
        give_way()
        places = [[length + step] for length in lengths]
        ids = mx.array([[row[at]] for row, (at,) in zip(rows, places, strict=True)])
        batch.begin()
        made.append(model.forward(ids, batch.caches, None, plain_positions(model, places))[:, -1].astype(mx.float32))
        mx.eval(made)
    return [mx.stack([logits[at] for logits in made]) for at in range(len(rows))]


def _last(model: LoadedModel, caches: list[Layer], ids: list[int], size: int, start: int = 0) -> mx.array:
    """Logits (V,) behind `ids`, in chunks of `size`."""
    for at in range(0, len(ids), size):
        made = _forward(model, caches, ids[at : at + size], start + at)
    return made


def _forward(model: LoadedModel, caches: list[Layer], ids: list[int], at: int) -> mx.array:
    give_way()
    positions = plain_positions(model, [list(range(at, at + len(ids)))])
    made = model.forward(mx.array([ids]), caches, None, positions)[0, -1].astype(mx.float32)
    mx.eval(made, [part.state for part in kv_state.parts_of(caches)])
    return made


def _far(made: mx.array, wanted: mx.array) -> float:
    found = float(mx.max(mx.abs(made - wanted)))
    return found if found == found else float("inf")
