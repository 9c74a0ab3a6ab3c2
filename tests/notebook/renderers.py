"""Real renderers of Markdown, and what of their HTML would act."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from nbconvert.filters.markdown_mistune import markdown2html_mistune

_PASSIVE = {
    *("p", "br", "hr", "em", "strong", "del", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "span", "div"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "sub"),
}  # every other element is taken as active
_ATTRIBUTES = {"href", "class", "start", "style", "id"}
_LINK = re.compile(r"(?i)(https?://|mailto:|#)")
_STYLE = re.compile(r"text-align: ?(left|right|center);?|line-height: 125%;?")
_COMMONMARK = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_COMMONMARK.validateLink = lambda url: True  # type: ignore[method-assign]


class Page(HTMLParser):
    """What a page holds: active things, code, math, links, the cells of tables, and all its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.active: list[str] = []
        self.code: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self._in_code = self._in_cell = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _PASSIVE:
            self.active.append(tag)
        for name, value in attrs:
            fine = name in _ATTRIBUTES
            if name == "href":
                fine = _LINK.match(value or "") is not None
                self.links.append(value or "")
            if name == "style":
                fine = _STYLE.fullmatch((value or "").strip()) is not None
            if not fine:
                self.active.append(f"{tag} {name}={value}")
        if tag in ("code", "pre"):
            if not self._in_code:
                self.code.append("")
            self._in_code += 1
        if tag in ("td", "th"):
            self.cells.append("")
            self._in_cell = True
        if tag == "br":
            self.text += "\n"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("code", "pre"):
            self._in_code -= 1
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_code:
            self.code[-1] += data
        if self._in_cell:
            self.cells[-1] += data

    def handle_comment(self, data: str) -> None:
        self.active.append(f"<!--{data}")

    def handle_decl(self, decl: str) -> None:
        self.active.append(f"<!{decl}")

    def handle_pi(self, data: str) -> None:
        self.active.append(f"<?{data}")


def pages(markdown: str) -> dict[str, Page]:
    """The Markdown through nbconvert's filter and CommonMark, neither of which sanitises anything here."""
    return {
        "nbconvert": Page(markdown2html_mistune(markdown)),
        "CommonMark": Page(_COMMONMARK.render(markdown)),
    }
