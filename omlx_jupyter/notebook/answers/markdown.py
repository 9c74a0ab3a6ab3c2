"""Model text as Markdown that can neither run script nor load anything, and reads the same everywhere.

The text is parsed as CommonMark with tables, strikethrough and math, and written anew from the tokens, in a
narrow form that CommonMark, mistune (nbconvert) and marked (JupyterLab) take alike. Nothing of the model's own
spelling goes through but letters: what could be markup in it is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from .html import Html

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

_LINK = re.compile(r"(?i)(https?://|mailto:)[^\x00-\x20]+|#[^\x00-\x20]*")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_MOST_LINES = 100  # of math between \[ and \], so that many openings without an end don't cost the square of it
_MONEY = re.compile(r"\d[\d.,]*\s[^\\^_={}+*/<>]*")  # between two sums: words


def safe_markdown(text: str) -> str:
    """Markup kept, HTML shown as text, pictures turned into links, math as $…$ and $$…$$, line breaks kept."""
    from .markdown_writer import Writer

    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Writer().blocks(_parser().parse(text))


def safe_line(text: str) -> str:
    """A name or a note within a line of Markdown: all of it text."""
    from .markdown_writer import literal

    return literal(" ".join(text.split()))


def safe_html(text: str) -> Html:
    """The same as HTML, for what stands beside something else: `safe_markdown` with a page's own reading of it."""
    return Html(_renderer().render(safe_markdown(text)))


@cache
def _renderer() -> MarkdownIt:
    """For what the writer has written, and nothing else: the few elements in it are the writer's own."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    made = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    made.use(dollarmath_plugin, allow_space=True, allow_digits=True, double_inline=True, renderer=_math)
    return made


def _math(content: str, options: Mapping[str, bool]) -> str:
    """Left to the page, which looks for the dollars."""
    mark = "$$" if options["display_mode"] else "$"
    return escape(f"{mark}{content}{mark}")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.amsmath import amsmath_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    class Parser(MarkdownIt):
        """Links elsewhere than to the web, a mail address or this page stay text."""

        def validateLink(self, url: str) -> bool:
            return _LINK.fullmatch(url) is not None

    made = Parser("commonmark", {"html": False}).enable(["table", "strikethrough"])
    made.use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
    made.inline.ruler.at("math_inline", _dollar_math)
    made.use(amsmath_plugin)
    made.inline.ruler.before("escape", "math_brackets", _bracket_math)
    made.block.ruler.before("fence", "math_brackets", _bracket_block, {"alt": ["paragraph", "blockquote", "list"]})
    _keep_pipes_in_code(made)
    return made


def _dollar_math(state: StateInline, silent: bool) -> bool:
    """Math as $…$ and $$…$$, but neither sums of money nor what reaches into code."""
    if state.src[state.pos] != "$":
        return False
    start = state.pos
    if not _dollar_rule()(state, True):
        return False
    content, state.pos = state.src[start : state.pos].strip("$"), start
    if "`" in content or _MONEY.fullmatch(content):
        return False
    return _dollar_rule()(state, silent)


@cache
def _dollar_rule() -> Callable[[StateInline, bool], bool]:
    from mdit_py_plugins.dollarmath.index import math_inline_dollar

    return math_inline_dollar(allow_space=False, allow_digits=False, allow_double=True)


def _bracket_math(state: StateInline, silent: bool) -> bool:
    r"""Math as \(…\) and \[…\]."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in (r"\(", r"\["):
        return False
    closing = "\\" + ")]"["([".index(opening[1])]
    if state.env.get(closing) == id(state):  # no end was found before, so there is none now
        return False
    end = _end_of(state.src, closing, state.pos + 2, state.posMax)
    if end < 0:
        state.env[closing] = id(state)
        return False
    content = state.src[state.pos + 2 : end]
    if not content.strip() or _end_of(content, opening, 0, len(content)) >= 0:
        return False
    if not silent:
        token = state.push("math_inline" if opening == r"\(" else "math_inline_double", "math", 0)
        token.content, token.markup = content, opening
    state.pos = end + 2
    return True


def _end_of(text: str, closing: str, start: int, most: int) -> int:
    r"""Where `closing` is, not counting the end of a line break as in `\\]`; -1: nowhere."""
    at = text.find(closing, start, most)
    while at >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        if (at - before) % 2 == 0:
            return at
        at = text.find(closing, at + 1, most)
    return -1


def _bracket_block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    r"""Math as \[…\] over lines of its own, without blank ones."""
    if state.is_code_block(first):
        return False
    start = state.bMarks[first] + state.tShift[first]
    if not state.src.startswith(r"\[", start):
        return False
    lines: list[str] = []
    for line in range(first, min(last, first + _MOST_LINES)):
        if line > first and (state.isEmpty(line) or state.sCount[line] < state.blkIndent):
            return False
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        lines.append(text)
        if _end_of(text, r"\]", 2 if line == first else 0, len(text)) >= 0:
            break
    whole = "\n".join(lines)
    if not whole.endswith(r"\]") or _end_of(whole, r"\]", 2, len(whole)) != len(whole) - 2 or not whole[2:-2].strip():
        return False
    if silent:
        return True
    state.line = first + len(lines)
    token = state.push("math_block", "math", 0)
    token.block, token.content, token.markup = True, whole[2:-2], r"\["
    token.map = [first, state.line]
    return True


def _keep_pipes_in_code(parser: MarkdownIt) -> None:
    """A bar within a code span of a table's row doesn't end the cell: models write it so, and mean it so."""
    from markdown_it.rules_block.table import table

    def keeping(state: StateBlock, first: int, last: int, silent: bool) -> bool:
        following = state.src[state.bMarks[first + 1] : state.eMarks[first + 1]] if first + 1 < last else ""
        if "|" not in following or "-" not in following:
            return table(state, first, last, silent)
        before, count = state.src, len(state.tokens)
        bar = next(c for c in map(chr, range(0xF0000, 0xFFFFE)) if c not in before)
        start, end = state.bMarks[first], state.eMarks[last - 1]
        rows = _CODE_SPAN.sub(lambda m: re.sub(r"(?<!\\)\|", bar, m[0]), before[start:end])
        state.src = before[:start] + rows + before[end:]
        made = table(state, first, last, silent)
        state.src = before
        for token in state.tokens[count:]:
            token.content = token.content.replace(bar, "|")
        return made

    parser.block.ruler.at("table", keeping, {"alt": ["paragraph", "reference"]})
