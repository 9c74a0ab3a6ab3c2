"""Whether rows of a checkpoint may own their KV: shown on the checkpoint itself, not listed.

Two short prompts are decoded each alone over the library's caches and together over a RowStore. A negative control,
the same with one row's newest token hidden, must differ, or the proof has proved nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from . import device
from .attention import HandleError, hook
from .row_store import Grouping, RowStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .loaded import LoadedModel
    from .shapes import Layer

_LENGTHS = (5, 11)  # of the prompts, in tokens
_STEPS = ((1, 1), (1, 3), (2, 1))  # tokens a row
_REPEATED = 5  # times both prompts: 80 tokens
_MARGIN = 8.0  # times the noise between batch sizes
_CALLS_ON_GPU = 4
_LENGTHS_NAMED = (
    "original_max_position_embeddings",
    "max_position_embeddings",
    "sliding_window",
    "attention_chunk_size",
    "floor_scale",
)


class Interrupted(BaseException):
    """Somebody wants the engine; what is shown so far is kept."""


_asked = threading.local()


@contextmanager
def interruptible(wanted: Callable[[], bool]) -> Iterator[None]:
    """Proofs in it give way where `wanted()`. By thread."""
    _asked.wanted = wanted
    try:
        yield
    finally:
        _asked.wanted = None


def give_way() -> None:
    """:raises Interrupted: the engine is wanted."""
    wanted = getattr(_asked, "wanted", None)
    if wanted is not None and wanted():
        raise Interrupted


@dataclass(frozen=True)
class RowProof:
    """`grouping` for the checkpoint's decode batch; `why` its rows get arrays and a mask instead of handles, if so, and
    why they run `alone`, if they can't share a batch at all. Rows that grow longer than `shared_to` tokens change their
    neighbours and run alone; 0 is no such length."""

    grouping: Grouping
    why: str = ""
    shared_to: int = 0
    alone: str = ""


def prove(model: LoadedModel) -> RowProof:
    """Try a LoadedModel whose layers all keep plain KV. Engine thread; a few short forward passes."""
    proof = _shown(model)
    if proof.why:
        proof = _in_one_group(model, proof.why)
    if proof.alone:
        return proof
    for length in lengths_named(model.checkpoint.config):
        if not _unchanged_beside(model, proof.grouping, length):
            return replace(proof, shared_to=length)
    return proof


def lengths_named(config: Mapping[str, Any]) -> list[int]:
    """Lengths in a config at which a model may begin to compute something else, the shortest first."""
    found: set[int] = set()
    for name, value in config.items():
        if isinstance(value, dict) and name != "vision_config":
            found.update(lengths_named(value))
        elif name in _LENGTHS_NAMED and isinstance(value, int | float) and not isinstance(value, bool):
            found.add(int(value))
    return sorted(length for length in found if length > max(_LENGTHS) + 8)


def _unchanged_beside(model: LoadedModel, grouping: Grouping, length: int) -> bool:
    """Whether a short row keeps its logits beside one that says it is beyond `length`. Its place says so; its KV
    needn't be there."""
    prompts, fed = _tokens(model)

    def logits(beyond: int) -> mx.array:
        store = RowStore(len(model.new_cache()), grouping)
        order: list[int] = []
        for row, prompt in enumerate(prompts):
            order.insert(store.put(prefilled(model, prompt)), row)
        places = [len(prompts[row]) + beyond * row for row in order]
        store.begin()
        store.offsets = mx.array(places, mx.int32)
        ids = mx.array([[fed[row][0]] for row in order])
        return model.forward(ids, store.caches, None, plain_positions(model, [[p] for p in places]))[order.index(0), -1]

    try:
        near, far = logits(0).astype(mx.float32), logits(length).astype(mx.float32)
    except HandleError:  # from there on it brings a mask of its own
        return False
    return float(mx.max(mx.abs(near - far))) <= model.noise


def _shown(model: LoadedModel) -> RowProof:
    slots = Grouping(handles=False)
    try:
        hook(model.language_model)
        wanted = _alone(model)
        noise = model.noise
        cost = grouping_of(model)
        rows = RowStore(len(model.new_cache()), cost)
        difference = _difference(_together(model, rows), wanted)
        control = RowStore(len(model.new_cache()), cost)
        hidden = _difference(_together(model, control, hide=1), wanted)
    except HandleError as error:
        return RowProof(slots, str(error))
    except (TypeError, AttributeError, ValueError) as error:
        return RowProof(slots, f"its attention uses the keys itself ({type(error).__name__})")
    if not difference <= noise:
        return RowProof(slots, f"its logits differ by {difference:.2g} where rows own their KV")
    if not hidden > 2 * noise:
        return RowProof(slots, "the proof can't tell right from wrong on this checkpoint")
    return RowProof(cost)


def _in_one_group(model: LoadedModel, why: str) -> RowProof:
    """With arrays and a mask, of either shape that models' own attention wants."""
    alone = ""
    for axes in (4, 5):
        grouping = Grouping(handles=False, mask_axes=axes)
        try:
            wanted, steps = _alone(model), ((1, 1),) * 3
            difference = _difference(_together(model, RowStore(len(model.new_cache()), grouping), 0, steps), wanted)
            hidden = _difference(_together(model, RowStore(len(model.new_cache()), grouping), 1, steps), wanted)
        except Exception:
            alone = alone or "its attention can't take several rows"
            continue
        if difference <= model.noise and hidden > 2 * model.noise:
            return RowProof(grouping, why)
        alone = f"its logits differ by {difference:.2g} where rows decode together (noise {model.noise:.2g})"
    return RowProof(Grouping(handles=False), why, alone=alone)


def vocabulary(config: Mapping[str, Any]) -> int:
    """The number of token ids that a checkpoint's config tells, 0 where it tells none."""
    text = config.get("text_config") or {}
    return int(text.get("vocab_size") or config.get("vocab_size") or 0)


def made_up(model: LoadedModel, count: int, seed: int = 0) -> list[int]:
    """Tokens: the same every time, none of them a picture's."""
    size = vocabulary(model.checkpoint.config) or 64
    found: list[int] = np.random.default_rng(7 + seed).integers(1, max(2, min(size, 200) - 1), count).tolist()
    return found


def _tokens(model: LoadedModel) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and what is fed after them: made up, the same every time, none of them a picture's."""
    size = vocabulary(model.checkpoint.config) or 64
    made = np.random.default_rng(7).integers(1, max(2, min(size, 200)), (2, max(_LENGTHS) + 8)).tolist()
    return [made[i][:n] for i, n in enumerate(_LENGTHS)], [row[-8:] for row in made]


def plain_positions(model: LoadedModel, places: list[list[int]]) -> mx.array | None:
    """(3, rows, tokens) where the family wants them."""
    if not model.family.mrope:
        return None
    return mx.array(np.broadcast_to(np.array(places, np.int32)[None], (3, len(places), len(places[0]))))


def prefilled(model: LoadedModel, prompt: list[int]) -> list[Layer]:
    caches = list(model.new_cache())
    model.forward(mx.array([prompt]), caches, None, plain_positions(model, [list(range(len(prompt)))]))
    mx.eval([c.state for c in caches])
    return caches


def _alone(model: LoadedModel) -> list[list[mx.array]]:
    """Logits (V,) of each row's fed tokens, over the library's own caches, one token a step."""
    prompts, fed = _tokens(model)
    made: list[list[mx.array]] = []
    for row, prompt in enumerate(prompts):
        give_way()
        caches, logits = prefilled(model, prompt), []
        for i in range(sum(step[row] for step in _STEPS)):
            positions = plain_positions(model, [[len(prompt) + i]])
            logits.append(model.forward(mx.array([[fed[row][i]]]), caches, None, positions)[0, -1].astype(mx.float32))
        made.append(logits)
    mx.eval(made)
    return made


def _together(
    model: LoadedModel, store: RowStore, hide: int = 0, steps: tuple[tuple[int, int], ...] = _STEPS
) -> list[list[mx.array]]:
    """The same through `store`, several tokens a step. `hide` tokens of each row's KV are forgotten first."""
    prompts, fed = _tokens(model)
    order: list[int] = []
    for row, prompt in enumerate(prompts):
        order.insert(store.put(prefilled(model, prompt)), row)
    done, logits = [0, 0], [list[mx.array](), list[mx.array]()]
    for at in range(len(order) if hide else 0):
        store.shorten(at, hide)
    for step in steps:
        give_way()
        widths = [step[row] for row in order]
        ids = [fed[row][done[row] + i] for row, width in zip(order, widths, strict=True) for i in range(width)]
        places = [
            len(prompts[row]) + done[row] + i for row, width in zip(order, widths, strict=True) for i in range(width)
        ]
        store.begin(widths)
        out = model.forward(mx.array(ids)[:, None], store.caches, None, plain_positions(model, [[p] for p in places]))
        at = 0
        for row, width in zip(order, widths, strict=True):
            logits[row] += [out[at + i, -1].astype(mx.float32) for i in range(width)]
            done[row] += width
            at += width
        mx.eval(logits)
    return logits


def noise_of(model: LoadedModel) -> float:
    """How far logits may differ: a multiple of what batch sizes 2 and 8 differ by from 1, and two ways to cut a prompt
    from each other, at least some rounding."""
    prompts, fed = _tokens(model)
    prompt = [token for row in prompts for token in row] * _REPEATED  # as long as a proof's own: rounding grows
    found: list[mx.array] = []
    for rows in (1, 2, 8):
        caches, logits = list(model.new_cache()), []
        model.forward(
            mx.array([prompt] * rows), caches, None, plain_positions(model, [list(range(len(prompt)))] * rows)
        )
        give_way()
        for at, token in enumerate(fed[0][:3], start=len(prompt)):
            made = model.forward(mx.array([[token]] * rows), caches, None, plain_positions(model, [[at]] * rows))
            logits.append(made[0, -1].astype(mx.float32))
        found.append(mx.stack(logits))
        mx.eval(found)
    size = float(mx.max(mx.abs(found[0])))
    seen = max(float(mx.max(mx.abs(other - found[0]))) for other in found[1:])
    rounding = size * (1e-5 if model.dtype == "float32" else 2e-2)
    apart = _chunked_apart(model)
    if apart <= rounding:  # more is no noise: it computes something else in chunks
        seen = max(seen, apart)
    return max(_MARGIN * seen, rounding)


def _chunked_apart(model: LoadedModel) -> float:
    """What two ways to cut a prompt of text into chunks differ by."""
    ids = [token for row in _tokens(model)[0] for token in row] * _REPEATED
    found = []
    for size in (len(ids), 7):
        caches = list(model.new_cache())
        for at in range(0, len(ids), size):
            give_way()
            piece = ids[at : at + size]
            positions = plain_positions(model, [list(range(at, at + len(piece)))])
            logits = model.forward(mx.array([piece]), caches, None, positions)[0, -1].astype(mx.float32)
            mx.eval(logits, [c.state for c in caches])
        found.append(logits)
    return float(mx.max(mx.abs(found[0] - found[1])))


def _difference(made: list[list[mx.array]], wanted: list[list[mx.array]]) -> float:
    """The largest difference; not a number where one isn't."""
    pairs = [(a, b) for mine, theirs in zip(made, wanted, strict=True) for a, b in zip(mine, theirs, strict=False)]
    return max(float(mx.max(mx.abs(a - b))) for a, b in pairs)


def grouping_of(model: LoadedModel) -> Grouping:
    """What attention calls cost on this device, in tokens of one row."""
    probe: Any = prefilled(model, _tokens(model)[0][0])[0]
    on_gpu = device.on_gpu()
    tokens = call_tokens(probe.keys.shape[1], probe.keys.shape[3], str(probe.keys.dtype), on_gpu)
    return Grouping(tokens, _CALLS_ON_GPU if on_gpu else 0)


@lru_cache(maxsize=8)
def call_tokens(heads: int, width: int, dtype: str, on_gpu: bool) -> int:
    """An attention call and its writes cost as much as this many tokens of one row; from two lengths, measured."""
    short, long = 32, 1024
    kind = getattr(mx, dtype.removeprefix("mlx.core."))
    seconds = []
    for length in (short, long):
        keys = mx.zeros((1, heads, length, width), kind)
        query = mx.zeros((1, heads, 1, width), kind)
        mx.eval(keys, query)
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            mx.eval([mx.fast.scaled_dot_product_attention(query, keys, keys, scale=1.0) for _ in range(8)])
            best = min(best, time.perf_counter() - began)
        seconds.append(best)
    slope = max(1e-12, (seconds[1] - seconds[0]) / (long - short))
    return int(min(65536, max(16, 2 * (seconds[0] / slope - short))))
