"""A run's records as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .record import Record

if TYPE_CHECKING:
    import pandas

_FIRST = ("source", "page", "text")
_LAST = ("error", "finish_reason", "model", "seconds", "prompt_tokens", "completion_tokens", "kind")


def frame(records: Iterable[Record]) -> pandas.DataFrame:
    """One row a record: its source, its text, the fields of its value, and how it went.

    :raises RunError: pandas isn't installed.
    """
    try:
        import pandas
    except ImportError:
        raise RunError("tables need pandas: pip install pandas.") from None
    rows = []
    for record in records:
        row: dict[str, Any] = {name: getattr(record, name) for name in _FIRST}
        if isinstance(record.value, Mapping):
            row |= {key if key not in (*_FIRST, *_LAST) else f"value.{key}": held for key, held in record.value.items()}
        elif record.value is not None:
            row["value"] = record.value
        row |= {name: record.usage.get(name) if name.endswith("_tokens") else getattr(record, name) for name in _LAST}
        rows.append(row)
    made = pandas.DataFrame(rows)
    fields = [column for column in made.columns if column not in (*_FIRST, *_LAST)]
    return made[[c for c in (*_FIRST, *fields, *_LAST) if c in made.columns]]
