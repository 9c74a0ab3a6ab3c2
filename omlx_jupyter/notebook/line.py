"""A magic's line as words."""

from __future__ import annotations

from dataclasses import dataclass

from IPython.core.error import UsageError

_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Word:
    """One argument; `quoted` if it stood in quotes, so that it is text and no expression."""

    text: str
    quoted: bool = False


def split_line(line: str) -> list[Word]:
    """Split at blanks outside quotes and brackets: `df["a b"][0]` and `"my file.png"` are one each.

    :raises UsageError: a quote or bracket isn't closed.
    """
    words: list[Word] = []
    current, quote, depth, quoted_only = "", "", 0, False
    text = line.strip().removesuffix(";")
    for index, char in enumerate(text):
        if quote:
            current += char
            if char == quote and text[index - 1] != "\\":
                quote = ""
            continue
        if char in "\"'":
            quoted_only = not current
            quote = char
            current += char
        elif char.isspace() and depth == 0:
            if current:
                words.append(_word(current, quoted_only))
            current, quoted_only = "", False
        else:
            depth += (char in _OPEN) - (char in _CLOSE and depth > 0)
            current += char
    if quote:
        raise UsageError(f"a quote ({quote}) isn't closed in: {line.strip()[:200]}")
    if depth:
        raise UsageError(f"a bracket isn't closed; put a name that has one in quotes: {line.strip()[:200]}")
    if current:
        words.append(_word(current, quoted_only))
    return words


def _word(text: str, starts_quoted: bool) -> Word:
    if (
        starts_quoted
        and len(text) >= 2
        and text[0] == text[-1]
        and text.count(text[0]) - text.count("\\" + text[0]) == 2
    ):
        return Word(text[1:-1].replace("\\" + text[0], text[0]), True)
    return Word(text)
