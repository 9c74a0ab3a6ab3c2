"""A decode step in which rows are fed drafts, of any width, and say what the model says itself.

A row is fed its last token and its draft. What the model chooses at each place is compared with what was drafted for
it: as far as they agree the places behind are right, and the first that differs is right too. The rest is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..models.sampling import Chosen
from .drafts import Draft
from .row import Row

MOST_TOKENS = 128  # of one step


@dataclass(frozen=True)
class Fed:
    """What one row is fed: its last token, which is known, and a draft of what comes behind it."""

    row: Row
    last: int
    draft: Draft | None = None

    @property
    def source(self) -> str:
        return self.draft.source.name if self.draft is not None else ""

    @property
    def tokens(self) -> list[int]:
        return self.draft.tokens if self.draft is not None else []


def settle(
    rows: Sequence[Row], offered: Sequence[Draft | None], values: Sequence[int], widest: int, most: int
) -> list[Fed]:
    """The drafts that stand now that the last tokens are known, so that the step has at most `most` tokens. Of rows
    whose last token wasn't read yet, it is what their draft begins with."""
    left, made = max(0, most - len(rows)), []
    for row, draft, value in zip(rows, offered, values, strict=True):
        if draft is not None and not row.last_known:
            agrees = draft.tokens[0] == value
            draft = replace(draft, tokens=draft.tokens[1:]) if agrees else row.offer(widest, value)
        if draft is not None:
            draft = replace(draft, tokens=draft.tokens[:left])
            left -= len(draft.tokens)
        made.append(Fed(row, value, draft if draft is not None and draft.tokens else None))
    return made


def agreed(fed: Fed, values: Sequence[int], chosen: Sequence[Chosen | Exception | None]) -> int:
    """How many drafted tokens the model chose itself, one after the other."""
    count = 0
    for token, value, made in zip(fed.tokens, values, chosen, strict=False):
        if token != value or isinstance(made, Exception):
            break
        count += 1
    return count
