"""`{expr}` in a `%%vlm` cell: pictures at their place, everything else as text."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.error import UsageError

from ...chat.tables import is_table, table
from ...images.decoded import DecodedImage, Limits
from ...images.source import is_image_source, open_images
from ..answers.result import Result, ResultList

Part = str | DecodedImage
_OPEN, _CLOSE = "([{", ")]}"
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"r": repr, "s": str, "a": ascii}


def interpolate(text: str, names: Mapping[str, object], limits: Limits) -> list[Part]:
    """Text and pictures in order. `{{` and `}}` are braces.

    :raises UsageError: an expression that fails, with a pointer to it.
    """
    parts: list[Part] = []
    for piece, expression, at in _pieces(text):
        if piece:
            _append(parts, piece)
        if expression is not None:
            for part in _value(expression, names, limits, text, at):
                _append(parts, part)
    return parts


def _append(parts: list[Part], part: Part) -> None:
    if isinstance(part, str) and parts and isinstance(parts[-1], str):
        parts[-1] += part
    else:
        parts.append(part)


def _pieces(text: str) -> list[tuple[str, str | None, int]]:
    """(text before, expression or None, its place)."""
    found: list[tuple[str, str | None, int]] = []
    piece, index = "", 0
    while index < len(text):
        char = text[index]
        if char in "{}" and text[index : index + 2] == char * 2:
            piece, index = piece + char, index + 2
        elif char == "{":
            end = _closing(text, index)
            found.append((piece, text[index + 1 : end], index + 1))
            piece, index = "", end + 1
        elif char == "}":
            raise _pointing(text, index, "a } without its {; write }} for a brace")
        else:
            piece, index = piece + char, index + 1
    return [*found, (piece, None, len(text))]


def _closing(text: str, start: int) -> int:
    depth, quote, index = 0, "", start
    while index < len(text):
        char = text[index]
        if quote:
            if char == "\\":
                index += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
            if depth == 0:
                return index
        index += 1
    raise _pointing(text, start, "this { is never closed; write {{ for a brace")


def _value(expression: str, names: Mapping[str, object], limits: Limits, text: str, at: int) -> list[Part]:
    code, convert, spec = _split(expression, text, at)
    try:
        value = eval(compile(code, "<%%vlm>", "eval"), {**names, **_helpers(code, limits)})
        if convert or spec:
            return [format(_CONVERSIONS[convert](value) if convert else value, spec)]
        return _as_parts(value, limits, expression.strip())
    except Exception as error:
        raise _pointing(text, at, f"{type(error).__name__}: {error}") from None


def _helpers(code: ast.Expression, limits: Limits) -> dict[str, Any]:
    """`img("name.png")` is the picture of that file, whatever the notebook calls img."""
    called = {node.func.id for node in ast.walk(code) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {"img": lambda file: open_images(file, limits)[0]} if "img" in called else {}


def _split(expression: str, text: str, at: int) -> tuple[ast.Expression, str, str]:
    """The expression, its conversion (`!r`) and format specification (`:.2f`)."""
    stripped = expression.strip()
    try:
        return ast.parse(stripped, mode="eval"), "", ""
    except SyntaxError as error:
        problem = error.msg
    for index in range(len(stripped) - 1, 0, -1):
        if stripped[index] not in ":!":
            continue
        head, tail = stripped[:index], stripped[index:]
        convert, _, spec = tail[1:].partition(":") if tail[0] == "!" else ("", "", tail[1:])
        if tail[0] == "!" and convert not in _CONVERSIONS:
            continue
        try:
            return ast.parse(head.strip(), mode="eval"), convert, spec
        except SyntaxError:
            continue
    raise _pointing(text, at, f"{problem}; write {{{{ and }}}} for braces that are text")


def _as_parts(value: object, limits: Limits, label: str) -> list[Part]:
    if isinstance(value, Result | ResultList):
        return [value.text]
    if not isinstance(value, str) and is_image_source(value):
        return list(open_images(value, limits, "first", label))
    if isinstance(value, list | tuple) and value and all(not isinstance(v, str) and is_image_source(v) for v in value):
        return [image for v in value for image in open_images(v, limits, "first", label)]
    if is_table(value):
        return [table(value)]
    return [str(value)]


def _pointing(text: str, at: int, problem: str) -> UsageError:
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)]
    number = text.count("\n", 0, at) + 2  # the cell's first line is the magic
    return UsageError(f"line {number} of the cell: {problem}\n    {line}\n    {' ' * (at - start)}^")
