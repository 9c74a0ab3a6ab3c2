"""Hostile Markdown, drawn from fragments: nothing acts, and code, math and tables come through letter for letter."""

from __future__ import annotations

import os
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omlx_jupyter.notebook.answers.markdown import safe_markdown

from .renderers import pages

CASES = int(os.environ.get("OMLX_TORTURE_FUZZ", "500"))
ACTIVE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    "<iframe src=//evil.example>",
    "<a href=javascript:alert(1)>x</a>",
    "<!-- x",
    "-->",
    "<style>*{}",
    "<form action=//evil.example><input>",
    "<meta http-equiv=refresh>",
    "<object data=x>",
    "<div onclick=alert(1)",
    "<details open ontoggle=alert(1)>",
    "<?php",
    "<![CDATA[",
    "[x](javascript:alert(1))",
    "[x](data:text/html,x)",
    "[x](java\tscript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](javascript&colon;alert(1))",
    "![x](http://evil.example/p.png)",
    "![x](data:image/svg+xml,x)",
    "[![x](http://e.example/p)](javascript:alert(1))",
    "[x]: javascript:alert(1)",
    "[x]: http://e.example/ 'a\" onclick=\"alert(1)'",
    "<javascript:alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)>",
    "ftp://evil.example/x",
    "$\\href{javascript:alert(1)}{x}$",
    "\\begin{a}<img src=x>\\end{a}",
    "\\begin{align}<img src=x>\\end{align}",
    'http://a.example/"onmouseover=alert(1)',
    '[x](http://a.example/"onmouseover=alert(1)")',
]
MARKS = [
    *(
        "```",
        "````",
        "~~~",
        "``` a`b",
        "```html",
        "```mermaid",
        "`",
        "``",
        "- ",
        "1. ",
        "2) ",
        "> ",
        "    ",
        "\t",
        "# ",
        "=== ",
    ),
    *(
        "---",
        "***",
        "**",
        "*",
        "_",
        "~~",
        "|",
        "| a | b |",
        "|---|---|",
        "--|--",
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "\\",
    ),
    *(
        "[x]",
        "[^1]",
        "[^1]: x",
        "[",
        "]",
        "](",
        ")",
        "!",
        "<",
        ">",
        "&",
        "&amp;",
        ": x",
        "*[x]: y",
        "@@0@@",
        "- [ ] x",
        "{",
        "}",
    ),
    *(
        "\\begin{align}",
        "\\end{align}",
        "%",
        "a",
        "5",
        "word",
        "$5",
        "é",
        "\u202e",
        "\x00",
        "\x0b",
        "\u2028",
        "http://a.example/a_b",
    ),
]
BREAKS = ["\n", "\n", "\n\n", "\r", "\r\n", " ", "", "", "\n\t", "\n    ", "\n> ", "\n- ", "\n   "]
piece = st.one_of(st.sampled_from(MARKS), st.sampled_from(ACTIVE), st.text(max_size=6))
hostile = st.lists(st.tuples(piece, st.sampled_from(BREAKS)), max_size=25).map(lambda p: "".join(a + b for a, b in p))

fuzz = settings(
    max_examples=CASES, deadline=None, derandomize=CASES == 500, suppress_health_check=list(HealthCheck), database=None
)


@fuzz
@given(hostile)
def test_nothing_acts(text: str) -> None:
    made = safe_markdown(text)
    for renderer, page in pages(made).items():
        assert not page.active, (renderer, made)


CODE = [*ACTIVE, *MARKS, "if a < b && c:", "x = `y`", "\n", "\n\n", " ", "$HOME/$USER"]
code_text = st.lists(st.sampled_from(CODE), min_size=1, max_size=8).map("".join)
code_text = code_text.map(lambda t: re.sub(r"[\r\x00\x0b\x0c\u2028]", "", t)).filter(str.strip)
PREFIXES = [("", ""), ("- a\n\n  ", "  "), ("> ", "> "), ("1. a\n   - b\n\n     ", "     ")]


@fuzz
@given(code_text, st.sampled_from(["", "python", "html", "mermaid", "no-such"]), st.sampled_from(PREFIXES), hostile)
def test_code_is_shown_letter_for_letter(code: str, language: str, prefix: tuple[str, str], after: str) -> None:
    code = code.expandtabs(4) if prefix[1] else code  # a container's columns are spaces
    ticks = "`" * (max((len(run) for run in re.findall("`+", code)), default=0) + 3)
    lines = f"{ticks}{language}\n{code}\n{ticks}".split("\n")
    text = prefix[0] + ("\n" + prefix[1]).join(lines) + "\n\nafter\n\n" + after
    for renderer, page in pages(safe_markdown(text)).items():
        assert page.code, renderer
        assert _lines(page.code[0]) == _lines(code), renderer


def _lines(code: str) -> str:
    """Blanks on a line of their own are not seen, and nbconvert drops some."""
    return re.sub(r"(?m)^[ \t]+$", "", code).strip("\n")


inline_code = code_text.map(lambda t: " ".join(t.replace("`", "").split())).filter(bool)


@fuzz
@given(inline_code, st.sampled_from(["", "- ", "> ", "# ", "**b** ", "it costs $5 "]))
def test_code_within_a_line_is_shown_letter_for_letter(code: str, before: str) -> None:
    for renderer, page in pages(safe_markdown(f"{before}see `{code}` and `x`")).items():
        assert page.code == [code, "x"], renderer


@fuzz
@given(st.lists(st.lists(inline_code, min_size=2, max_size=2), min_size=1, max_size=4), st.booleans())
def test_tables_are_shown_letter_for_letter(rows: list[list[str]], in_list: bool) -> None:
    rows = [[cell.replace("\\", "") or "x" for cell in row] for row in rows]
    lines = ["| a | b |", "|---|---|", *(f"| `{a}` | `{b}` |" for a, b in rows)]
    text = "\n".join(lines) if not in_list else "- a\n\n  " + "\n  ".join(lines)
    shown = pages(safe_markdown(text))
    if in_list:
        del shown["nbconvert"]  # its Markdown knows no tables within lists
    for renderer, page in shown.items():
        assert page.cells == ["a", "b", *(cell for row in rows for cell in row)], renderer


TEX = [
    "x",
    "^2",
    "_{i}",
    "\\frac{a}{b}",
    " < ",
    " & ",
    "\\\\",
    "*",
    "y_1",
    "\\alpha ",
    "|",
    "\\{",
    "\\}",
    " = ",
    "(a)",
    "[b]",
    "!",
    "~",
]
math_text = st.lists(st.sampled_from(TEX), min_size=1, max_size=12).map("".join).map(str.strip)
math_text = math_text.filter(lambda t: t and not t.endswith("\\") and "](" not in t)


@fuzz
@given(math_text, st.sampled_from(["$", "$$", "(", "["]), st.sampled_from(["", "- ", "> ", "it costs $5: "]))
def test_math_is_shown_letter_for_letter(math: str, kind: str, before: str) -> None:
    opening, closing = {"(": ("\\(", "\\)"), "[": ("\\[", "\\]")}.get(kind, (kind, kind))
    made = safe_markdown(f"{before}{opening}{math}{closing} end")
    page = pages(made)["nbconvert"]
    sign = "$$" if kind in ("$$", "[") else "$"
    assert f"{sign}{math}{sign} end" in page.text.replace("\n", " ").replace("  ", " ") or (
        f"{sign}{math}{sign}" in page.text
    ), made
