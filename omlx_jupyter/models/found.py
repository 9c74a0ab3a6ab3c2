"""Families that nothing is listed of: where a picture's tokens lie, what its features are and which positions a prompt
has is found by asking the family's own code, so that rows can be batched, cut into chunks and cached.

Whether that gives what the family computes alone is for `proof` to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import ModelError
from ..types import ImagePart, Message
from . import both_ways, told, whole, xdrope
from .loaded import LoadedModel
from .places import NotFound, Places
from .positions import Positions
from .prepared import ImageSpan, Prepared, VisionInput
from .switches import PLAIN, TemplateUse
from .towers import place_spans
from .vision import PictureProcessor
from .whole import WholeProcessor, restored


class FoundVision(PictureProcessor):
    """A checkpoint's processor, picture by picture. Any thread.

    A picture's tokens are all that only pictures bring; where pictures side by side share some of those, from the
    first to the last that its features stand at.
    """

    def __init__(self, whole: WholeProcessor, pictures: Sequence[Any], places: object = None) -> None:
        """`pictures` are any two decoded ones; `places` is what is known about them (`Places.known`).

        :raises NotFound: no token stands for a picture alone.
        """
        super().__init__()
        self.whole = whole
        self.most = 0  # pictures that a prompt may have, to be taken apart; 0: any number
        self.lost = ""  # why the last prompt that wasn't taken apart wasn't
        self.places = Places(places)
        texts = ("x", "yes or no")
        try:
            bare = {token for text in texts for token in self._asked(None, text)[0]}
        except ModelError:
            raise NotFound("it takes no prompt without a picture") from None
        seen = [set(self._asked(pictures[0], text)[0]) - bare for text in texts]
        self._pictures = seen[0] & seen[1]  # tokens that only pictures bring
        if not self._pictures:
            raise NotFound("no token of the prompt stands for a picture")
        beside = [Message("user", [*(ImagePart(picture) for picture in pictures), "x"])]
        try:
            if self.prepare(beside, pictures, PLAIN, ()).inputs is None:
                return
        except ModelError:  # of its processor: one picture at a time is what it takes
            return
        tokens = [t for t in self._asked(pictures[0], "x")[0] if t in self._pictures]
        self._pictures = {max(set(tokens), key=tokens.count)}
        self.forget()

    def prepare(
        self, messages: Sequence[Message], images: Sequence[Any], use: TemplateUse, notes: tuple[str, ...]
    ) -> Prepared:
        """As `WholeProcessor.prepare`, and where each picture's tokens lie, in place of `inputs`.

        With `inputs`, as the whole processor's, where a picture's tokens don't lie in the prompt as in one of its own.
        """
        made = self.whole.prepare(messages, images, use, notes)
        try:
            if self.most and len(images) > self.most:
                raise NotFound(f"more pictures than {self.most} were never tried")
            ids = _plain(made.ids)
            seen = [self.process(image) for image in images]
            return Prepared(*self.places.taken(ids, seen, self._spans(ids, seen)), notes)
        except NotFound as error:
            self.lost = str(error)
            return made

    def _spans(self, ids: list[int], seen: Sequence[VisionInput]) -> list[ImageSpan]:
        spans, at = [], 0
        for image in seen:
            at = _find(ids, image.tokens, at)
            spans.append(ImageSpan(at, len(image.tokens), image.digest))
            at += len(image.tokens)
        rest = [token for i, token in enumerate(ids) if not any(s.start <= i < s.start + s.length for s in spans)]
        if self._pictures & set(rest):
            raise NotFound("tokens of a picture are left over in the prompt")
        return spans

    def _run(self, image: Any) -> VisionInput:
        """One picture in a prompt of its own; `arrays` are that prompt's, `start` where its tokens begin and `length`
        how many they are."""
        ids, inputs = self._asked(image, "x")
        places = [i for i, token in enumerate(ids) if token in self._pictures]
        if not places:
            raise NotFound("a picture brings no tokens of its own")
        start, end = places[0], places[-1] + 1
        arrays = {**inputs, "start": np.array(start), "length": np.array(end - start)}
        return VisionInput(image.digest, tuple(ids[start:end]), arrays, image.width, image.height)

    def _asked(self, image: Any, text: str) -> tuple[list[int], dict[str, Any]]:
        parts: list[Any] = [text] if image is None else [ImagePart(image), text]
        made = self.whole.prepare([Message("user", parts)], [] if image is None else [image], PLAIN, ())
        assert made.inputs is not None
        return _plain(made.ids), made.inputs


def _plain(ids: list[int]) -> list[int]:
    """Token ids, where those of pictures may be their numbers in the prompt, less than 0: all of them -1."""
    return [max(token, -1) for token in ids]


def _find(ids: list[int], tokens: tuple[int, ...], start: int) -> int:
    for at in range(start, len(ids) - len(tokens) + 1):
        if ids[at] == tokens[0] and tuple(ids[at : at + len(tokens)]) == tokens:
            return at
    raise NotFound("a picture's tokens depend on what is around it")


class FoundModel(LoadedModel):
    """A loaded checkpoint of a family that nothing is listed of. A picture's features are the rows that the family's
    own embedding gives at its tokens, (tokens, hidden), and beside them the rows that enter deeper layers, if any.
    """

    _hidden = 0  # width of an embedding
    _offset_rows = False  # rows for deeper layers are wanted from the prompt's first token on
    _by_layer: tuple[int, ...] | None = None  # (layers, width) of what each layer gets of every token, text's too
    _width = 0  # of an embedding with what layers get of it

    def encode_image(self, image: VisionInput) -> mx.array:
        """Vision features of one picture, (tokens, hidden), or wider where rows enter deeper layers; evaluated."""
        found, more = self._in_its_own_prompt(image)
        if int(image.arrays["length"]) + more != len(image.tokens):
            raise NotFound("its pictures take another number of places than was thought")
        start = int(image.arrays["start"])
        rows = slice(start, start + len(image.tokens))
        made = self._with_layers(found)[0, rows]
        if self.both_ways:
            made = both_ways.marked(made, image.arrays, rows)
        deep, mask = found.get("deepstack_visual_embeds"), found.get("visual_pos_masks")
        if deep is not None or mask is not None:
            if mask is None or self._by_layer:
                raise NotFound("rows enter deeper layers, and no mask says where")
            self._offset_rows = isinstance(deep, mx.array)
            deep = getattr(deep, "embeddings", deep)
            deep = [d.astype(made.dtype) for d in (() if deep is None else deep)]
            if self._offset_rows:
                seen = mx.array(np.flatnonzero(np.array(mask).reshape(-1)))
                deep = [d[seen] for d in deep]
            made = _beside(made, deep, mask.reshape(-1), rows)
        mx.eval(made)
        return made

    def measure(self, images: Sequence[VisionInput]) -> None:
        """Look how many places pictures take in place of their tokens."""
        assert isinstance(self.vision, FoundVision)
        for image in images:
            self.vision.places.learn(image, self._in_its_own_prompt(image)[1])
        if images and self.vision.places.differ:
            self.remembered.put("places", self.vision.places.known())

    def _in_its_own_prompt(self, image: VisionInput) -> tuple[dict[str, Any], int]:
        """What the family's embedding returns for a picture's own prompt, and how many places that takes more than it
        has tokens."""
        arrays = {name: value for name, value in image.arrays.items() if name not in ("start", "length")}
        found = self._embedded(arrays)
        return found, int(found["inputs_embeds"].shape[1]) - np.asarray(arrays["input_ids"]).size

    def _embedded(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """What the family's embedding returns for a processor's arrays. What else it returns is left out: where its
        language model needs that, the proof fails."""
        self._forget()
        inputs = restored(arrays)
        ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask", None)
        pixels = inputs.pop("pixel_values", None)
        made = self.model.get_input_embeddings(ids, pixels, mask=mask, **inputs)
        return {name: value for name, value in made.to_dict().items() if value is not None}

    def embed(self, prompt: Prepared, features: list[mx.array]) -> mx.array | None:
        """(1, N, hidden) or wider, see `encode_image`."""
        found = self._text_of(prompt)
        self._hidden = found["inputs_embeds"].shape[-1]
        text = self._with_layers(found)
        self._width = text.shape[-1]
        if not prompt.images:
            return text
        if any(rows.shape[0] != span.length for rows, span in zip(features, prompt.spans, strict=True)):
            raise NotFound("its pictures take another number of places than was thought")
        wide = features[0].shape[-1]
        if self.both_ways and wide == self._width:
            raise NotFound("what is kept of its pictures doesn't say which tokens see one another")
        if wide > text.shape[-1]:
            text = mx.concatenate([text, mx.zeros((*text.shape[:2], wide - text.shape[-1]), text.dtype)], axis=-1)
        return place_spans(text, prompt.spans, features)

    def _text_of(self, prompt: Prepared) -> dict[str, Any]:
        """What the family's embedding returns for a prompt's tokens."""
        try:
            return dict(self.model.get_input_embeddings(mx.array([prompt.ids]), None).to_dict())
        except ValueError:
            if not told.wanted(prompt.images):
                raise
            return {"inputs_embeds": told.of_prompt(self.model, prompt)[0]}

    def _with_layers(self, found: dict[str, Any]) -> mx.array:
        """An embedding's rows (1, N, hidden), wider where layers get rows of their own of every token."""
        rows, each = found["inputs_embeds"], found.get("per_layer_inputs")
        if each is None:
            return rows
        self._by_layer = each.shape[2:]
        return mx.concatenate([rows, each.reshape(*rows.shape[:2], -1).astype(rows.dtype)], axis=-1)

    def prepare(
        self, messages: Sequence[Message], images: Sequence[Any], use: TemplateUse = PLAIN, notes: tuple[str, ...] = ()
    ) -> Prepared:
        """See LoadedModel; with `inputs` where the prompt isn't taken apart."""
        if self.whole_because and isinstance(self.vision, FoundVision):
            return self.vision.whole.prepare(messages, images, use, notes)
        made = super().prepare(messages, images, use, notes)
        last = made.spans[-1] if self.both_ways and made.spans else None
        if last and last.start + last.length >= len(made.ids) and isinstance(self.vision, FoundVision):
            return self.vision.whole.prepare(messages, images, use, notes)  # its last token would be alone
        return made

    def positions(self, prompt: Prepared) -> Positions | None:
        """By the family's own index of the whole prompt, pictures' grids included."""
        if not self.family.mrope or prompt.inputs is not None:
            return None
        self._forget()
        if self.family.axes == xdrope.AXES:
            return xdrope.positions(prompt)
        grids = [g.reshape(-1, 3) for g in (i.arrays.get("image_grid_thw") for i in prompt.images) if g is not None]
        ids = mx.array([prompt.ids])
        grid = mx.array(np.concatenate(grids)) if grids else None
        try:
            index = self.language_model.get_rope_index
            named = {"image_grid_thw": grid, "attention_mask": mx.ones(ids.shape, mx.int32)}
            places, delta = index(ids, **{n: v for n, v in named.items() if n in signature(index).parameters})
        except ValueError:
            if not told.wanted(prompt.images):
                raise
            return told.of_prompt(self.model, prompt)[1]
        except AttributeError:  # an index taken over from another family, which its config doesn't fit
            places, delta = mx.arange(len(prompt.ids))[None], mx.zeros(1, mx.int32)
        made = np.array(places)
        if made.ndim == 2:  # text alone has one axis
            made = np.broadcast_to(made[None], (3, *made.shape))
        if made.ndim != 3 or made.shape[1:] != (1, len(prompt.ids)):
            raise NotFound(f"its positions have the shape {made.shape}")
        return Positions(made[:, 0], int(np.array(delta).reshape(-1)[0]))

    def forward(
        self, ids: mx.array, caches: list[Any], embeds: mx.array | None = None, positions: mx.array | None = None
    ) -> mx.array:
        """Logits (B, L, V); see LoadedModel."""
        self._forget()
        extra: dict[str, Any] = {}
        if embeds is not None:
            if self.both_ways and embeds.shape[-1] > self._width:
                embeds, extra = both_ways.apart(self.language_model, embeds)
            if self._by_layer:
                embeds, each = mx.split(embeds, [self._hidden], axis=-1)
                extra["per_layer_inputs"] = each.reshape(*each.shape[:2], *self._by_layer)
            else:
                before = int(caches[0].offset) if self._offset_rows else None
                embeds, deep = _apart(embeds, self._hidden, before)
                extra.update(deep)
            extra["inputs_embeds"] = embeds
        if self.family.axes == xdrope.AXES:
            call = partial(self.language_model, ids, cache=caches, **extra)
            output = xdrope.forward(self.language_model, positions, call)
            return getattr(output, "logits", output)
        if positions is not None:
            extra["position_ids"] = positions if self.family.axes == 3 else positions[0]
        output = self.language_model(ids, cache=caches, **extra)
        return getattr(output, "logits", output)

    def prefill_whole(self, prompt: Prepared, caches: list[Any]) -> tuple[mx.array, int]:
        """Logits (1, V) behind a prompt that goes through the family's own code at once, and what the positions of
        what follows are ahead of its tokens by."""
        self._forget()
        logits, _ = whole.prefill(self.model, prompt, caches)
        delta = whole.delta_of(self.model)
        if isinstance(self.vision, FoundVision):
            self.measure(self.vision.places.unknown())
        return logits, delta

    def _forget(self) -> None:
        """What the last call left on the model would go before what this one is given."""
        for owner in (self.language_model, self.model):
            for name in ("_position_ids", "_rope_deltas", "position_ids", "rope_deltas"):
                if vars(owner).get(name) is not None or (isinstance(owner, dict) and owner.get(name) is not None):
                    setattr(owner, name, None)


def _beside(rows: mx.array, deep: list[mx.array], mask: mx.array, span: slice) -> mx.array:
    """(tokens, hidden * (1 + layers) + 1): rows, what enters deeper layers (zeros elsewhere), and 1 where it does."""
    seen = np.array(mask).astype(bool)
    before, inside = int(seen[: span.start].sum()), np.flatnonzero(seen[span])
    place = mx.array(inside)
    columns = [rows]
    for layer in deep:
        placed = mx.zeros((rows.shape[0], layer.shape[-1]), rows.dtype)
        columns.append(placed.at[place].add(layer[before : before + len(inside)]))
    columns.append(mx.array(seen[span][:, None].astype(np.float32)).astype(rows.dtype))
    return mx.concatenate(columns, axis=-1)


def _apart(embeds: mx.array, hidden: int, before: int | None = None) -> tuple[mx.array, dict[str, Any]]:
    """The other way round for a chunk (1, tokens, wide): its embeddings, and what deeper layers get of it; where
    `before` tokens of the prompt are to be counted, in full with zeros for these."""
    if embeds.shape[-1] <= hidden:
        return embeds, {}
    seen = np.array(embeds[0, :, -1].astype(mx.float32)) > 0.5
    rows, layers = embeds[..., :hidden], (embeds.shape[-1] - 1) // hidden - 1
    if not seen.any():
        return rows, {}
    deep = [embeds[0, :, hidden * (i + 1) : hidden * (i + 2)] for i in range(layers)]
    if before is not None:
        whole = [mx.concatenate([mx.zeros((before, hidden), rows.dtype), layer]) for layer in deep]
        mask = np.concatenate([np.zeros(before, bool), seen])
        return rows, {"visual_pos_masks": mx.array(mask[None]), "deepstack_visual_embeds": mx.stack(whole)}
    place, extra = mx.array(np.flatnonzero(seen)), {"visual_pos_masks": mx.array(seen[None])}
    return rows, {**extra, "deepstack_visual_embeds": [d[place] for d in deep]} if deep else extra
