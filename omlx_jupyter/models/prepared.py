"""A request's prompt, ready for the engine thread: plain Python and numpy only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class VisionInput:
    """One picture after its processor. `tokens` are the ids that stand for it in the prompt.

    `arrays` holds what the vision tower needs, named as the processor names it: `pixel_values`
    (patches or channels first, float32) and, by family, `image_grid_thw` (1, 3) int64 and others.
    """

    digest: str
    tokens: tuple[int, ...]
    arrays: dict[str, np.ndarray]
    width: int
    height: int

    @property
    def nbytes(self) -> int:
        return _bytes_of(self.arrays)


def _bytes_of(value: object) -> int:
    """Of arrays, also those in the dicts and lists that some processors return."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return sum(map(_bytes_of, value))
    return int(getattr(value, "nbytes", 0))


@dataclass(frozen=True)
class ImageSpan:
    """Where a picture's tokens lie in the prompt: [start, start + length)."""

    start: int
    length: int
    digest: str


@dataclass(frozen=True)
class Prepared:
    """A prompt: ids (length N), the pictures in it and where their tokens are.

    `inputs` is the processor's whole output, for families that take it at once.
    """

    ids: list[int]
    images: list[VisionInput] = field(default_factory=list)
    spans: list[ImageSpan] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    inputs: dict[str, Any] | None = None
    hint: str = ""  # what the pictures' sources say that they show

    def held(self) -> dict[int, int]:
        """Bytes of its pictures' arrays, each by its identity: requests with the same picture share it."""
        found = {id(image.arrays): image.nbytes for image in self.images}
        return found | ({id(self.inputs): _bytes_of(self.inputs)} if self.inputs else {})

    def outside(self, start: int, end: int) -> int:
        """Where a chunk from `start` ends that should end at `end` and inside no picture: before the picture, or
        behind one that begins at `start`."""
        for span in self.spans:
            if span.start < end < span.start + span.length:
                return span.start if span.start > start else span.start + span.length
        return end

    def suffix(self, start: int) -> Prepared:
        """The prompt from token `start` on, which lies inside no picture."""
        if not start:
            return self
        kept = [i for i, span in enumerate(self.spans) if span.start >= start]
        spans = [replace(self.spans[i], start=self.spans[i].start - start) for i in kept]
        return Prepared(self.ids[start:], [self.images[i] for i in kept], spans)


def assemble(pieces: list[list[int]], images: list[VisionInput], notes: tuple[str, ...] = ()) -> Prepared:
    """Join the ids around the pictures with the pictures' own tokens."""
    ids, spans = list(pieces[0]), []
    for image, after in zip(images, pieces[1:], strict=True):
        spans.append(ImageSpan(len(ids), len(image.tokens), image.digest))
        ids += image.tokens
        ids += after
    return Prepared(ids, images, spans, notes)
