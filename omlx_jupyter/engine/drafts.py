"""Drafts: what a row will probably say next, from text that is known already. Plain Python.

The model itself checks a draft, so a wrong one costs time and changes nothing. A text is searched for the last tokens
of the row; what follows them there is the draft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

_GRAM = 3  # tokens by which a place is found
_LONGEST_MATCH = 32  # compared backwards from there
_PLACES = 4  # of a gram that are remembered, the newest
_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_GAIN = 1.1  # a draft has to promise this many times the tokens of the same time without
_PROMPT = 8192  # tokens of a prompt's end that are looked through
_LEAST_STEP = 8  # tokens of a step with drafts, however long it takes
_LONGEST_PAUSE = 64  # steps without a try, for a source that keeps being wrong


class Text:
    """Tokens in which places are found by the tokens before them. May grow at its end."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.tokens: list[int] = []
        self._places: dict[tuple[int, ...], list[int]] = {}
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            gram = tuple(self.tokens[-_GRAM:])
            if len(gram) == _GRAM:  # the token that follows this gram stands here
                places = self._places.setdefault(gram, [])
                places.append(len(self.tokens))
                del places[:-_PLACES]
            self.tokens.append(token)

    def after(self, said: Sequence[int], most: int) -> tuple[list[int], int]:
        """(what follows `said` here, how many tokens before it agree); empty where nothing is found. Of several
        places the one counts that agrees longest, then the newest."""
        best, found = 0, -1
        for place in reversed(self._places.get(tuple(said[-_GRAM:]), ())):
            length = _agreement(said, self.tokens, place)
            if length > best:
                best, found = length, place
        if found < 0:
            return [], 0
        return _usable(self.tokens[found : found + most]), best


def _agreement(said: Sequence[int], tokens: Sequence[int], place: int) -> int:
    most = min(_LONGEST_MATCH, len(said), place)
    for length in range(most):
        if said[-1 - length] != tokens[place - 1 - length]:
            return length
    return most


def _usable(tokens: list[int]) -> list[int]:
    """Up to a picture's token, which is a negative number here."""
    return next((tokens[:at] for at, token in enumerate(tokens) if token < 0), tokens)


@dataclass
class Costs:
    """What further tokens cost in a step, in steps of one token a row: measured as steps are made. Shared by all rows.

    `slope` begins as measured elsewhere on a CPU: 0.1 a token.
    """

    slope: float = 0.12
    narrow_s: float = 0.0  # a step of one token a row
    by_rows: dict[int, float] = field(default_factory=dict)  # the same, by the number of rows
    token_s: float = 0.0  # of the last step with drafts, a token

    def narrow(self, rows: int, seconds: float) -> None:
        self.narrow_s = _followed(self.narrow_s, seconds)
        known = self.by_rows.get(rows, 0.0)
        self.by_rows[rows] = _followed(known, min(seconds, 2 * known) if known else seconds)  # a stall is no step

    def drafted(self, rows: int, tokens: int, seconds: float) -> None:
        """A step with drafts fed `tokens` in all to so many rows."""
        self.token_s = seconds / tokens
        if self.narrow_s and tokens > rows:
            slope = min(2.0, max(0.002, (seconds / self.narrow_s - 1) / (tokens - rows)))
            self.slope = 0.8 * self.slope + 0.2 * slope

    def within(self, seconds: float, most: int) -> int:
        """Tokens that a step may have to end in time, as the last one went: a long context makes it longer."""
        return min(most, max(_LEAST_STEP, int(seconds / self.token_s))) if self.token_s else most

    def of(self, drafted: int) -> float:
        return 1 + self.slope * drafted


def _followed(known: float, seconds: float) -> float:
    return 0.8 * known + 0.2 * seconds if known else seconds


@dataclass
class Source:
    """A kind of text and how far its drafts could be trusted so far. Texts that come later are tried first."""

    name: str
    right: float  # before anything was seen: so many tokens right,
    wrong: float  # for so many drafts that went wrong
    texts: list[Text] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    _pause: int = 0
    _next_pause: int = 1

    def offer(self, said: Sequence[int], most: int) -> tuple[list[int], int]:
        found: tuple[list[int], int] = ([], 0)
        if self._pause > 0:
            self._pause -= 1
            return found
        for text in reversed(self.texts):
            made = text.after(said, most)
            if made[1] > found[1]:
                found = made
        return found

    def promise(
        self, agreement: int, have: int, costs: Costs, least: float = _GAIN, extra: float = 0.0
    ) -> tuple[int, float]:
        """(How many tokens of a draft are worth trying, 0: none; how many tokens it promises for those of the same
        time without). `extra` is what making the draft costs, in steps."""
        right = self.right + min(agreement, 16) / 4
        chance = right / (right + self.wrong)
        best, width = least, 0
        for count in (*(w for w in _WIDTHS if w < have), min(have, _WIDTHS[-1])):
            gain = (1 - chance ** (count + 1)) / (1 - chance) / (costs.of(count) + extra)
            if gain > best:
                best, width = gain, count
        return width, best

    def told(self, drafted: int, accepted: int) -> None:
        """Learn from a draft; what was long ago counts less."""
        self.drafted += drafted
        self.accepted += accepted
        self.right = 0.9 * self.right + accepted
        self.wrong = 0.9 * self.wrong + (accepted < drafted) + 0.02
        if accepted:
            self._next_pause = 1
        else:
            self._pause = self._next_pause
            self._next_pause = min(_LONGEST_PAUSE, 2 * self._next_pause)


@dataclass(frozen=True)
class Draft:
    tokens: list[int]
    source: Source
    gain: float = math.inf  # what its source promises: tokens for those of the same time without


class RowDrafts:
    """One row's sources, the most trusted first: an earlier answer, a hint, its own text, what other rows say."""

    def __init__(self, prompt: Sequence[int], costs: Costs, others: Source, hint: Sequence[int] = ()) -> None:
        self._costs = costs
        self.text = Text(prompt[-_PROMPT:])
        self._certain = Source("grammar", 9.0, 0.2)
        self._earlier = Source("earlier answer", 9.0, 0.5)
        given = [Text([*prompt[-_GRAM:], *hint])] if hint else []
        self.sources = [
            self._certain,
            self._earlier,
            Source("hint", 4.0, 1.0, given),
            Source("text", 0.5, 1.0, [self.text]),
            others,
        ]

    def know(self, tokens: Sequence[int]) -> None:
        """An earlier answer to this prompt or to one like it, with the tokens before it."""
        self._earlier.texts.append(Text(tokens))

    def hear(self, token: int) -> None:
        """The row has said a token."""
        self.text.extend([token])

    def certain(self, tokens: Sequence[int]) -> Draft:
        """Tokens that a grammar leaves no choice about."""
        return Draft(list(tokens), self._certain)

    def offer(self, most: int, last: int | None = None) -> Draft | None:
        """What may follow what was said, and `last` where it wasn't heard yet; at most `most` tokens."""
        said = [*self.text.tokens[-_LONGEST_MATCH:], *([] if last is None else [last])]
        if most < 1:
            return None
        for source in self.sources:
            found, agreement = source.offer(said, min(most, _WIDTHS[-1]))
            width, gain = source.promise(agreement, len(found), self._costs) if found else (0, 0.0)
            if width:
                return Draft(found[:width], source, gain)
        return None
