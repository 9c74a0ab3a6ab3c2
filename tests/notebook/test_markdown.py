"""Model text can't run, load or fetch anything, and shows what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from omlx_jupyter.notebook.answers.markdown import safe_line, safe_markdown

from .renderers import pages

ANSWERS = json.loads((Path(__file__).parent / "data" / "answers.json").read_text(encoding="utf-8"))
HOSTILE = ANSWERS["nothing active may come out"]
KEPT = ANSWERS["must be shown letter for letter"]
ATTACKS = [
    "<script>alert(1)</script>",
    "![x][ref]\n\n[ref]: https://evil.example/pixel.png",
    "[click](javascript:alert(1))",
    "[click]( JavaScript:alert(1))",
    "[click](data:text/html;base64,AAAA)",
    "[a]: javascript:alert(1)\n[a]",
    "<svg/onload=alert(1)>",
    "<iframe src='https://evil.example'></iframe>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "```\n</code></pre><script>alert(1)</script>\n```",
    "```<script>\nx\n```",
    "```mermaid\n<img src=x onerror=alert(1)>\n```",  # nbconvert writes such blocks out as they are
    "- [ ] task",
    "a\n: b <b onclick=alert(1)>c</b>",
]


@pytest.mark.parametrize("attack", [*ATTACKS, *HOSTILE.values()])
def test_attacks_render_harmless(attack: str) -> None:
    for renderer, page in pages(safe_markdown(attack)).items():
        assert page.active == [], renderer


@pytest.mark.parametrize("page", ["nbconvert", "CommonMark"])
@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("inline code", ["<div>", "a && b"], "use <div> and a && b"),
        ("indented code", ["if a < b && c:\n"], "x"),
        ("fence in a list", ["<b>x</b>\n"], "do"),
        ("math", [], "$a < b$ and"),
        ("math", [], "$$\\begin{matrix}1 & 2\\\\3 & 4\\end{matrix}$$"),
        ("sums of money", [], "It costs $5 today and $6 tomorrow"),
        ("other delimiters", [], "$x^2$ and $$y^2$$"),
        ("right to left", [], KEPT["right to left"]),
        ("table", ["x|y"], "1 < 2"),
    ],
)
def test_harmless_text_is_shown_as_it_is(page: str, name: str, code: list[str], text: str) -> None:
    shown = pages(safe_markdown(KEPT[name]))[page]
    assert shown.code == code
    # plain CommonMark knows no math and takes TeX's \\ for an escape; what is saved is what counts there
    assert text in (shown.text if page == "nbconvert" else safe_markdown(KEPT[name]) + shown.text)


def test_an_address_keeps_its_letters() -> None:
    for page in pages(safe_markdown(KEPT["address with &"])).values():
        assert page.links == ["http://a.example/?a=1&b=2"]
    for page in pages(
        safe_markdown("see https://a.example/a_b_c?x=1&copy=2, and [x](https://b.example/a&lt;b)")
    ).values():
        assert page.links == ["https://a.example/a_b_c?x=1&copy=2", "https://b.example/a%3Cb"]


def test_money_is_escaped_and_never_pairs_up_on_the_page() -> None:
    """A page's MathJax looks for `$…$` within runs of text, after Markdown has taken the backslashes away."""
    made = safe_markdown("It costs $5 today and $6 tomorrow, or $x$ more")
    assert "\\$5 today" in made
    assert "\\$6 tomorrow" in made
    assert "<span></span>\\$6" in made
    assert "<span></span>$x$" in made


def test_markup_survives() -> None:
    text = "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- **x** & y < z\n  - *deep*\n\n```python\nif a < b: pass\n```"
    made = safe_markdown(text)
    assert "# Title" in made
    assert "| 1 | 2 |" in made
    assert "if a < b: pass" in made
    assert "**x** &amp; y &lt; z\n  - *deep*" in made
    assert "```python" in made


def test_line_breaks_are_kept_and_open_fences_closed() -> None:
    assert safe_markdown("a\nb") == "a  \nb"
    assert safe_markdown("```\ncut").endswith("\n```")


@pytest.mark.parametrize(
    "command", ["href", "url", "htmlId", "includegraphics", "class", "style", "unicode", "newcommand"]
)
def test_math_that_could_do_more_is_shown_as_code(command: str) -> None:
    text = f"$\\{command}{{a}}{{b}}$"
    for page in pages(safe_markdown(text)).values():
        assert page.code == [text]


def test_a_name_within_a_line_is_text() -> None:
    name = "a*b*_c_[x](javascript:y)<b>`\n$5$ & |.png"
    for page in pages(f"**{safe_line(name)}**").values():
        assert page.active == []
        assert page.text.strip() == " ".join(name.split())


def test_the_parser_is_loaded_by_the_first_answer_only() -> None:
    code = "import sys, omlx_jupyter.notebook.extension; print([m for m in sys.modules if m[:4] in ('mark', 'mdit')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
