"""Model text can't run, load or fetch anything."""

from __future__ import annotations

import pytest

from omlx_jupyter.notebook.markdown import safe_markdown

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/pixel.png)",
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
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_render_harmless(attack: str) -> None:
    """Through nbconvert's Markdown renderer, which sanitises nothing by itself."""
    from html.parser import HTMLParser

    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    found: list[str] = []

    class Look(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("script", "img", "iframe", "svg", "object", "embed", "link", "style", "form"):
                found.append(tag)
            for name, value in attrs:
                if name.startswith("on") or (value or "").strip().lower().startswith(("javascript:", "data:")):
                    found.append(f"{name}={value}")

    Look().feed(markdown2html_mistune(safe_markdown(attack)))
    assert found == []


def test_markup_survives() -> None:
    text = "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- **x** & y < z\n\n```python\nif a < b: pass\n```"
    made = safe_markdown(text)
    assert "| 1 | 2 |" in made
    assert "if a < b: pass" in made
    assert "&amp; y &lt; z" in made


def test_line_breaks_are_kept_and_open_fences_closed() -> None:
    assert safe_markdown("a\nb") == "a  \nb  "
    assert safe_markdown("```\ncut").endswith("```")
