"""Whether a family that nothing is listed of may share the batch and the cache: shown on the checkpoint itself.

Three prompts with one, two and no made-up pictures run whole and alone, by the family's own code, and then as the
engine would run them: pictures one by one, prefill in uneven chunks, the KV cut and put together again, all rows in
one batch. The logits of every step must agree within the noise between batch sizes. As a negative control the same with
one picture's features taken from the other must not.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import OmlxError
from ..types import ImagePart, Message
from . import kv_records, whole
from .families import Family
from .found import FoundModel, FoundVision
from .kv_state import MergedBatch
from .loaded import LoadedModel
from .prepared import Prepared
from .row_proof import noise_of
from .row_store import RowStore

_log = logging.getLogger(__name__)
_DECODED = 6  # tokens a row
_CHUNKS = (5, 17, 3)  # tokens, in turns
_SIZES = ((84, 56), (56, 140))


class Sample:
    """A made-up picture, as the processors want them."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        made = np.random.default_rng(seed).integers(0, 256, (height // 14, width // 14, 3), np.uint8)
        self._pixels = np.kron(made, np.ones((14, 14, 1), np.uint8))
        self.width, self.height = width, height
        self.digest = hashlib.blake2b(self._pixels.tobytes(), digest_size=16).hexdigest()

    def pil(self) -> Any:
        from PIL import Image

        return Image.fromarray(self._pixels)


def shared_if_shown(model: LoadedModel) -> LoadedModel:
    """`model`, or the same weights as a model that shares the batch. `warnings` say why not. Engine thread."""
    if model.family.batchable or not isinstance(model.vision, whole.WholeProcessor):
        return model
    known = model.remembered.get("alone")
    if isinstance(known, str) and known:
        model.alone_because = known
        return model
    found = None
    try:
        found = _found(model)
        model.alone_because = "" if known == "" else _difference_shown(model, found)
    except OmlxError as error:
        model.alone_because = str(error).removesuffix(".")
    except Exception as error:
        _log.debug("the proof of %s met a fault", model.name, exc_info=error)
        model.alone_because = f"{type(error).__name__}: {error}"
    if known is None:
        model.remembered.put("alone", model.alone_because)
    return model if model.alone_because or found is None else found


def _found(model: LoadedModel) -> FoundModel:
    assert isinstance(model.vision, whole.WholeProcessor)
    vision = FoundVision(model.vision, _pictures()[0])
    has_index = hasattr(model.language_model, "get_rope_index")
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    return FoundModel(**{**fields, "vision": vision, "family": Family(mrope=has_index)})


@lru_cache(maxsize=1)
def _pictures() -> list[Sample]:
    return [Sample(*size, seed) for seed, size in enumerate(_SIZES)]


def _prompts() -> list[tuple[list[Message], list[Sample]]]:
    one, other = _pictures()
    return [
        ([Message("user", [ImagePart(one), "What is this, in a word?"])], [one]),
        ([Message("user", [ImagePart(other), ImagePart(one), "Which of them is larger?"])], [other, one]),
        ([Message("user", ["Say something."])], []),
    ]


def _difference_shown(model: LoadedModel, found: FoundModel) -> str:
    """Why what the engine would do isn't what the family does; empty where it is."""
    wanted = [_alone(model, *asked) for asked in _prompts()]
    prepared = [found.prepare(messages, pictures) for messages, pictures in _prompts()]
    for (messages, pictures), made in zip(_prompts(), prepared, strict=True):
        if made.ids != model.prepare(messages, pictures).ids:
            return "its prompt's tokens can't be found"
    features = [[found.encode_image(image) for image in made.images] for made in prepared]
    noise = noise_of(found)
    right = _far(_together(found, prepared, features, wanted), wanted)
    if not right <= noise:
        return f"its logits differ by {right:.2g} from those of a request alone (noise {noise:.2g})"
    swapped = [[_of_another(features)], *features[1:]]
    wrong = _far(_together(found, prepared, swapped, wanted)[:1], wanted[:1])
    if not wrong > 2 * noise:
        return "the proof can't tell one picture from another"
    return ""


def _of_another(features: list[list[mx.array]]) -> mx.array:
    """In place of the first picture's rows, as many of the other's."""
    rows, other = features[0][0].shape[0], features[1][0]
    return mx.concatenate([other] * -(-rows // other.shape[0]), axis=0)[:rows]


def _alone(model: LoadedModel, messages: Sequence[Message], pictures: Sequence[Sample]) -> list[mx.array]:
    """Logits (V,) of the family's own greedy answer, and the tokens it was fed, from one whole prefill."""
    prompt, caches = model.prepare(messages, pictures), model.new_cache()
    logits, carried = whole.prefill(model.model, prompt, caches)
    made = [logits[0].astype(mx.float32)]
    for _ in range(_DECODED):
        token = mx.argmax(made[-1])[None]
        logits, carried = whole.decode(model.model, token, caches, carried)
        made.append(logits[0].astype(mx.float32))
    mx.eval(made)
    return made


def _together(
    model: FoundModel, prompts: list[Prepared], features: list[list[mx.array]], fed: list[list[mx.array]]
) -> list[list[mx.array]]:
    """The same logits as the engine computes them; every row is fed what the family said alone."""
    layers = model.new_cache()
    store: Any = RowStore(len(layers), model.rows.grouping) if model.rows else MergedBatch()
    order: list[int] = []
    deltas: list[int] = []
    for row, (prompt, seen) in enumerate(zip(prompts, features, strict=True)):
        caches, delta = _prefilled(model, prompt, seen)
        order.insert(store.put(caches), row)
        deltas.append(delta)
    made: list[list[mx.array]] = [[] for _ in prompts]
    for step in range(_DECODED + 1):
        tokens = [int(mx.argmax(fed[row][step - 1])) if step else prompts[row].ids[-1] for row in order]
        places = [store.length(at) + deltas[row] for at, row in enumerate(order)]
        positions = None
        if model.family.mrope:
            positions = mx.array(np.broadcast_to(np.array(places, np.int32)[None, :, None], (3, len(places), 1)))
        store.begin()
        logits = model.forward(mx.array(tokens)[:, None], store.caches, None, positions)[:, -1].astype(mx.float32)
        mx.eval(logits)
        for at, row in enumerate(order):
            made[row].append(logits[at])
    return made


def _prefilled(model: FoundModel, prompt: Prepared, features: list[mx.array]) -> tuple[list[Any], int]:
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
    """The largest difference of a logit; infinite where a token differs though its lead was clear."""
    pairs = [(a, b) for mine, theirs in zip(made, wanted, strict=True) for a, b in zip(mine, theirs, strict=True)]
    found = max(float(mx.max(mx.abs(a - b))) for a, b in pairs)
    return found if found == found else float("inf")
