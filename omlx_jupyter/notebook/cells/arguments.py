"""Magic lines: parsing their flags, finding what a SOURCE means."""

from __future__ import annotations

import argparse
import ast
import builtins
import difflib
import glob
import keyword
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.error import UsageError

from ..line import Word, split_line
from ..settings.config import settings

if TYPE_CHECKING:
    from argparse import Namespace


class _Quoted(str):
    """A word that stood in quotes: text, neither a flag nor an expression."""


_MARK = "\0"  # before a quoted word on its way through argparse, so that "-x" in quotes is no flag


def _unmark(value: object) -> Any:
    if isinstance(value, list):
        return [_unmark(item) for item in value]
    if isinstance(value, str) and value.startswith(_MARK):
        return _Quoted(value[1:])
    return value


def _parts_of(word: Word) -> list[str]:
    """A word as argparse takes it: `--prompt="x y"` are a flag and a quoted text."""
    if word.quoted:
        return [_MARK + word.text]
    found = re.fullmatch(r"(--[\w-]+)=(['\"])(.*)\2", word.text, re.DOTALL)
    return [found.group(1), _MARK + found.group(3)] if found else [word.text]


class MagicParser(argparse.ArgumentParser):
    """argparse that answers with a UsageError instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}. Try {self.prog}? for examples.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(message or self.format_usage())

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """A number may stand in quotes."""
        return super()._get_value(action, arg_string.removeprefix(_MARK) if action.type else arg_string)

    def parse_line(self, line: str) -> argparse.Namespace:
        words = [part for word in split_line(line) for part in _parts_of(word)]
        if any(w in ("-h", "--help") for w in words):
            raise UsageError(f"{self.format_usage().strip()}  (examples: {self.prog}?)")
        known = {option for action in self._actions for option in action.option_strings}
        for word in words:
            if word.startswith("--") and word.split("=")[0] not in known:
                close = difflib.get_close_matches(word.split("=")[0], known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known flags: {', '.join(sorted(known))}."
                raise UsageError(f"{self.prog} has no flag {word}; {hint}")
        args = self.parse_intermixed_args(words)  # sources may stand on both sides of a flag
        return argparse.Namespace(**{name: _unmark(value) for name, value in vars(args).items()})


def resolve_source(word: str, names: Mapping[str, object]) -> Any:
    """What a SOURCE stands for: a URL, a name or expression of the notebook, a path or a glob.

    :raises UsageError: an expression that fails, or nothing of the name.
    """
    if isinstance(word, _Quoted) or "://" in word[:12] or word.startswith("data:"):
        return str(word)
    if braced := re.fullmatch(r"\{(.+)\}", word, re.DOTALL):
        if _is_file(word):
            return word
        word = braced.group(1).strip()  # as in a cell
    expression = _expression(word)
    roots = _roots(expression) if expression is not None else set()
    known = set(names)
    if expression is not None and roots & known and roots <= known | set(dir(builtins)):
        try:
            value = eval(compile(expression, "<source>", "eval"), dict(names))
        except Exception as error:
            if _is_file(word):  # `%ocr receipt.png -o receipt`, run again
                return word
            raise UsageError(f"{word} fails in this notebook ({type(error).__name__}: {error}).") from None
        return word if callable(value) and _is_file(word) else value
    if _is_file(word):
        return word
    if expression is not None and isinstance(expression.body, ast.Name):
        raise UsageError(_unknown_name(word, names))
    return word  # images says what is wrong with it, naming the file


def resolve_hint(word: str, names: Mapping[str, object]) -> Any:
    """What a HINT stands for: text in quotes, else the value of a name or expression of the notebook.

    :raises UsageError: an expression that fails, or nothing of the name.
    """
    expression = None if isinstance(word, _Quoted) else _expression(word)
    roots = _roots(expression) if expression is not None else set()
    if expression is None or not (roots or isinstance(expression.body, ast.List)):
        return str(word)
    if missing := sorted(roots - set(names)):
        raise UsageError(f"--hint: there is no name {missing[0]}; put text in quotes.")
    try:
        return eval(compile(expression, "<source>", "eval"), dict(names))
    except Exception as error:
        raise UsageError(f"--hint: {word} fails in this notebook ({type(error).__name__}: {error}).") from None


def drafting_from(names: Mapping[str, object], args: Namespace) -> tuple[bool, Any]:
    """(whether drafts are made, the hint's value).

    :raises UsageError: a hint that is nothing.
    """
    hint = "" if args.hint is None else resolve_hint(args.hint, names)
    return settings().drafts and not args.no_draft, hint


def _is_file(word: str) -> bool:
    """Whether a path or a glob is there."""
    path = os.path.expanduser(word)
    return os.path.exists(path) or bool(glob.has_magic(path) and glob.glob(path, recursive=True))


def _expression(word: str) -> ast.Expression | None:
    try:
        return ast.parse(word, mode="eval")
    except (SyntaxError, ValueError):
        return None


def _roots(expression: ast.Expression) -> set[str]:
    bound = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)} - bound


def _unknown_name(word: str, names: Mapping[str, object]) -> str:
    visible = [n for n, value in names.items() if not n.startswith("_") and not callable(value)]
    files = [p.name for p in Path().iterdir() if p.is_file()] if len(word) > 2 else []
    close = difflib.get_close_matches(word, [*visible, *files], 1)
    hint = f"did you mean {close[0]}?" if close else "define it or give a path, a glob or a URL."
    return f"there is no name or file {word}; {hint}"


def is_name(text: str) -> str:
    """argparse type of -o."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text} is no Python name")
    if text in ("In", "Out") or re.fullmatch(r"_+|_i+|_i?\d+|_oh|_ih|_dh", text):
        raise argparse.ArgumentTypeError(f"{text} is IPython's own; choose another name")
    return text


def positive(text: str) -> int:
    return _whole(text, 1, "a whole number above 0")


def not_negative(text: str) -> int:
    return _whole(text, 0, "a whole number from 0")


def _whole(text: str, least: int, wanted: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
    return value
