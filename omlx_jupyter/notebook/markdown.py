"""Model text as Markdown that can neither run script nor load anything."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^\s{0,3}(```|~~~)")


def safe_markdown(text: str) -> str:
    """Markup kept, HTML shown as text, pictures turned into links' text, line breaks kept."""
    lines, fence = [], ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            lines.append(line)
            if mark and mark.group(1) == fence:
                fence = ""
            continue
        if mark:
            fence = mark.group(1)
            lines.append(line.replace("<", "&lt;"))
            continue
        lines.append(_safe_line(line))
    if fence:
        lines.append(fence)  # an answer that was cut inside a code block
    return "\n".join(lines)


def _safe_line(line: str) -> str:
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace("![", "!\\[")
    line = re.sub(r"(?i)\]\(\s*(javascript|data|vbscript|file):", r"](#blocked-\1-", line)
    line = re.sub(r"(?i)^(\s{0,3}\[[^\]]*\]:)", lambda m: "\\" + m.group(1).lstrip(), line)  # reference definitions
    return line + "  " if line.strip() and not line.lstrip().startswith("|") else line
