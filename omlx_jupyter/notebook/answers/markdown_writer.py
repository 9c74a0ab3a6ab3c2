"""Markdown from the tokens of markdown-it, in a form that all parsers read alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from . import tex

if TYPE_CHECKING:
    from markdown_it.token import Token

_URL = re.compile(r"https?://[\w\-./?%&=+:#~@!,;]*[\w/]", re.ASCII)
_ENTITIES = {"&": "&amp;", "<": "&lt;", "`": "&#96;"}
# In code within a line: what some parser takes for more than code, or for its end
_NOT_SIMPLE = re.compile(r"[`|\n]|\$\$|\\begin|\\end|\\\\[\[(]|[^\x20-\x7e\xa0-\U0010ffff]")
_STARTS_BLOCK = re.compile(r"(\d{1,9})([.)])|([#+=:>~-])")
_PAIRS = {"strong": "**", "em": "*", "s": "~~"}
_TAGS = {"strong": "strong", "em": "em", "s": "del"}
_ALIGNED = {"center": ":-:", "right": "--:", "left": ":--"}
_APART = "<span></span>"  # keeps a page's own search for math from seeing two things as one


def literal(text: str) -> str:
    """Text as Markdown in which nothing is markup, for any place within a line."""
    made = []
    for at, char in enumerate(text):
        before, after = text[at - 1 : at] or " ", text[at + 1 : at + 2] or " "
        if char == "\\":
            math = after in "()[]$\\" or re.match(r"begin|end|ref|eqref", text[at + 1 : at + 6])
            made.append("&#92;" + (_APART if math else ""))
        elif char in _ENTITIES:
            made.append(_ENTITIES[char])
        elif char in "*[]$|~" or (char == "_" and not (before.isalnum() and after.isalnum())):
            made.append("\\" + char)
        elif char == "!" and at == len(text) - 1:
            made.append("\\!")  # what follows may be a link, and would be a picture
        elif char == ":" and text[at + 1 : at + 3] == "//":
            made.append("&#58;")  # no address but those that are written as such becomes a link
        elif char in "\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":  # ends of lines to some
            made.append(" ")
        else:
            made.append(char)
    return "".join(made)


def code_span(text: str) -> str:
    """Code within a line. What a parser could see more in than code goes as an element, character by character."""
    text = re.sub("[\x00-\x1f\x7f-\x9f]", " ", text)  # no reference stands for these
    if text and text.strip() == text and not _NOT_SIMPLE.search(text):
        return f"`{text}`"
    return "<code>" + "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text) + "</code>"


def fence(code: str, info: str) -> str:
    """A code block. The fence is longer than any inside."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    words = info.split()
    end = "" if code.endswith("\n") or not code else "\n"
    return f"{ticks}{_language(words[0], code) if words else ''}\n{code}{end}{ticks}"


def _language(name: str, code: str) -> str:
    """The language, where renderers only colour by it: nbconvert puts an unknown one before the code, takes blank
    lines off the code's ends in a known one, and hands mermaid to a script."""
    if code.startswith("\n") or code.endswith("\n\n") or not code.strip() or not re.fullmatch(r"[\w+#.-]{1,30}", name):
        return ""
    return name if _known(name) else ""


@cache
def _known(name: str) -> bool:
    from pygments.lexers import find_lexer_class_by_name
    from pygments.util import ClassNotFound

    try:
        return not name.startswith("mermaid") and find_lexer_class_by_name(name) is not None
    except ClassNotFound:
        return False


class Writer:
    """Blocks and lines of Markdown."""

    def blocks(self, tokens: Sequence[Token], tight: bool = False) -> str:
        """Blocks with blank lines between them. `tight`: none before a list that may follow without."""
        made: list[str] = []
        at, marker = 0, ""
        while at < len(tokens):
            end = _closing(tokens, at)
            token, inside = tokens[at], tokens[at + 1 : end]
            if token.type in ("bullet_list_open", "ordered_list_open"):
                marker = _marker(token, marker)
                made.append(self._list(token, inside, marker))
            else:
                marker = ""
                made.append(self._block(token, inside))
            at = end + 1
        made = [block for block in made if block]
        gaps = ["\n" if tight and re.match(r"- \S|1\. \S", block) else "\n\n" for block in made[1:]]
        return "".join(map("".join, zip(made, [*gaps, ""], strict=True))) if made else ""

    def _block(self, token: Token, inside: Sequence[Token]) -> str:
        match token.type:
            case "paragraph_open":
                return self._paragraph(inside[0])
            case "heading_open":
                return f"{'#' * int(token.tag[1])} {_Line(joined=True).write(inside[0].children or [])}".rstrip()
            case "blockquote_open":
                return "\n".join(f"> {line}" if line else ">" for line in self.blocks(inside).split("\n"))
            case "fence" | "code_block":
                return fence(token.content, token.info)
            case "hr":
                return "___"
            case "table_open":
                return _table(inside)
            case "math_block":
                return _display(tex.fit(token.content), token)
            case "amsmath":
                inner = tex.environment(token.content)
                return _display(tex.fit(inner) if inner is not None else None, token)
        return literal(token.content)

    def _paragraph(self, inline: Token) -> str:
        children = [c for c in inline.children or [] if c.type != "text" or c.content]
        if len(children) == 1 and children[0].type == "math_inline_double":
            return _display(tex.fit(children[0].content), children[0])
        return _Line().write(children)

    def _list(self, token: Token, inside: Sequence[Token], marker: str) -> str:
        start = int(token.attrs.get("start", 1)) if token.type == "ordered_list_open" else 0
        items: list[str] = []
        tight, at = True, 0
        while at < len(inside):
            end = _closing(inside, at)
            children = inside[at + 1 : end]
            level = inside[at].level + 1
            tight = tight and all(t.hidden for t in children if t.type == "paragraph_open" and t.level == level)
            number = "" if token.type == "bullet_list_open" else str(min(start + len(items), 10**9 - 1))
            head = f"{number}{marker} "
            lines = self.blocks(children, tight).split("\n")
            rest = [" " * len(head) + line if line else "" for line in lines[1:]]
            items.append("\n".join([head + lines[0] if lines[0] else head.rstrip(), *rest]))
            at = end + 1
        return ("\n" if tight else "\n\n").join(items)


def _marker(token: Token, before: str) -> str:
    """A list right after another takes another marker, or they would be one."""
    if token.type == "bullet_list_open":
        return "*" if before == "-" else "-"
    return ")" if before == "." else "."


def _display(math: str | None, token: Token) -> str:
    if math is None:
        return fence(token.content.strip("\n"), "latex")
    return f"$${math}$$"


def _closing(tokens: Sequence[Token], at: int) -> int:
    """Where the token that closes `tokens[at]` is."""
    depth = 0
    for end in range(at, len(tokens)):
        depth += tokens[end].nesting
        if depth == 0:
            return end
    return len(tokens)


def _table(inside: Sequence[Token]) -> str:
    rows: list[list[str]] = []
    marks: list[str] = []
    for at, token in enumerate(inside):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(_Line(joined=True, in_table=True).write(inside[at + 1].children or []))
            if token.type == "th_open":
                align = str(token.attrs.get("style", ""))
                marks.append(next((mark for side, mark in _ALIGNED.items() if side in align), "---"))
    made = ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
    return "\n".join([made[0], "| " + " | ".join(marks) + " |", *made[1:]])


class _Line:
    """One run of inline tokens."""

    def __init__(self, joined: bool = False, in_table: bool = False) -> None:
        self._joined, self._in_table = joined, in_table
        self._made: list[str] = []
        self._open: list[str] = []  # closing marks
        self._dollar = False  # a sum of money stands before: math after it must not look like its other end

    def write(self, tokens: Sequence[Token]) -> str:
        at = 0
        while at < len(tokens):
            at = self._token(tokens, at)
        return self._text_of_lines()

    def _text_of_lines(self) -> str:
        lines = "".join(self._made).strip(" \t\n").split("\n")
        return "  \n".join(_guarded(line.strip(" \t")) for line in lines)

    def _token(self, tokens: Sequence[Token], at: int) -> int:
        token = tokens[at]
        match token.type:
            case "text" | "text_special":
                self._text(token.content)
            case "code_inline":
                self._add(code_span(token.content))
            case "math_inline" | "math_inline_double":
                self._math(token)
            case "softbreak" | "hardbreak":
                self._made.append(" " if self._joined else "\n")
            case "image":
                self._link(str(token.attrs.get("src", "")), token.content or "picture")
            case "link_open":
                self._made.append("[")
                self._open.append(f"]({_address(str(token.attrs.get('href', '')))})")
            case "link_close" | "strong_close" | "em_close" | "s_close":
                self._made.append(self._open.pop())
            case "strong_open" | "em_open" | "s_open":
                self._begin(tokens, at)
        return at + 1

    def _add(self, text: str) -> None:
        self._made.append(text)
        self._dollar = False

    def _text(self, text: str) -> None:
        at = 0
        in_link = any(mark.startswith("](") for mark in self._open)
        for found in _URL.finditer(text) if not in_link else ():
            self._literal(text[at : found.start()])
            self._add(f"<{found[0]}>")
            at = found.end()
        self._literal(text[at:])

    def _literal(self, text: str) -> None:
        for at, piece in enumerate(text.split("$")):
            if at:
                self._made.append((_APART if self._dollar else "") + "\\$")
                self._dollar = True
            self._made.append(literal(piece))

    def _math(self, token: Token) -> None:
        math = tex.fit(token.content, self._in_table)
        if math is None:
            self._add(code_span(" ".join((token.markup + token.content + _ENDS[token.markup]).split())))
            return
        if self._joined:
            math = " ".join(math.split("\n"))
        if self._dollar:
            self._add(_APART)
        if token.type == "math_inline":
            self._made.append(f"${math}$")
        elif self._joined or self._open:
            self._made.append(rf"$\displaystyle {math}$")
        else:
            self._made.append(f"$${math}$$")

    def _link(self, address: str, label: str) -> None:
        if any(mark.startswith("](") for mark in self._open):  # a picture that is a link already
            self._made.append(literal(label))
        else:
            self._made.append(f"[{literal(' '.join(label.split()))}]({_address(address)})")

    def _begin(self, tokens: Sequence[Token], at: int) -> None:
        kind = tokens[at].type.removesuffix("_open")
        plain = kind != "s" and at + 2 < len(tokens) and tokens[at + 2].type == f"{kind}_close"
        content = tokens[at + 1].content if plain and tokens[at + 1].type == "text" else ""
        before = tokens[at - 1].content[-1:] if at and tokens[at - 1].type == "text" else ""
        after = tokens[at + 3].content[:1] if at + 3 < len(tokens) and tokens[at + 3].type == "text" else ""
        edges = before.isspace() or before in "(:", after.isspace() or after in ",.;:!?)"
        beside = [tokens[i].type for i in (at - 1, at + 3) if 0 <= i < len(tokens)]
        alone = all(t in ("text", "softbreak", "hardbreak") for t in beside)
        if plain and all(edges) and alone and content[:1].isalnum() and content[-1:].isalnum():
            self._made.append(_PAIRS[kind])
            self._open.append(_PAIRS[kind])
        else:
            self._made.append(f"<{_TAGS[kind]}>")
            self._open.append(f"</{_TAGS[kind]}>")


_ENDS = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}


def _guarded(line: str) -> str:
    """A line of text that doesn't begin a block."""
    found = _STARTS_BLOCK.match(line)
    if found is None:
        return line
    at = found.end() - 1
    return f"{line[:at]}\\{line[at:]}"


def _address(url: str) -> str:
    url = re.sub(r"[()<>\\$`*|\[\]\"'{}\x00-\x20\x7f]", lambda m: f"%{ord(m[0]):02X}", url)
    return re.sub(r"&(?=#?\w+;)", "&amp;", url)
