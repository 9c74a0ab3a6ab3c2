"""What differs between two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from .html import Html, html
from .markdown import safe_line

_WORDS = re.compile(r"\s+|\S+")
_LONG = 4_000_000  # pairs of words; beyond, frequent ones are no anchors: that would cost their number's square


class Kind(StrEnum):
    SAME = "same"
    OUT = "out"  # in the first text only
    IN = "in"  # in the second only


@dataclass(frozen=True)
class Piece:
    """Words that follow one another, with the white space between them."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class WordDiff:
    """From the text of `first` to that of `second`. `str()` has `[-out-]` and `{+in+}`."""

    first: str
    second: str
    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        return "".join(_written(self.pieces, {Kind.OUT: ("[-", "-]"), Kind.IN: ("{+", "+}")}, str))

    def markdown(self) -> str:
        """On one line: ~~out~~ and **in**, all of the words as text."""
        marks = {Kind.OUT: ("~~", "~~"), Kind.IN: ("**", "**")}
        return " ".join(word for word in _written(self.pieces, marks, safe_line) if word.strip())

    def html(self) -> Html:
        """`<del>` and `<ins>`, in the words' own lines."""
        made = Html()
        for piece in self.pieces:
            made = Html(made + _marked(piece))
        return made


def _marked(piece: Piece) -> Html:
    if piece.kind is Kind.OUT:
        return html('<del style="background-color: rgba(220, 60, 60, 0.2)">{}</del>', piece.text)
    if piece.kind is Kind.IN:
        return html('<ins style="background-color: rgba(60, 170, 90, 0.25)">{}</ins>', piece.text)
    return html("{}", piece.text)


def word_diff(first: str, second: str, old: str, new: str) -> WordDiff:
    """The words of `old` (the answer of `first`) against those of `new`."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    matcher = SequenceMatcher(str.isspace, before, after, autojunk=len(before) * len(after) > _LONG)
    pieces: list[Piece] = []
    for _, i, to, j, until in matcher.get_opcodes():
        if before[i:to] == after[j:until]:
            pieces.append(Piece(Kind.SAME, "".join(before[i:to])))
            continue
        pieces += _changed(before[i:to], Kind.OUT) + _changed(after[j:until], Kind.IN)
    return WordDiff(first, second, tuple(pieces))


def _changed(words: Sequence[str], kind: Kind) -> list[Piece]:
    return [Piece(kind, "".join(words))] if words else []


def _written(pieces: Sequence[Piece], marks: dict[Kind, tuple[str, str]], text: Callable[[str], str]) -> Iterator[str]:
    """Each piece between its marks, white space at its ends left outside."""
    for piece in pieces:
        opening, closing = marks.get(piece.kind, ("", ""))
        words = piece.text.strip()
        if not words or not opening:
            yield text(piece.text)
            continue
        at = piece.text.index(words)
        yield piece.text[:at] + opening + text(words) + closing + piece.text[at + len(words) :]
