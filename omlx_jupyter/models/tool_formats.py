"""How model families write tool calls: what marks one, and who reads it.

mlx-lm's and mlx-vlm's parsers read what they know; Llama 3's JSON, DeepSeek's sections and bare lists of Python calls
are read here, since neither library does.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..types import Tools
    from .shapes import Tokenizer

Tool = Mapping[str, Any]  # OpenAI's {"type": "function", "function": {"name": ..., "parameters": ...}}
Parse = Callable[[str, Any], Any]  # a call's inner text and the tools -> {"name", "arguments"}, or several of them


@dataclass(frozen=True)
class Format:
    """`start` and `end` are round a call, or round a section whose calls have marks of their own, `inner`. Without a
    `start` the whole answer is calls or is none; it may be where it begins with one of `begins`."""

    style: str
    start: str
    end: str
    parse: Parse
    inner: tuple[str, str] | None = None
    begins: tuple[str, ...] = ()
    header: re.Pattern[str] | None = None  # before a call's arguments, which are JSON as it stands
    heading: str = ""  # what may stand before `start` and says nothing
    closes: tuple[str, str] | None = None  # what ends an argument that is no JSON, and what ends the call behind it

    def blocks(self, rest: str) -> list[tuple[str, bool]]:
        """The calls' inner texts behind the first `start`, and whether each is whole."""
        if not self.start:
            return [(rest, False)]
        found: list[tuple[str, bool]] = []
        for part in rest.split(self.start):
            section, ended, _ = part.partition(self.end) if self.end else (part, "", "")
            if self.inner is None:
                found.append((section, bool(ended)))
                continue
            for piece in section.split(self.inner[0])[1:]:
                body, whole, _ = piece.partition(self.inner[1])
                found.append((body, bool(whole)))
        if not self.end and self.inner is None:  # such a call lasts to the next one's start
            found = [(body, True) for body, _ in found[:-1]] + found[-1:]
        return found

    def unfinished(self, block: str) -> bool:
        """Whether a call whose end mark is missing lacks more than that."""
        if self.header is not None and self.end:
            found = self.header.match(block)
            return found is None or not block[found.end() :]  # JSON tells by itself whether it is whole
        return bool(self.end)

    def begun(self, block: str, tools: Tools) -> tuple[str, str] | None:
        """(name, the arguments' JSON so far) of a call that goes on; None where it can't be told yet."""
        if self.header is not None:
            found = self.header.match(block)
            return None if found is None else (found.group(1), json_prefix(block[found.end() :]))
        if self.closes is None:
            return None
        body, close, _ = block.rpartition(self.closes[0])
        if not close:
            return None
        try:
            made = self.parse(f"{body}{close}{self.closes[1]}", tools)
        except Exception:  # a parser of others', on half a call
            return None
        call = made[0] if isinstance(made, list) else made
        return call["name"], json.dumps(call["arguments"], ensure_ascii=False)[:-1]


def json_prefix(text: str) -> str:
    """What belongs to the JSON object that `text` begins with, closed or not; "" where it is none."""
    if not text.startswith("{"):
        return ""
    depth, quoted, escaped = 0, False, False
    for index, char in enumerate(text):
        if quoted:
            quoted, escaped = escaped or char != '"', char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return text[: index + 1]
    return text


def format_of(tokenizer: Tokenizer) -> Format:
    """The format of a checkpoint's template and vocabulary; Hermes' and Qwen's JSON where neither tells."""
    from mlx_lm import tokenizer_utils
    from mlx_vlm.tools import registry

    template = getattr(tokenizer, "chat_template", None)
    text = registry._template_text(template) or ""  # neither library has a public way to ask (0.32, 0.7)
    if _DEEPSEEK in text:
        return _deepseek()
    if "<|channel|>commentary" in text and "<|call|>" in text:
        return _of_library("harmony", "mlx_vlm.tools.parsers")
    if style := tokenizer_utils._infer_tool_parser(tokenizer):
        return _of_library(style, "mlx_lm.tool_parsers")
    if style := registry._infer_tool_parser(template):
        return _of_library(style, "mlx_vlm.tools.parsers")
    if "func_name1(params_name1=" in text:
        return Format("pythonic_list", "", "", _python_calls, begins=("[",))
    if "<|python_tag|>" in text or '"parameters": dictionary of' in text:
        return Format("llama3_json", "", "", _llama_calls, begins=(_PYTHON_TAG, "{"), header=_LLAMA_HEADER)
    return _of_library("json_tools", "mlx_lm.tool_parsers")


def _of_library(style: str, package: str) -> Format:
    module = importlib.import_module(f"{package}.{style}")
    inner = _INNER.get(style)
    parse: Parse = module.parse_tool_call
    if style in ("minimax_m2", "minicpm5"):  # its parser wants the marks
        opening, closing = inner or (module.tool_call_start, module.tool_call_end)
        parse = _with_marks(parse, opening, closing)
    return Format(
        style,
        module.tool_call_start,
        module.tool_call_end,
        parse,
        inner,
        header=_HEADERS.get(style),
        heading=HARMONY_HEADING if style == "harmony" else "",
        closes=_CLOSES.get(style),
    )


def _with_marks(parse: Parse, opening: str, closing: str) -> Parse:
    return lambda text, tools: parse(f"{opening}{text.removesuffix(closing)}{closing}", tools)


HARMONY_HEADING = "<|start|>assistant"
_PYTHON_TAG = "<|python_tag|>"
_DEEPSEEK, _DEEPSEEK_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_DEEPSEEK_SEP = "<｜tool▁sep｜>"
_INNER = {
    "kimi_k2": ("<|tool_call_begin|>", "<|tool_call_end|>"),
    "minimax_m2": ("<invoke name=", "</invoke>"),
    "deepseek": ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
}
_NAMED = (
    r'\s*(?:\{\s*"type"\s*:\s*"function"\s*,|\{)\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*'
)
_LLAMA_HEADER = re.compile(rf"\s*(?:<\|python_tag\|>)?{_NAMED}")
_HEADERS = {
    "json_tools": re.compile(_NAMED),
    "mistral": re.compile(r"\s*([\w-]+)\s*\[ARGS\]\s*"),
    "kimi_k2": re.compile(r"\s*(?:functions\.)?(.+?):\d+\s*<\|tool_call_argument_begin\|>\s*"),
    "harmony": re.compile(r"\s*(?:functions\.)?([^\s<|]+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>\s*"),
}
_CLOSES = {
    "qwen3_coder": ("</parameter>", "\n</function>"),
    "glm47": ("</arg_value>", ""),
    "longcat": ("</longcat_arg_value>", ""),
    "minimax_m2": ("</parameter>", "\n"),
    "minicpm5": ("</param>", ""),
}


def _deepseek() -> Format:
    header = re.compile(rf"\s*(?:function{_DEEPSEEK_SEP})?([^\s<{{]+)(?:{_DEEPSEEK_SEP}(?=\s*{{)|\s*```json)\s*")

    def parse(text: str, tools: Tools) -> dict[str, Any]:
        found = header.match(text)
        if found is None:
            raise ValueError("the call has no name")
        return {"name": found.group(1), "arguments": json.loads(text[found.end() :].strip().removesuffix("```"))}

    return Format("deepseek", _DEEPSEEK, _DEEPSEEK_END, parse, _INNER["deepseek"], header=header)


def _known(names: Sequence[str], tools: Tools) -> None:
    """:raises ValueError: an answer that looks like a call, and names no tool: it is an answer."""
    known = {tool["function"]["name"] for tool in tools or ()}
    if tools and (unknown := [name for name in names if name not in known]):
        raise ValueError(f"there is no tool {unknown[0]}")


def _llama_calls(text: str, tools: Tools) -> list[dict[str, Any]]:
    made = [
        {"name": call["name"], "arguments": call["parameters"] if "parameters" in call else call["arguments"]}
        for call in _json_values(text.strip().removeprefix(_PYTHON_TAG))
    ]
    _known([call["name"] for call in made], tools)
    return made


def _json_values(text: str) -> Iterator[Any]:
    """JSON objects one after the other, with blanks or semicolons between them."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at] in " \n\r\t;":
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        yield value


def _python_calls(text: str, tools: Tools) -> list[dict[str, Any]]:
    tree = ast.parse(text.strip(), mode="eval").body
    calls = [item for item in tree.elts if isinstance(item, ast.Call)] if isinstance(tree, ast.List) else []
    if not calls or len(calls) != len(getattr(tree, "elts", ())) or any(call.args for call in calls):
        raise ValueError("it is no list of calls with named arguments")
    names = [ast.unparse(call.func) for call in calls]
    _known(names, tools)
    values = [{str(word.arg): ast.literal_eval(word.value) for word in call.keywords} for call in calls]
    return [{"name": name, "arguments": held} for name, held in zip(names, values, strict=True)]
