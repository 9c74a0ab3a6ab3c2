"""Grammars of tool calls, for answers that must be one: each format as its parser reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .tool_formats import HARMONY_HEADING, Format, Tool

Word = Callable[[str], str]  # a marker as Lark has it: a token's id, or its text
Schema = dict[str, Any]


def call_grammar(form: Format, tools: Sequence[Tool], word: Word, several: bool, template: str = "") -> str | None:
    """A Lark grammar (llguidance's kind) of one call of one of `tools`, or of `several`; None for formats that aren't
    known here, or arguments that a format can't write."""
    make = _STYLES.get(form.style)
    if form.style == "deepseek" and "```json" in template:
        make = _deepseek_fenced
    if make is None:
        return None
    opening, closing = form.inner or (form.start, form.end)
    rules: list[str] = []
    for number, tool in enumerate(tools):
        function = tool["function"]
        body = make(function["name"], dict(function.get("parameters") or {"type": "object"}), word)
        if body is None:
            return None
        marks = [word(opening)] if opening else []
        rules.append(f"call{number}: {' '.join([*marks, body, *([word(closing)] if closing else [])])}")
    either = " | ".join(f"call{number}" for number in range(len(rules)))
    return "\n".join([_start(form, word, several), f"call: {either}", *rules, *_TERMINALS])


_TERMINALS = ("LINE: /[^<\\n]+/", 'QUOTED: /"[^"\\n\\\\]*"/', "PLAIN: /[^<>{}\\n]+/")


def _start(form: Format, word: Word, several: bool) -> str:
    if form.style == "harmony":  # a header may stand between the thought and the call; the call ends the answer
        return f"start: ({word(HARMONY_HEADING)})? call"
    if form.style == "pythonic_list":
        return f'start: "[" call {"(" + _text(", ") + " call)*" if several else ""} "]"'
    more = ' ("\\n"? call)*' if several else ""
    if form.style == "llama3_json":
        more = ' (";" call)*' if several else ""
    if form.inner is None:
        return f"start: call{more}"
    blank = ' "\\n"' if form.style == "minimax_m2" else ""
    return f"start: {word(form.start)}{blank} call{more}{blank} {word(form.end)}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps(schema)}"


def _named_json(key: str) -> Callable[[str, Schema, Word], str]:
    """A JSON object with the name, and the arguments under `key`."""

    def make(name: str, parameters: Schema, word: Word) -> str:
        shared: Schema = {k: parameters.pop(k) for k in ("$defs", "definitions") if k in parameters}
        properties = {"name": {"const": name}, key: parameters}
        schema = {"type": "object", "properties": properties, "required": ["name", key], "additionalProperties": False}
        return _json(schema | shared)

    return make


def _json_tools(name: str, parameters: Schema, word: Word) -> str:
    return f'"\\n" {_named_json("arguments")(name, parameters, word)} "\\n"'


def _mistral(name: str, parameters: Schema, word: Word) -> str:
    return f"{_text(name)} {word('[ARGS]')} {_json(parameters)}"


def _kimi(name: str, parameters: Schema, word: Word) -> str:
    return f"{_text(f'functions.{name}:')} /[0-9]/ {word('<|tool_call_argument_begin|>')} {_json(parameters)}"


def _deepseek(name: str, parameters: Schema, word: Word) -> str:
    return f"{_text(name)} {word('<｜tool▁sep｜>')} {_json(parameters)}"


def _deepseek_fenced(name: str, parameters: Schema, word: Word) -> str:
    fence, end = _text(f"{name}\n```json\n"), _text("\n```")
    return f"{_text('function')} {word('<｜tool▁sep｜>')} {fence} {_json(parameters)} {end}"


def _harmony(name: str, parameters: Schema, word: Word) -> str:
    kind = f"{_text(' ')} {word('<|constrain|>')} {_text('json')}"
    return f"{_text(f'functions.{name}')} {kind} {word('<|message|>')} {_json(parameters)}"


def _members(
    parameters: Schema, part: Callable[[str, str], str], value: Callable[[Schema], str | None]
) -> list[str] | None:
    """A part for each property, in order; None where one has no value that can be written."""
    parts = []
    for key, schema, needed in _properties(parameters):
        made = value(schema)
        if made is None and needed:
            return None
        if made is not None:
            written = part(key, made)
            parts.append(written if needed else f"({written})?")
    return parts


def _line(schema: Schema) -> str:
    """A value on a line of its own: text as it is, all else as JSON."""
    words = _words(schema)
    if words is not None:
        return f"({' | '.join(_text(word) for word in words)})"
    return "LINE" if schema.get("type") == "string" else _json(schema)


def _words(schema: Schema) -> list[str] | None:
    """The texts among which a value is chosen; None where it isn't."""
    among = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return list(among) if among and all(isinstance(word, str) and word for word in among) else None


_END = "\n</parameter>\n"


def _qwen3_coder(name: str, parameters: Schema, word: Word) -> str | None:
    parts = _members(parameters, lambda k, v: f"{_text(f'<parameter={k}>' + chr(10))} {v} {_text(_END)}", _line)
    opening = _text(f"\n<function={name}>\n")
    return None if parts is None else f"{opening} {' '.join(parts)} {_text('</function>' + chr(10))}"


def _minimax(name: str, parameters: Schema, word: Word) -> str | None:
    parts = _members(parameters, lambda k, v: f"{_text(f'<parameter name={json.dumps(k)}>')} {v} {_text(_END)}", _line)
    opening = _text(f"{json.dumps(name)}>\n")
    return None if parts is None else f"{opening} {' '.join(parts)}"


def _minicpm(name: str, parameters: Schema, word: Word) -> str | None:
    parts = _members(parameters, lambda k, v: f'{_text(f"<param name={json.dumps(k)}>")} {v} "</param>"', _line)
    return None if parts is None else f"{_text(f'{json.dumps(name)}>')} {' '.join(parts)}"


def _keys_and_values(kind: str) -> Callable[[str, Schema, Word], str | None]:
    """GLM's and LongCat's: a pair of marks for the key, another for the value."""

    def make(name: str, parameters: Schema, word: Word) -> str | None:
        def part(key: str, value: str) -> str:
            key_part = f"{word(f'<{kind}arg_key>')} {_text(key)} {word(f'</{kind}arg_key>')}"
            return f'{key_part} "\\n" {word(f"<{kind}arg_value>")} {value} {word(f"</{kind}arg_value>")} "\\n"'

        parts = _members(parameters, part, _line)
        if parts is None or not any(needed for _, _, needed in _properties(parameters)):
            return None  # its parser wants an argument
        return f'{_text(name)} "\\n" {" ".join(parts)}'

    return make


def _in_braces(quote: str, nested: bool) -> Callable[[str, Schema, Word], str | None]:
    """Gemma's: `call:name{key:value,...}` with texts between marks; FunctionGemma's parser knows no `nested` ones."""

    def make(name: str, parameters: Schema, word: Word) -> str | None:
        def value(schema: Schema) -> str | None:
            words, kind = _words(schema), schema.get("type")
            if words is not None or kind == "string":
                text = "PLAIN" if words is None else f"({' | '.join(_text(w) for w in words)})"
                return f"{word(quote)} {text} {word(quote)}"
            if kind in ("integer", "number", "boolean", "null"):
                return _json(schema)
            if kind == "array" and nested and (item := value(dict(schema.get("items") or {}))):
                return f'"[" ({item} ("," {item})*)? "]"'
            return members(schema) if kind == "object" and nested else None

        def members(schema: Schema) -> str | None:
            parts = []
            for key, held, needed in _properties(schema):
                made = value(held)
                if made is None and needed:
                    return None
                if made is not None and needed:  # commas stand between: what may be left out is
                    parts.append(f"{_text(f'{key}:')} {made}")
            return f'"{{" {_text(",").join(f" {p} " for p in parts)} "}}"'

        made = members(parameters)
        return None if made is None else f"{_text(f'call:{name}')} {made}"

    return make


def _pythonic(name: str, parameters: Schema, word: Word) -> str | None:
    inner = _python_call(name, parameters, word)
    return None if inner is None else f'"[" {inner} "]"'


def _python_call(name: str, parameters: Schema, word: Word) -> str | None:
    needed = [(key, schema) for key, schema, wanted in _properties(parameters) if wanted]
    parts = []
    for key, schema in needed:
        words, kind = _words(schema), schema.get("type")
        if words is None and kind not in ("string", "integer", "number"):
            return None
        value = "QUOTED" if kind == "string" else _json(schema)
        if words is not None:
            value = f"({' | '.join(_text(json.dumps(word_)) for word_ in words)})"
        parts.append(f"{_text(f'{key}=')} {value}")
    between = f" {_text(', ')} "
    return f"{_text(f'{name}(')} {between.join(parts)} {_text(')')}"


def _properties(parameters: Mapping[str, Any]) -> list[tuple[str, Schema, bool]]:
    shared = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
    wanted = parameters.get("required", ())
    found = parameters.get("properties", {})
    return [(key, {**schema, **shared}, key in wanted) for key, schema in found.items()]


_STYLES: dict[str, Callable[[str, Schema, Word], str | None]] = {
    "json_tools": _json_tools,
    "mistral": _mistral,
    "qwen3_coder": _qwen3_coder,
    "glm47": _keys_and_values(""),
    "longcat": _keys_and_values("longcat_"),
    "pythonic": _pythonic,
    "pythonic_list": _python_call,
    "llama3_json": _named_json("parameters"),
    "kimi_k2": _kimi,
    "minimax_m2": _minimax,
    "minicpm5": _minicpm,
    "gemma4": _in_braces('<|"|>', True),
    "function_gemma": _in_braces("<escape>", False),
    "deepseek": _deepseek,
    "harmony": _harmony,
}
