"""TeX of a model, made fit for `$…$` in Markdown, or refused."""

from __future__ import annotations

import re

# Commands of MathJax and KaTeX that link, load, style, show any character, or change what other math means.
_REFUSED = re.compile(
    r"\\(?:href|url|html[a-zA-Z]*|includegraphics|class|style|cssId|unicode|data|bbox|mmlToken|toggle|mathtip|texttip"
    r"|require|def|gdef|edef|xdef|let|futurelet|newcommand|renewcommand|providecommand|DeclareMathOperator"
    r"|newenvironment|renewenvironment|newtheorem|csname|catcode|char|input|include|write|special|label|tag|ref|eqref"
    r"|action|begingroup|endgroup|enclose|color(?=\s*\[))(?![a-zA-Z])"
)
_STARTS_BLOCK = re.compile(r"\s*(?:[#>*+=|~:$<\-`]|\[|\d+[.)]|\\?$)")
_INNER = {"equation": "", "align": "aligned", "gather": "gathered", "multline": "gathered", "eqnarray": "aligned"}


def fit(content: str, in_table: bool = False) -> str | None:
    r"""The same math without what Markdown would take for markup; None where it must not be math.

    A `<` before a letter gets a space after it, as does `](`: TeX doesn't see it, and no parser sees a tag or a link.
    """
    math = content.strip()
    if not math or _REFUSED.search(math) or "`" in math or re.search(r"(?<!\\)(?:\\\\)*\$", math):
        return None
    if not _balanced(math):
        return None
    math = re.sub(r"(?<!\\)((?:\\\\)*)%[^\n]*", r"\1", math)  # a comment would reach to the end of the joined line
    math = re.sub(r"<(?=[a-zA-Z/!?])", "< ", math)
    math = re.sub(r"&(?=#?\w+;)", "& ", math)
    math = math.replace("://", ": //")  # marked makes links of addresses
    math = re.sub(r"\](?=\()", "] ", math)
    if in_table:
        math = math.replace("\\|", r"\Vert ").replace("|", r"\vert ")
    math = _lines(math, in_table).strip()
    return (math + " " if math.endswith("\\") else math) or None


def _lines(math: str, joined: bool) -> str:
    """Lines that would begin a block of Markdown are joined to the one before; there are no blank ones."""
    lines: list[str] = []
    for line in math.split("\n"):
        if lines and (joined or _STARTS_BLOCK.match(line)):
            lines[-1] = f"{lines[-1].rstrip()} {line.strip()}".rstrip()
        else:
            lines.append(line.strip())
    return "\n".join(lines)


def _balanced(math: str) -> bool:
    depth = 0
    for found in re.finditer(r"\\.|[{}]", math, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth < 0:
            return False
    return depth == 0


def environment(content: str) -> str | None:
    r"""`\begin{align}…\end{align}` as what stands between `$$` and `$$`; None for environments that are no display."""
    found = re.fullmatch(r"\s*\\begin\{([a-z]+)(\*?)\}(.*)\\end\{\1\2\}\s*", content, re.DOTALL)
    if found is None or found[1] not in _INNER:
        return None
    inner = _INNER[found[1]]
    return rf"\begin{{{inner}}}{found[3]}\end{{{inner}}}" if inner else found[3]
