"""Whether a family that nothing is listed of may share the batch and the cache: shown on the checkpoint itself.

Prompts with one, two and no made-up pictures run whole and alone, by the family's own code, and then as the engine
would run them: whole and then all in one batch; and with pictures one by one, prefill in uneven chunks and the KV cut
and put together again in between. The logits of every step must agree within the noise between batch sizes. As
negative controls the same with one picture in place of another must not.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import OmlxError
from . import both_ways, kv_records, kv_state, samples, whole, xdrope
from .families import Family
from .found import FoundModel, FoundVision, NotFound
from .kv_state import MergedBatch
from .loaded import LoadedModel
from .prepared import Prepared
from .row_proof import Interrupted as Interrupted
from .row_proof import give_way, interruptible
from .row_store import RowStore
from .samples import Asked
from .text_proof import LATER, TextProof, pieces_apart, rows_apart

_log = logging.getLogger(__name__)
_PROMPTS, _FORWARDS = 20, 500  # the whole proof takes as long as so many of its first prompt, and of a token behind it
_DECODED = 6  # tokens a row
_CHUNKS = (5, 31, 17)  # tokens, in turns

Filled = tuple[list[Any], int]  # a row's caches, and what its positions are ahead of its tokens by


@dataclass
class _Alone:
    """A prompt as the family itself answers it: logits (V,) a token, and its caches behind the prompt."""

    asked: Asked
    prompt: Prepared
    logits: list[mx.array]
    filled: Filled
    seconds: float  # that the whole proof would take, going by this

    @property
    def tokens(self) -> list[int]:
        return [int(mx.argmax(logits)) for logits in self.logits]


@dataclass(frozen=True)
class Sharing:
    """What was shown: why its rows run `alone` and why a prompt runs `whole` and uncached, empty where that needn't be.
    Positions have so many `axes` (0: the caches' lengths say enough); prompts of up to `most` pictures (0: any number)
    are taken apart; `both`: a picture's tokens see one another both ways, 1 or 0."""

    alone: str = ""
    whole: str = ""
    axes: int = 0
    most: int = 0
    both: int = 0


class TooLongError(BaseException):
    """It would take `seconds`, more than there is before the first answer."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def shared_if_shown(model: LoadedModel, within: float = float("inf")) -> LoadedModel:
    """`model`, or the same weights as a model that shares the batch. `alone_because` and `whole_because` say why not,
    or not in full. A proof that would take more than about `within` seconds is left in `unproved`, for `go_on`. Engine
    thread."""
    if model.family.batchable or not isinstance(model.vision, whole.WholeProcessor):
        return model
    shown = _known(model.remembered.get("sharing"))
    if shown is None:
        model.unproved = Proof(model)
        try:
            return go_on(model, within)
        except TooLongError as error:
            model.alone_because = LATER.format(error.seconds)
            return model
    return _as_shown(model, shown)


def go_on(model: LoadedModel, within: float = float("inf"), wanted: Callable[[], bool] = lambda: False) -> LoadedModel:
    """Make the proof of an `unproved` model, or more of it; as `shared_if_shown`.

    :raises Interrupted: `wanted()` was true meanwhile.
    :raises TooLongError: it takes longer than `within`.
    """
    proof = model.unproved
    with interruptible(wanted):
        if isinstance(proof, TextProof):
            return proof.go_on()
        shown = proof.run(within)
    model.remembered.put("sharing", list(astuple(shown)))
    model.unproved, model.alone_because = None, ""
    made = _as_shown(model, shown)
    return proof.found_before(made) if isinstance(made, FoundModel) else made


def _as_shown(model: LoadedModel, shown: Sharing) -> LoadedModel:
    if shown.alone:
        model.alone_because = shown.alone
        return model
    if not shown.whole:
        why, vision = _tried(model, lambda: _vision_of(model))
        if vision is not None:
            vision.most = shown.most
            made = _sharing(model, shown.axes, vision)
            made.both_ways = bool(shown.both)
            return made
        shown = replace(shown, whole=why)
    made = _sharing(model, shown.axes)
    made.whole_because = shown.whole
    return made


def _known(value: Any) -> Sharing | None:
    kinds = (str, str, int, int, int)
    if isinstance(value, list) and len(value) == len(kinds) and all(map(isinstance, value, kinds)):
        return Sharing(*value)
    return None


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


def _axes_of(language_model: Any) -> tuple[int, ...]:
    """How many axes positions may have, to be tried in turns."""
    if xdrope.may_be(language_model):
        return (xdrope.AXES,)
    return (3, 1) if hasattr(language_model, "get_rope_index") else (0,)


def _vision_of(model: LoadedModel) -> FoundVision:
    return FoundVision(whole_of(model), samples.pictures(), model.remembered.get("places"))


def _sharing(model: LoadedModel, axes: int, vision: Any = None) -> FoundModel:
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    made = FoundModel(**{**fields, "vision": vision or model.vision, "family": Family(mrope=axes > 0, axes=axes)})
    vars(made)["remembered"] = model.remembered
    return made


class Proof:
    """One checkpoint's proof, which may be made bit by bit. Engine thread."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._rows: list[_Alone] = []
        self._asked = samples.prompts()
        self._known: dict[Any, str] = {}  # what became of its parts
        self._bases: dict[int, FoundModel] = {}

    def run(self, within: float) -> Sharing:
        """See `go_on`."""
        unknown = kv_state.unknown_kind(self._model.new_cache())
        if unknown:
            return Sharing(f"its layers keep a {unknown}, a kind of cache that isn't known")
        why = self._answers(within)
        if why:
            return Sharing(why)
        for axes in _axes_of(self._model.language_model):
            alone = self._part(axes, partial(self._difference_together, self.found_before(_sharing(self._model, axes))))
            if not alone:
                return self._pieces(axes)
            why = why or alone
        return Sharing(why)

    def found_before(self, made: FoundModel) -> FoundModel:
        """`made`, with what was found out about the same rows already."""
        known = vars(self._bases.setdefault(made.family.axes if made.family.mrope else 0, made))
        vars(made).update({name: known[name] for name in ("noise", "rows") if name in known})
        return made

    def _pieces(self, axes: int) -> Sharing:
        """Whether prompts may be taken apart: all that the family takes, or else those with one picture."""
        several = any(len(row.prompt.images) > 1 for row in self._rows)
        why = ""
        for both in (0, 1) if both_ways.may_be(self._model.language_model) else (0,):
            for most in (0, 1) if several else (1,):
                found = self._part((axes, most, both), partial(self._difference_shown, axes, most, bool(both)))
                if not found:
                    return Sharing("", "", axes, most, both)
                why = why or found
        return Sharing("", why, axes)

    def _part(self, name: Any, do: Callable[[], str]) -> str:
        if name not in self._known:
            self._known[name] = _tried(self._model, do)[0]
        return self._known[name]

    def _answers(self, within: float) -> str:
        """By the family's own code. Prompts that it can't take are left out, if enough are left."""
        while self._asked:
            give_way()
            why, row = _tried(self._model, lambda: self._alone(self._asked[0]))
            if row is None and not self._rows:
                return why
            if row is not None and not self._rows and not self._steady(row):
                return "its own code doesn't compute the same from the same prompt each time"
            self._asked = self._asked[1:]
            self._rows += [row] if row is not None else []
            if self._rows[0].seconds > within:
                raise TooLongError(self._rows[0].seconds)
        return "" if len(self._rows) > 1 else "it takes too few kinds of prompts to try it"

    def _steady(self, row: _Alone) -> bool:
        """Whether the same again gives the same: some code reads memory that it never wrote."""
        model = self._model
        logits, _ = whole.prefill(model.model, model.prepare(*row.asked), model.new_cache())
        return bool(mx.all(logits[0].astype(mx.float32) == row.logits[0]))

    def _alone(self, asked: Asked) -> _Alone:
        model = self._model
        prompt, caches, began = model.prepare(*asked), model.new_cache(), time.perf_counter()
        logits, carried = whole.prefill(model.model, prompt, caches)
        prefilled = time.perf_counter()
        if carried:
            raise NotFound("what its pictures show is kept beside the tokens, which rows can't share")
        filled = copy.deepcopy(caches), whole.delta_of(model.model)
        made = [logits[0].astype(mx.float32)]
        for _ in range(_DECODED):
            logits, carried = whole.decode(model.model, mx.argmax(made[-1])[None], caches, carried)
            made.append(logits[0].astype(mx.float32))
            mx.eval(made)
        step = (time.perf_counter() - prefilled) / _DECODED
        return _Alone(asked, prompt, made, filled, _PROMPTS * (prefilled - began) + _FORWARDS * step)

    def _difference_together(self, model: FoundModel) -> str:
        """Why rows can't decode together behind prompts that ran whole; empty where they can."""
        rows = self._rows
        fed, wanted = [row.tokens[:-1] for row in rows], [row.logits[1:] for row in rows]
        other, caches = model.prepare(*samples.swapped()), model.new_cache()
        _, delta = model.prefill_whole(other, caches)
        filled = [copy.deepcopy(row.filled) for row in rows]
        wrong = self._together(model, [(caches, delta), *copy.deepcopy(filled[1:])], fed)
        found = _judged(model, _far(self._together(model, filled, fed), wanted), _far(wrong[:1], wanted[:1]))
        return found or (rows_apart(model) if model.rows is None else "")

    def _difference_shown(self, axes: int, most: int, both: bool) -> str:
        """Why a prompt in pieces isn't what the family makes of it whole; empty where it is."""
        rows = [row for row in self._rows if not most or len(row.prompt.images) <= most]
        vision = FoundVision(whole_of(self._model), samples.pictures())
        vision.most = most
        found = self.found_before(_sharing(self._model, axes, vision))
        found.both_ways = both
        found.measure([vision.process(rows[0].asked[1][0])])
        if vision.places.differ:
            found.measure([vision.process(image) for image in (*samples.pictures(), *samples.pictures())])
        prepared = [found.prepare(*row.asked) for row in rows]
        if not all(made.inputs is None for made in prepared):
            return vision.lost or "its prompt's tokens can't be found"
        images = {image.digest: image for made in prepared for image in made.images}
        encoded = {digest: found.encode_image(image) for digest, image in images.items()}
        features = [[encoded[image.digest] for image in made.images] for made in prepared]
        fed = [[made.ids[-1], *row.tokens[:-1]] for made, row in zip(prepared, rows, strict=True)]
        wanted = [row.logits for row in rows]
        filled = [self._prefilled(found, *pair) for pair in zip(prepared, features, strict=True)]
        changed = self._prefilled(found, prepared[0], _of_another(features))
        wrong = self._together(found, [changed, *copy.deepcopy(filled[1:])], fed)
        found_out = _judged(found, _far(self._together(found, filled, fed), wanted), _far(wrong[:1], wanted[:1]))
        return found_out or (pieces_apart(found) if found.rows is None else "")

    def _together(self, model: FoundModel, rows: Sequence[Filled], fed: list[list[int]]) -> list[list[mx.array]]:
        """Logits (V,) behind each token that a row is fed, all rows in one batch."""
        layers = model.new_cache()
        store: Any = RowStore(len(layers), model.rows.grouping) if model.rows else MergedBatch()
        order: list[int] = []
        for row, (caches, _) in enumerate(rows):
            order.insert(store.put(caches), row)
        made: list[list[mx.array]] = [[] for _ in rows]
        for step in range(len(fed[0])):
            give_way()
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

    def _prefilled(self, model: FoundModel, prompt: Prepared, features: list[mx.array]) -> Filled:
        """All but the last token in uneven chunks, with the cache cut and put together again in between."""
        caches, positions, embeds = model.new_cache(), model.positions(prompt), model.embed(prompt, features)
        assert embeds is not None
        layout = kv_records.layout_of(caches)
        done, turn, end = 0, 0, len(prompt.ids) - 1
        while done < end:
            give_way()
            stop = min(end, done + _CHUNKS[turn % len(_CHUNKS)])
            if model.both_ways:
                stop = prompt.outside(done, stop)
            place = None if positions is None else mx.array(positions.ids[:, None, done:stop])
            model.forward(mx.array([prompt.ids[done:stop]]), caches, embeds[:, done:stop], place)
            mx.eval([c.state for c in kv_state.parts_of(caches)])
            done, turn = stop, turn + 1
        if layout.usable and not layout.window and not layout.stateful and done:
            block = kv_records.take_block(caches, layout, 0, done, {})
            caches = model.new_cache()
            kv_records.rebuild(caches, layout, [(block, done)], done, {}, done + 64)
        return caches, 0 if positions is None else positions.delta


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


def _far(made: list[list[mx.array]], wanted: list[list[mx.array]]) -> float:
    """The largest difference of a logit; infinite where it is no number."""
    pairs = [(a, b) for mine, theirs in zip(made, wanted, strict=True) for a, b in zip(mine, theirs, strict=True)]
    found = max(float(mx.max(mx.abs(a - b))) for a, b in pairs)
    return found if found == found else float("inf")
