"""Grammars of tool calls, for answers that must be one: each format as mlx-lm's parser of it reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Tool = Mapping[str, Any]  # OpenAI's {"type": "function", "function": {"name": ..., "parameters": ...}}
Word = Callable[[str], str]  # a marker as Lark has it: a token's id, or its text


def call_grammar(style: str, start: str, end: str, tools: Sequence[Tool], word: Word, several: bool) -> str | None:
    """A Lark grammar (llguidance's kind) of one call of one of `tools`, or of `several`; None for formats that aren't
    known here, or arguments that a format can't write."""
    make = _STYLES.get(style)
    if make is None:
        return None
    rules: list[str] = []
    for number, tool in enumerate(tools):
        function = tool["function"]
        body = make(function["name"], dict(function.get("parameters") or {"type": "object"}), word)
        if body is None:
            return None
        rules.append(f"call{number}: {word(start)} {body}" + (f" {word(end)}" if end else ""))
    either = " | ".join(f"call{number}" for number in range(len(rules)))
    more = ' ("\\n"? call)*' if several else ""
    return "\n".join([f"start: call{more}", f"call: {either}", *rules, "LINE: /[^<\\n]+/", 'QUOTED: /"[^"\\n]*"/'])


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps(schema)}"


def _json_tools(name: str, parameters: dict[str, Any], word: Word) -> str:
    shared: dict[str, Any] = {key: parameters.pop(key) for key in ("$defs", "definitions") if key in parameters}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    schema |= shared
    return f'"\\n" {_json(schema)} "\\n"'


def _mistral(name: str, parameters: dict[str, Any], word: Word) -> str:
    return f"{json.dumps(name)} {word('[ARGS]')} {_json(parameters)}"


def _qwen3_coder(name: str, parameters: dict[str, Any], word: Word) -> str:
    parts = []
    for key, schema, needed in _properties(parameters):
        value = "LINE" if _is_text(schema) else _json(schema)
        part = f'{json.dumps(f"<parameter={key}>" + chr(10))} {value} "\\n</parameter>\\n"'
        parts.append(part if needed else f"({part})?")
    return f'{json.dumps(chr(10) + f"<function={name}>" + chr(10))} {" ".join(parts)} "</function>\\n"'


def _glm47(name: str, parameters: dict[str, Any], word: Word) -> str | None:
    parts = []
    for key, schema, needed in _properties(parameters):
        value = "LINE" if _is_text(schema) else _json(schema)
        key_part = f"{word('<arg_key>')} {json.dumps(key)} {word('</arg_key>')}"
        part = f'{key_part} "\\n" {word("<arg_value>")} {value} {word("</arg_value>")} "\\n"'
        parts.append(part if needed else f"({part})?")
    needs = any(needed for _, _, needed in _properties(parameters))
    return f'{json.dumps(name)} "\\n" {" ".join(parts)}' if needs else None  # its parser wants an argument


def _pythonic(name: str, parameters: dict[str, Any], word: Word) -> str | None:
    needed = [(key, schema) for key, schema, wanted in _properties(parameters) if wanted]
    if any(schema.get("type") not in ("string", "integer", "number") for _, schema in needed):
        return None
    parts = []
    for key, schema in needed:
        value = "QUOTED" if _is_text(schema) else _json(schema)
        parts.append(f"{json.dumps(f'{key}=')} {value}")
    inner = ' ", " '.join(parts)
    return f'{json.dumps(f"[{name}(")} {inner} ")]"'


def _properties(parameters: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    shared = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
    wanted = parameters.get("required", ())
    found = parameters.get("properties", {})
    return [(key, {**schema, **shared}, key in wanted) for key, schema in found.items()]


def _is_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and "enum" not in schema and "const" not in schema


_STYLES: dict[str, Callable[[str, dict[str, Any], Word], str | None]] = {
    "json_tools": _json_tools,
    "mistral": _mistral,
    "qwen3_coder": _qwen3_coder,
    "glm47": _glm47,
    "pythonic": _pythonic,
}
