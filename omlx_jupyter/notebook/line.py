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
    """Split at blanks outside quotes and brackets: `df["a b"][0]` and `"my file.png"` are one each. A comment behind
    `# ` is left out.

    :raises UsageError: a quote or bracket isn't closed.
    """
    words: list[Word] = []
    current, quote, depth, quoted_only = "", "", 0, False
    text = line.strip().removesuffix(";")
    for index, char in enumerate(text):
        if quote:
            current += char
            escaped = text[index - 1] == "\\" and quote in text[index + 1 :]  # "C:\\scans\\" ends with its quote
            if char == quote and not escaped:
                quote = ""
            continue
        if char == "#" and not current and not depth and text[index + 1 : index + 2].strip() == "":
            return split_line(text[:index])  # a comment, as in Python; `#1.png` is a file
        if char in "\"'" and (depth or _opens(current)):
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


def _opens(before: str) -> bool:
    """Whether a quote behind these characters of a word begins a text: not in `Joe's.png`."""
    return not before[-1:].isalnum() or before.lower() in ("r", "b", "f", "u", "rb", "br", "fr", "rf")


def _word(text: str, starts_quoted: bool) -> Word:
    if (
        starts_quoted
        and len(text) >= 2
        and text[0] == text[-1]
        and text[1:-1].count(text[0]) == text[1:-1].count("\\" + text[0])
    ):
        return Word(text[1:-1].replace("\\" + text[0], text[0]), True)
    return Word(text)
