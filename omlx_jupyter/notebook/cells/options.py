"""The magics' options, each declared once: parsing, `?`, completion and docs/magics.md come from here."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .arguments import MagicParser, is_name, not_negative, positive

if TYPE_CHECKING:
    import argparse

_WIDTH = 96
Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Option:
    """`flags` as typed, `value` what stands behind it ("" for a switch), `said` what it does."""

    flags: str
    said: str
    value: str = ""
    kind: Callable[[str], Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # argparse's, where there is more
    excludes: str = ""  # the name of a group of which one may be given

    def add(self, parser: argparse.ArgumentParser) -> None:
        made = dict(self.settings)
        if not self.value:
            made.setdefault("action", "store_true")
        else:
            made |= {"metavar": self.value.split()[0], **({"type": self.kind} if self.kind else {})}
        parser.add_argument(*self.flags.split(", "), **made)

    @property
    def shown(self) -> str:
        return f"{self.flags} {self.value}".strip()


_DRAFTS = (
    Option("--hint", "what the answer may repeat, in quotes, or a name or expression with the text (of several pages "
           "also a list with one for each); the model checks it: same answer, fewer steps", "TEXT"),
    Option("--no-draft", "nothing that is known already is put before the model"),
)  # fmt: skip
_OUT = Option("-o, --out", "bind the value to a name", "NAME", is_name)
_BOXES = Option("--boxes", "draw on the picture what was read there, or the boxes that the answer names")
_MOST = Option("--max-tokens", "longest answer", "N", positive)
OCR = (
    Option("--prompt", "ask this instead of the model's own words for reading", "TEXT"),
    _MOST,
    Option("--all-frames", "all frames of an animated picture or TIFF"),
    Option("--whole", "hand pages over as they are, not line by line"),
    Option("--layout", "find a page's regions (titles, tables, code, figures), read each for what it is, and put them "
           "together as Markdown"),
    _BOXES,
    Option("--save", "(.jsonl, .sqlite or .parquet) each answer is in the file as soon as it is there, and after a "
           "kill or an interrupt the same line goes on; SOURCE may also be a folder; the value is a Run", "FILE"),
    Option("--background", "with --save: return at once"),
    *_DRAFTS,
    _OUT,
)  # fmt: skip
_IMAGES = {"dest": "image", "nargs": "+", "action": "extend", "default": []}
VLM = (
    Option("-i, --image", "pictures that come before the text, in order: names and expressions, paths, globs, URLs",
           "SOURCE ...", settings=_IMAGES),
    _OUT,
    _MOST,
    Option("--temperature", "0 is greedy", "T", float),
    Option("--top-p", "sample from the most likely tokens that make up P", "P", float),
    Option("--seed", "the same answer again where it is sampled", "N", int),
    Option("--stop", "end the answer before this text; may be given several times", "TEXT",
           settings={"action": "append"}),
    Option("--system", "a system prompt", "TEXT"),
    Option("--all-frames", "all frames of an animated picture or TIFF"),
    Option("--chat", "go on with a conversation (%omlx chats)", "NAME"),
    Option("--background", "return at once with a Job (%omlx jobs)"),
    Option("--json", "a pydantic model or JSON schema; the value is an instance", "MODEL"),
    Option("--table", "the value is a DataFrame"),
    _BOXES,
    Option("--compare", "ask two models or more: names as %omlx load takes them, or servers as %omlx connect does "
           "(SERVER#MODEL for one of its models, VAR@SERVER for its key); the answers stand side by side, with the "
           "words that differ (and with --json the fields)", "A,B"),
    Option("--tools", "what the model may call: functions of the notebook, `pictures` (zoom, crop and rotate on the "
           "conversation's pictures), mcp:NAME (an MCP server); each call asks first, unless --yes", "F,G"),
    Option("--yes", "the functions of --tools run without asking"),
    Option("--begin", "what the answer begins with; the model goes on from there", "TEXT"),
    Option("--think", "a model that thinks before it answers does so", settings={"default": None}, excludes="think"),
    Option("--no-think", "it doesn't", settings={"dest": "think", "action": "store_false", "default": None},
           excludes="think"),
    Option("--think-budget", "tokens after which a thought is ended and the answer begins", "N", not_negative),
    *_DRAFTS,
)  # fmt: skip


def parser(name: str, options: tuple[Option, ...], sources: bool) -> MagicParser:
    """The parser of a magic's line. `sources`: words beside the flags name them."""
    made = MagicParser(prog=name, add_help=False)
    if sources:
        made.add_argument("source", nargs="+")
    groups: dict[str, Any] = {}
    for option in options:
        if option.excludes and option.excludes not in groups:
            groups[option.excludes] = made.add_mutually_exclusive_group()
        option.add(groups.get(option.excludes, made))
    return made


def usage(name: str, options: tuple[Option, ...], sources: bool) -> str:
    """The line of a magic with all that may stand on it."""
    said = [f"{name} SOURCE..." if sources else name]
    for option in options:
        short = option.flags.split(", ")[0]
        said.append(f"[{short} {option.value}]" if option.value else f"[{short}]")
    return textwrap.fill(" ".join(said), _WIDTH, subsequent_indent=" " * (len(name) + 1), break_on_hyphens=False)


def described(options: tuple[Option, ...]) -> str:
    """What each option does, a paragraph each."""

    def paragraph(option: Option) -> str:
        first, later = f"{option.shown:<22} ", " " * 23
        return textwrap.fill(option.said, _WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)

    return "\n".join(map(paragraph, options))


def documented(name: str, options: tuple[Option, ...], sources: bool) -> Callable[[Function], Function]:
    """Put usage and options in their places in a magic's docstring: `USAGE` and `OPTIONS` on lines of their own."""

    def fill(function: Function) -> Function:
        text = function.__doc__ or ""
        for word, made in (("USAGE", usage(name, options, sources)), ("OPTIONS", described(options))):
            line = next(line for line in text.splitlines() if line.strip() == word)
            indent = line[: len(line) - len(line.lstrip())]
            text = text.replace(line, textwrap.indent(made, indent), 1)
        function.__doc__ = text
        return function

    return fill


def page() -> str:
    """docs/magics.md."""
    parts = [
        "# The magics' options\n\n"
        "Written from their declaration by `python -m tools.magics_doc`; `?` behind a magic shows examples too.\n"
    ]
    for name, options, sources in (("%ocr", OCR, True), ("%%vlm", VLM, False)):
        rows = [f"| `{option.shown}` | {option.said} |" for option in options]
        table = "\n".join(["| option | what it does |", "|---|---|", *rows])
        parts.append(f"## {name}\n\n```\n{usage(name, options, sources)}\n```\n\n{table}\n")
    return "\n".join(parts)
