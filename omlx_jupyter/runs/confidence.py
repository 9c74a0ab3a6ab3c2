"""How sure a model was of an answer: by its least sure token, in the model's own distribution.

That is the distribution before a grammar's mask, under which a forced token would always be certain.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..types import Generation

if TYPE_CHECKING:
    from ..engine.front import Front

Path = tuple[str, ...]
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Sure:
    """Probabilities, 0 to 1: of the answer's least sure token, and of each field's. None: the engine tells none."""

    least: float | None = None
    fields: Mapping[str, float] = field(default_factory=dict)


def confidence(answer: Generation, value: object, engine: Front) -> Sure:
    """Of an answer; by fields where it is a JSON object."""
    told = answer.logprobs
    if not told:
        lines = [line.logprob for line in getattr(answer, "lines", ())]  # each the mean of its tokens'
        return Sure(_probability(min(lines))) if lines else Sure()
    said = told[answer.usage.reasoning_tokens :]
    least = _probability(min((t.logprob for t in said), default=0.0))
    ends = engine.token_ends([token.token_id for token in said]) if isinstance(value, Mapping) else None
    if ends is None:
        return Sure(least)
    spans = [(begin, max(end, begin + 1)) for begin, end in zip([0, *ends], ends, strict=False)]
    found: dict[str, float] = {}
    for path, begin, end in _values(answer.text):
        touched = [t.logprob for t, (first, last) in zip(said, spans, strict=True) if first < end and last > begin]
        if touched:
            found[".".join(path)] = _probability(min(touched))
    return Sure(min(found.values(), default=least), found)


def _probability(logprob: float) -> float:
    """Four digits of it."""
    return float(f"{math.exp(logprob):.4g}")


def _values(text: str) -> Iterator[tuple[Path, int, int]]:
    """The scalars of a JSON text: (path, begin, end in characters)."""
    try:
        yield from _value(text, _blank(text, 0), ())[1]
    except (ValueError, IndexError):
        return


def _value(text: str, at: int, path: Path) -> tuple[int, list[tuple[Path, int, int]]]:
    """(where it ends, its scalars)."""
    if text[at] not in "{[":
        end = _DECODER.raw_decode(text, at)[1]
        return end, [(path, at, end)]
    is_object, found, number = text[at] == "{", list[tuple[Path, int, int]](), 0
    at = _blank(text, at + 1)
    while text[at] not in "}]":
        key = str(number)
        if is_object:
            key, at = _DECODER.raw_decode(text, at)
            at = _blank(text, _blank(text, at) + 1)  # over the colon
        at, inner = _value(text, at, (*path, key))
        found += inner
        number += 1
        at = _blank(text, at)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return at + 1, found


def _blank(text: str, at: int) -> int:
    while text[at] in " \n\r\t":
        at += 1
    return at
