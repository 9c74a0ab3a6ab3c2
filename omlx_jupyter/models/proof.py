"""Whether a family that nothing is listed of may share the batch and the cache: shown on the checkpoint itself.

Prompts with one, two and no made-up pictures run whole and alone, by the family's own code, and then as the engine
would run them: whole and then all in one batch; and with pictures one by one, prefill in uneven chunks and the KV cut and
put together again in between. The logits of every step must agree within the noise between batch sizes. As negative
controls the same with one picture in place of another must not.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import OmlxError
from . import kv_records, kv_state, samples, whole
from .families import Family
from .found import FoundModel, FoundVision, NotFound
from .kv_state import MergedBatch
from .loaded import LoadedModel
from .prepared import Prepared
from .row_store import RowStore
from .samples import Asked

_log = logging.getLogger(__name__)
_DECODED = 6  # tokens a row
_CHUNKS = (5, 17, 3)  # tokens, in turns

Filled = tuple[list[Any], int]  # a row's caches, and what its positions are ahead of its tokens by


@dataclass
class _Alone:
    """A prompt as the family itself answers it: logits (V,) a token, and its caches behind the prompt."""

    asked: Asked
    prompt: Prepared
    logits: list[mx.array]
    filled: Filled

    @property
    def tokens(self) -> list[int]:
        return [int(mx.argmax(logits)) for logits in self.logits]


@dataclass(frozen=True)
class Sharing:
    """What was shown: why its rows run `alone` and why a prompt runs `whole` and uncached, empty where that needn't be.
    Positions have so many `axes` (0: the caches' lengths say enough); prompts of up to `most` pictures (0: any number)
    are taken apart."""

    alone: str = ""
    whole: str = ""
    axes: int = 0
    most: int = 0


def shared_if_shown(model: LoadedModel) -> LoadedModel:
    """`model`, or the same weights as a model that shares the batch. `alone_because` and `whole_because` say why not,
    or not in full. Engine thread."""
    if model.family.batchable or not isinstance(model.vision, whole.WholeProcessor):
        return model
    shown = _known(model.remembered.get("sharing"))
    if shown is None:
        shown = _shown(model)
        model.remembered.put("sharing", list(astuple(shown)))
    if shown.alone:
        model.alone_because = shown.alone
        return model
    if not shown.whole:
        why, vision = _tried(model, lambda: FoundVision(whole_of(model), samples.pictures()))
        if vision is not None:
            vision.most = shown.most
            return _sharing(model, shown.axes, vision)
        shown = replace(shown, whole=why)
    made = _sharing(model, shown.axes)
    made.whole_because = shown.whole
    return made


def _known(value: Any) -> Sharing | None:
    kinds = (str, str, int, int)
    if isinstance(value, list) and len(value) == len(kinds) and all(map(isinstance, value, kinds)):
        return Sharing(*value)
    return None


def _shown(model: LoadedModel) -> Sharing:
    unknown = kv_state.unknown_kind(model.new_cache())
    if unknown:
        return Sharing(f"its layers keep a {unknown}, a kind of cache that isn't known")
    why, rows = _tried(model, lambda: _answers(model))
    if rows is None:
        return Sharing(why)
    for axes in (3, 1) if hasattr(model.language_model, "get_rope_index") else (0,):
        alone, _ = _tried(model, lambda axes=axes: _difference_together(_sharing(model, axes), rows))
        if not alone:
            return _pieces_shown(model, axes, rows)
        why = why or alone
    return Sharing(why)


def _pieces_shown(model: LoadedModel, axes: int, rows: list[_Alone]) -> Sharing:
    """Whether prompts may be taken apart: all that the family takes, or else those with one picture."""
    most = 0 if any(len(row.prompt.images) > 1 for row in rows) else 1
    first = ""
    while True:
        why, _ = _tried(model, lambda most=most, rows=rows: _difference_shown(model, axes, most, rows))
        if not why or most:
            return Sharing("", first or why if why else "", axes, most)
        first, most = why, 1
        rows = [row for row in rows if len(row.prompt.images) < 2]


def _tried(model: LoadedModel, do: Callable[[], Any]) -> tuple[str, Any]:
    """A sentence, empty where all is well, and what was made."""
    try:
        made = do()
        return (made, None) if isinstance(made, str) else ("", made)
    except OmlxError as error:
        return str(error).removesuffix("."), None
    except Exception as error:
        _log.debug("the proof of %s met a fault", model.name, exc_info=error)
        return _sentence(error), None


def _sentence(error: Exception) -> str:
    """For people: what a library's error comes to."""
    if isinstance(error, AttributeError) and "merge" in str(error):
        return "its layers keep what can't lie side by side with another row's"
    if isinstance(error, MemoryError):
        return "there was no memory to try it"
    return "its code can't take prompts in the pieces that the engine would give it"


def whole_of(model: LoadedModel) -> whole.WholeProcessor:
    assert isinstance(model.vision, whole.WholeProcessor)
    return model.vision


def _sharing(model: LoadedModel, axes: int, vision: Any = None) -> FoundModel:
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    return FoundModel(**{**fields, "vision": vision or model.vision, "family": Family(mrope=axes > 0, axes=axes)})


def _answers(model: LoadedModel) -> list[_Alone]:
    """By the family's own code. Prompts that it can't take are left out, if enough are left."""
    made: list[_Alone] = []
    for asked in samples.prompts():
        why, row = _tried(model, lambda asked=asked: _alone(model, asked))
        if row is None and not made:
            raise NotFound(why)
        made += [row] if row is not None else []
    if len(made) < 2:
        raise NotFound("it takes too few kinds of prompts to try it")
    return made


def _alone(model: LoadedModel, asked: Asked) -> _Alone:
    prompt, caches = model.prepare(*asked), model.new_cache()
    logits, carried = whole.prefill(model.model, prompt, caches)
    if carried:
        raise NotFound("what its pictures show is kept beside the tokens, which rows can't share")
    filled = copy.deepcopy(caches), whole.delta_of(model.model)
    made = [logits[0].astype(mx.float32)]
    for _ in range(_DECODED):
        logits, carried = whole.decode(model.model, mx.argmax(made[-1])[None], caches, carried)
        made.append(logits[0].astype(mx.float32))
    mx.eval(made)
    return _Alone(asked, prompt, made, filled)


def _difference_together(model: FoundModel, rows: list[_Alone]) -> str:
    """Why rows can't decode together behind prompts that ran whole; empty where they can."""
    fed, wanted = [row.tokens[:-1] for row in rows], [row.logits[1:] for row in rows]
    other, caches = model.prepare(*samples.swapped()), model.new_cache()
    _, delta = model.prefill_whole(other, caches)
    filled = [row.filled for row in rows]
    wrong = _together(model, [(caches, delta), *copy.deepcopy(filled[1:])], fed)
    return _judged(model, _far(_together(model, filled, fed), wanted), _far(wrong[:1], wanted[:1]))


def _difference_shown(model: LoadedModel, axes: int, most: int, rows: list[_Alone]) -> str:
    """Why a prompt in pieces isn't what the family makes of it whole; empty where it is."""
    vision = FoundVision(whole_of(model), samples.pictures())
    vision.most = most
    found = _sharing(model, axes, vision)
    prepared = [found.prepare(*row.asked) for row in rows]
    if not all(made.inputs is None for made in prepared):
        return vision.lost or "its prompt's tokens can't be found"
    encoded = {i.digest: found.encode_image(i) for i in {i.digest: i for made in prepared for i in made.images}.values()}
    features = [[encoded[image.digest] for image in made.images] for made in prepared]
    fed = [[made.ids[-1], *row.tokens[:-1]] for made, row in zip(prepared, rows, strict=True)]
    wanted = [row.logits for row in rows]
    filled = [_prefilled(found, *pair) for pair in zip(prepared, features, strict=True)]
    right = _far(_together(found, filled, fed), wanted)
    changed = [_of_another(features), *features[1:]]
    filled = [_prefilled(found, *pair) for pair in zip(prepared, changed, strict=True)]
    return _judged(found, right, _far(_together(found, filled, fed)[:1], wanted[:1]))


def _judged(model: FoundModel, right: float, wrong: float) -> str:
    noise = model.noise
    if not right <= noise:
        return f"its logits differ by {right:.2g} from those of a request alone (noise {noise:.2g})"
    return "" if wrong > 2 * noise else "the proof can't tell one picture from another"


def _of_another(features: list[list[mx.array]]) -> list[mx.array]:
    """In place of the first picture's rows, as many of another's."""
    rows = features[0][0].shape[0]
    other = next(seen[0] for seen in features[1:] if seen)
    return [mx.concatenate([other] * -(-rows // other.shape[0]), axis=0)[:rows]]


def _together(model: FoundModel, rows: Sequence[Filled], fed: list[list[int]]) -> list[list[mx.array]]:
    """Logits (V,) behind each token that a row is fed, all rows in one batch."""
    layers = model.new_cache()
    store: Any = RowStore(len(layers), model.rows.grouping) if model.rows else MergedBatch()
    order: list[int] = []
    for row, (caches, _) in enumerate(rows):
        order.insert(store.put(caches), row)
    made: list[list[mx.array]] = [[] for _ in rows]
    for step in range(len(fed[0])):
        places = [store.length(at) + rows[row][1] for at, row in enumerate(order)]
        positions = None
        if model.family.mrope:
            positions = mx.array(np.broadcast_to(np.array(places, np.int32)[None, :, None], (3, len(places), 1)))
        store.begin()
        ids = mx.array([[fed[row][step]] for row in order])
        logits = model.forward(ids, store.caches, None, positions)[:, -1].astype(mx.float32)
        mx.eval(logits)
        for at, row in enumerate(order):
            made[row].append(logits[at])
    return made


def _prefilled(model: FoundModel, prompt: Prepared, features: list[mx.array]) -> Filled:
    """All but the last token in uneven chunks, with the cache cut and put together again in between."""
    caches, positions, embeds = model.new_cache(), model.positions(prompt), model.embed(prompt, features)
    assert embeds is not None
    layout = kv_records.layout_of(caches)
    done, turn, end = 0, 0, len(prompt.ids) - 1
    while done < end:
        stop = min(end, done + _CHUNKS[turn % len(_CHUNKS)])
        place = None if positions is None else mx.array(positions.ids[:, None, done:stop])
        model.forward(mx.array([prompt.ids[done:stop]]), caches, embeds[:, done:stop], place)
        mx.eval([c.state for c in caches])
        done, turn = stop, turn + 1
    if layout.usable and not layout.window and not layout.stateful and done:
        block = kv_records.take_block(caches, layout, 0, done, {})
        caches = model.new_cache()
        kv_records.rebuild(caches, layout, [(block, done)], done, {}, done + 64)
    return caches, 0 if positions is None else positions.delta


def _far(made: list[list[mx.array]], wanted: list[list[mx.array]]) -> float:
    """The largest difference of a logit; infinite where it is no number."""
    pairs = [(a, b) for mine, theirs in zip(made, wanted, strict=True) for a, b in zip(mine, theirs, strict=True)]
    found = max(float(mx.max(mx.abs(a - b))) for a, b in pairs)
    return found if found == found else float("inf")
