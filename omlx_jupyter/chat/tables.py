"""Data frames as text that a model reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 200  # of a table that goes into a prompt


def is_table(value: object) -> TypeGuard[pandas.DataFrame | pandas.Series]:
    """Whether it is a pandas DataFrame or Series, or behaves like one."""
    return hasattr(value, "index") and (
        hasattr(value, "to_frame") or (hasattr(value, "itertuples") and hasattr(value, "columns"))
    )


def table(value: pandas.DataFrame | pandas.Series) -> str:
    """A data frame or series as a Markdown table, its first 200 rows."""
    frame = value if hasattr(value, "columns") else value.to_frame()
    names = [str(n) if n is not None else "" for n in frame.index.names]
    shown = frame.iloc[:MOST_ROWS]
    header = [*names, *(str(c) for c in frame.columns)]
    lines = [_row(header), _row("---" for _ in header)]
    for row in shown.itertuples():
        index = row[0] if isinstance(row[0], tuple) else (row[0],)
        lines.append(_row([*index, *row[1:]]))
    if len(frame) > MOST_ROWS:
        lines.append(f"({len(frame) - MOST_ROWS} more rows)")
    return "\n" + "\n".join(lines) + "\n"


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
