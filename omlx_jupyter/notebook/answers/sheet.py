"""A table of questions as a sheet in the cell: it fills as answers come, and stays with the notebook."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .html import Html, html

if TYPE_CHECKING:
    from ...runs.record import Record
    from ...runs.table import Table

_MOST_ROWS = 100
_LONGEST = 200  # characters of a cell
_EVERY_S = 0.5
_UNSURE = 0.5


def sheet_html(table: Table) -> Html:
    """A row a picture, a column a question. A cell that isn't there yet is empty, one that failed says why when it is
    pointed at, and one of which the model was hardly sure is marked."""
    rows = table.rows()
    head = html("<th>source</th>")
    for column in table.columns:
        head = Html(head + html("<th>{}</th>", column))
    body = Html()
    for name, row in list(rows.items())[:_MOST_ROWS]:
        cells = html("<th>{}</th>", name)
        for column in table.columns:
            cells = Html(cells + _cell(row.get(column)))
        body = Html(body + html("<tr>{}</tr>", cells))
    more = html("<p>and {} more rows</p>", len(rows) - _MOST_ROWS) if len(rows) > _MOST_ROWS else Html()
    return html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>{}", head, body, more)


def _cell(record: Record | None) -> Html:
    if record is None:
        return html("<td></td>")
    if record.error:
        return html('<td title="{}">failed</td>', record.error)
    said = str(record.text if record.value is None else record.value)
    said = said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
    if record.confidence is None:
        return html("<td>{}</td>", said)
    style = "text-decoration:underline dotted" if record.confidence < _UNSURE else ""
    return html('<td style="{}" title="the model was {} % sure">{}</td>', style, round(100 * record.confidence), said)


class LiveSheet:
    """The sheet in the cell that runs, anew at most twice a second."""

    def __init__(self, table: Table) -> None:
        self._table, self._shown_at, self._done = table, 0.0, -1
        self._handle: Any = None

    def show(self, done: int, last: bool = False) -> None:
        """`done`: how many answers there are."""
        from IPython.display import HTML, display

        if not last and (done == self._done or time.monotonic() - self._shown_at < _EVERY_S):
            return
        self._done, self._shown_at = done, time.monotonic()
        made = HTML(str(sheet_html(self._table)))
        if self._handle is None:
            self._handle = display(made, display_id=True)
        else:
            self._handle.update(made)
