"""Regions' texts -> one Markdown text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .types import Kind

_FENCE = re.compile(r"^\s*(`{3,})[\w-]*\n(.*?)\n?\1\s*$", re.DOTALL)
_MARKS = {"title": "# ", "heading": "## "}


def markdown_of(kind: Kind, text: str, number: int = 0) -> str:
    """A region's text as Markdown; `number` counts figures. A text that is Markdown or HTML already stays as it is."""
    text = text.strip()
    if kind == "figure":
        return f"[figure {number}]" + (f"\n{text}" if text else "")
    if not text:
        return ""
    if kind == "code":
        ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        return text if _FENCE.match(text) else f"{ticks}\n{text}\n{ticks}"
    if kind == "formula":
        return text if text.startswith(("$", "\\[", "\\(")) else f"$$\n{text}\n$$"
    mark = _MARKS.get(kind, "")
    return mark + " ".join(text.split()) if mark and not text.startswith("#") else text


def table_of(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first row its head."""
    if not rows:
        return ""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def unfenced(text: str) -> str:
    """A model's answer without a code fence round all of it."""
    found = _FENCE.match(text)
    return found.group(2) if found else text
