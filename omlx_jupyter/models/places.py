"""How many places a picture takes in the prompt's embedding: as many as it has tokens, or more where a family puts its
features in place of one token.

What takes more is known once a picture of the same form was embedded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ModelError
from .prepared import ImageSpan, VisionInput

_FEW = 64  # whole numbers of an array, such as sizes and grids, that features may follow from
_TEXT = ("input_ids", "attention_mask", "start", "length")
_FINE = "+"  # before a form that counts whole numbers
_MOST = 500  # forms that are kept
_WAITING = 4  # forms that are looked at after one prompt


class NotFound(ModelError):
    """A family departs from what can be found out about it."""


class Places:
    """Any thread asks; the engine thread learns.

    Pictures are alike by the shapes of what the processor gives; where that is contradicted, by its whole numbers too.
    """

    def __init__(self, known: object = None) -> None:
        """`known` is what `known()` of another one gave, or anything."""
        found = known if isinstance(known, dict) else {}
        self._more: dict[str, int] = {k: v for k, v in found.items() if isinstance(v, int) and v >= 0}  # by form
        self._asked: dict[str, VisionInput] = {}  # of a form that isn't known yet
        self._fine = any(form.startswith(_FINE) for form in self._more)

    @property
    def differ(self) -> bool:
        """Whether any picture took another number of places than it has tokens."""
        return any(self._more.values())

    def known(self) -> dict[str, int]:
        """For JSON; the newest where there are many."""
        return dict(list(self._more.items())[-_MOST:])

    def learn(self, image: VisionInput, more: int) -> None:
        """A picture takes `more` places than it has tokens."""
        self._asked.pop(self._form(image), None)
        if self._more.get(self._form(image), more) != more and not self._fine:
            self._fine = True
            self._more.clear()
        self._more[self._form(image)] = more

    def unknown(self) -> list[VisionInput]:
        """Pictures that were asked for and whose form isn't known."""
        return list(self._asked.values())[:_WAITING]

    def taken(
        self, ids: list[int], images: list[VisionInput], spans: Sequence[ImageSpan]
    ) -> tuple[list[int], list[VisionInput], list[ImageSpan]]:
        """The same prompt with as many tokens for a picture as it takes places.

        :raises NotFound: nobody knows yet how many.
        """
        if not self.differ:
            return ids, images, list(spans)
        forms = [self._form(image) for image in images]
        unknown = {form: image for form, image in zip(forms, images, strict=True) if form not in self._more}
        if unknown:
            self._asked.update(unknown)
            raise NotFound("how many places a picture of this form takes isn't known yet")
        made: list[int] = []
        wide: list[VisionInput] = []
        shifted: list[ImageSpan] = []
        done = 0
        for form, image, span in zip(forms, images, spans, strict=True):
            made += ids[done : span.start]
            tokens = _stretched(image.tokens, self._more[form])
            shifted.append(ImageSpan(len(made), len(tokens), span.digest))
            wide.append(replace(image, tokens=tokens))
            made += tokens
            done = span.start + span.length
        return made + ids[done:], wide, shifted

    def _form(self, image: VisionInput) -> str:
        told = repr((int(image.arrays["length"]), _shape(image.arrays, self._fine)))
        return (_FINE if self._fine else "") + hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _stretched(tokens: tuple[int, ...], more: int) -> tuple[int, ...]:
    if more < 0:
        raise NotFound("its pictures take fewer places than they have tokens")
    return tokens + tokens[-1:] * more


def _shape(value: object, fine: bool) -> Any:
    if isinstance(value, dict):
        return tuple((name, _shape(part, fine)) for name, part in sorted(value.items()) if name not in _TEXT)
    if isinstance(value, list | tuple):
        return tuple(_shape(part, fine) for part in value)
    array = np.asarray(value)
    said = tuple(array.reshape(-1).tolist()) if fine and array.dtype.kind in "iub" and array.size <= _FEW else ()
    return (*array.shape, array.dtype.kind, said)
