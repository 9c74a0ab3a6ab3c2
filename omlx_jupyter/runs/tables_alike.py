"""How alike the tables of two texts are: TEDS, the tree-edit-distance similarity of their rows and cells."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from ..errors import RunError

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_TABLE = re.compile(r"<table\b.*?</table\s*>", re.DOTALL | re.IGNORECASE)
_ROW = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$", re.MULTILINE)


def tables_alike(said: str, truth: str) -> float | None:
    """The mean similarity, 0 to 1, of the tables of two texts, in order; a table that only one of them has counts as 0.
    None: the truth has none.

    :raises RunError: a package that is missing.
    """
    if not (_TABLE.search(truth) or _ROW.search(truth)):
        return None
    wanted, found = tables_of(truth), tables_of(said)
    if not wanted:
        return None
    pairs = zip(found, wanted, strict=False)
    return sum(_alike(one, other) for one, other in pairs) / max(len(found), len(wanted))


def tables_of(text: str) -> list[str]:
    """A text's tables, in Markdown or HTML, as plain HTML of rows and cells, in order."""
    from markdown_it import MarkdownIt

    try:
        from lxml import html
    except ImportError:
        raise _missing() from None
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    made = []
    for table in html.fromstring(f"<div>{rendered}</div>").iter("table"):
        rows = []
        for row in table.iter("tr"):
            cells = [_cell(cell) for cell in row if cell.tag in ("td", "th")]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        if rows:
            made.append(f"<table>{''.join(rows)}</table>")
    return made


def _cell(cell: HtmlElement) -> str:
    spans = "".join(f' {name}="{cell.get(name)}"' for name in ("colspan", "rowspan") if str(cell.get(name)).isdigit())
    return f"<td{spans}>{escape(' '.join(cell.text_content().split()))}</td>"


def _alike(said: str, truth: str) -> float:
    from docling_metrics_table import TableMetricHTMLInputSample

    sample = TableMetricHTMLInputSample(id="table", html_a=truth, html_b=said)
    return float(_metric().evaluate_sample(sample).teds.teds)


@cache
def _metric() -> Any:
    """:raises RunError: a package that is missing."""
    try:
        from docling_metrics_table import TableMetric
        from docling_metrics_table.docling_metrics_table import TableMetricKind
    except ImportError:
        raise _missing() from None
    return TableMetric([TableMetricKind.TEDS])


def _missing() -> RunError:
    return RunError("comparing tables needs docling-metrics-table: pip install 'omlx_jupyter[runs]'.")
