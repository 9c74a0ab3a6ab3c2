"""What of a run a person should look at first: the fields and lines of which the model was least sure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..images.grounding import BOX_KEYS
from ..types import Json
from .agreement import disputed
from .record import Record

Corners = Sequence[Sequence[float]]

MOST = 200  # that are shown at once


@dataclass(frozen=True)
class Doubt:
    """A field of a value (`place` is its path, dots between), a line of a page (`place` is its number), or all of an
    answer (`place` is ""). `box` is where it stands, four corners in the picture's pixels, where that is known."""

    record: Record
    place: str
    said: str
    sure: float
    box: Corners | None = None

    def corrected(self, text: str) -> tuple[Json, str]:
        """(value, text) of the record with another text in this place."""
        record = self.record
        if record.lines and self.place:
            lines = [dict(line) for line in record.lines]
            before = str(lines[int(self.place)]["text"])
            return None, record.text.replace(before, text, 1)
        if self.place:
            return _with(record.value, self.place.split("."), _like(self.said, _at(record.value, self.place), text)), ""
        if record.value is not None:
            return _like(self.said, record.value, text), ""
        return None, text


def doubts(records: Iterator[Record], most: int = MOST) -> list[Doubt]:
    """The least sure first; what a person corrected or accepted before isn't asked again."""
    found = [doubt for record in records if not record.error and record.kind == "answer" for doubt in _of(record)]
    return sorted(found, key=lambda doubt: doubt.sure)[:most]


def _of(record: Record) -> Iterator[Doubt]:
    if record.sure:
        for place, sure in record.sure.items():
            if _is_side(place):
                continue
            doubted = 0.0 if place in disputed(record.value, record.other) else sure
            yield Doubt(record, place, _text(_at(record.value, place)), doubted, _box(record, place))
    elif record.lines:
        for number, line in enumerate(record.lines):
            yield Doubt(record, str(number), line["text"], math.exp(line["logprob"]), line["box"])
    elif record.confidence is not None:
        yield Doubt(record, "", record.text if record.value is None else _text(record.value), record.confidence)


def _is_side(place: str) -> bool:
    """Whether it is one number of a box: nobody corrects these one by one, and the picture shows them."""
    steps = place.split(".")
    return len(steps) > 1 and steps[-2] in BOX_KEYS and steps[-1].isdigit()


def _box(record: Record, place: str) -> Corners | None:
    """Of the field, or of the object around it that has a box: `total.value` stands where `total` does."""
    while place and place not in record.places:
        place = place.rpartition(".")[0]
    return record.places.get(place)


def _at(value: Json, place: str) -> Json:
    """:raises TypeError: nothing stands there."""
    for step in place.split("."):
        if isinstance(value, list):
            value = value[int(step)]
        elif isinstance(value, Mapping):
            value = value[step]
        else:
            raise TypeError(place)
    return value


def _with(value: Json, steps: list[str], held: Json) -> Json:
    if not steps:
        return held
    if isinstance(value, list):
        at = int(steps[0])
        return [*value[:at], _with(value[at], steps[1:], held), *value[at + 1 :]]
    assert isinstance(value, Mapping)
    return {**value, steps[0]: _with(value[steps[0]], steps[1:], held)}


def _text(value: Json) -> str:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _like(said: str, old: Json, text: str) -> Json:
    """A text as the kind of value that stands there.

    :raises ValueError: it is no number where one stands.
    """
    if text == said:
        return old
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false")
        return text.lower() == "true"
    if isinstance(old, int | float):
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    return text


def without(found: list[Doubt], done: Doubt, record: Record) -> list[Doubt]:
    """The others, those of the same record over what it says now."""
    return [replace(d, record=record) if d.record.key == record.key else d for d in found if d is not done]
