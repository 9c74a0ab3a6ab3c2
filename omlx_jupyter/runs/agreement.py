"""How far two readings of one source agree."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any


def agreement(first: object, second: object) -> float:
    """0 to 1: of texts how alike their words are; of values the share of the fields that are the same."""
    if isinstance(first, str) and isinstance(second, str):
        mine, theirs = first.split(), second.split()
        return difflib.SequenceMatcher(None, mine, theirs, autojunk=False).ratio() if mine or theirs else 1.0
    fields = dict(_fields(first, ""))
    missing = set(dict(_fields(second, ""))) - set(fields)
    return 1 - (len(disputed(first, second)) + len(missing)) / max(1, len(fields) + len(missing))


def disputed(first: object, second: object) -> set[str]:
    """The paths of a value's fields, dots between, for which the `second` reading has something else. None as the
    second: there was none."""
    if second is None:
        return set()
    theirs = dict(_fields(second, ""))
    return {path for path, value in _fields(first, "") if path not in theirs or theirs[path] != value}


def _fields(value: object, path: str) -> Iterator[tuple[str, Any]]:
    inner: Any = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        yield path, value
    for name, held in inner:
        yield from _fields(held, f"{path}.{name}" if path else str(name))
