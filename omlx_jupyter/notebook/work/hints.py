"""`--hint` and `hint=`: text that an answer may repeat. The model checks it, so a wrong one costs time only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...errors import RequestError


def hint_text(value: object) -> str:
    """A hint's text: of text, of an answer, of a missing value in a column.

    :raises RequestError: anything else.
    """
    if value is None or (isinstance(value, float) and value != value) or type(value).__name__ == "NAType":
        return ""
    text = getattr(value, "text", value)
    if not isinstance(text, str):
        raise RequestError(f"the hint is a {type(value).__name__}; give text, or an answer.")
    return text


def hints_for(value: object, pictures: int) -> list[str]:
    """A hint for each picture: one for all of them, or a list or column of as many.

    :raises RequestError: it has another length, or holds something else than text.
    """
    if value is None or isinstance(value, str) or not isinstance(value, Iterable) or isinstance(value, Mapping):
        return [hint_text(value)] * pictures
    made = [hint_text(item) for item in value]
    if len(made) != pictures:
        raise RequestError(f"there are {len(made)} hints for {pictures} pictures; give one for all, or one for each.")
    return made
