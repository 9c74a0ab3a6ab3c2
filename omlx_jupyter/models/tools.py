"""Tool calls in the formats of the model families, through mlx-lm's parsers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .tokenizer import ChatTokenizer
from .tool_grammar import call_grammar


@dataclass(frozen=True)
class ToolCall:
    """One call; `arguments` is a JSON object as text, as OpenAI's API has it."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Parsed:
    """An answer taken apart. `note` says what was malformed; the text then holds it as it came."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    note: str = ""


class ToolParser:
    """Finds the calls in an answer. One per loaded model."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        from mlx_lm import tokenizer_utils

        self._tokenizer = tokenizer
        name = tokenizer_utils._infer_tool_parser(tokenizer.inner)  # no public way to ask (mlx-lm 0.32)
        self.style = str(name or "json_tools")
        self._module = importlib.import_module(f"mlx_lm.tool_parsers.{self.style}")
        self.start: str = self._module.tool_call_start
        self.start_id = tokenizer.token_id(self.start)
        self._end: str = self._module.tool_call_end

    def grammar(self, tools: Sequence[Any], several: bool) -> str | None:
        """A grammar of a call of one of `tools`; None where the model's format can't be bound to one."""
        return call_grammar(self.style, self.start, self._end, tools, self._word, several)

    def _word(self, text: str) -> str:
        found = self._tokenizer.token_id(text)
        special = found is not None and text in self._tokenizer.special_texts
        return f"<[{found}]>" if special else json.dumps(text)

    def parse(self, token_ids: Sequence[int], end_tokens: frozenset[int], text: str, tools: Any = None) -> Parsed:
        """Take an answer apart. A malformed call comes back as text with a note, never as an exception."""
        ids = list(token_ids)
        while ids and ids[-1] in end_tokens:
            ids.pop()
        raw = self._tokenizer.decode(ids, skip_special_tokens=False)
        before, found, rest = raw.partition(self.start)
        if not found:
            return Parsed(text)
        calls: list[ToolCall] = []
        try:
            for block in self._blocks(rest):
                made = self._module.parse_tool_call(block, tools)
                calls += [_call(c) for c in (made if isinstance(made, list) else [made])]
        except Exception as error:
            return Parsed(text, (), f"the model's tool call can't be parsed ({type(error).__name__}: {error})")
        if not calls:
            return Parsed(text, (), "the model began a tool call and didn't finish it")
        return Parsed(before.strip(), tuple(calls))

    def completed(self, token_ids: Sequence[int], tools: Any = None) -> list[ToolCall]:
        """The calls that are whole in an answer that goes on. Malformed ones end the list: `parse` tells of them."""
        raw = self._tokenizer.decode(list(token_ids), skip_special_tokens=False)
        rest = raw.partition(self.start)[2]
        whole = rest.split(self._end)[:-1] if self._end else rest.split(self.start)[:-1]
        calls: list[ToolCall] = []
        try:
            for block in whole:
                made = self._module.parse_tool_call(block.rpartition(self.start)[2] if self._end else block, tools)
                calls += [_call(c) for c in (made if isinstance(made, list) else [made])]
        except Exception:
            return calls
        return calls

    def _blocks(self, rest: str) -> list[str]:
        """The calls' inner texts; where the format has no end mark, a call lasts to the next start."""
        parts = rest.split(self.start)
        if not self._end:
            return parts
        return [part.partition(self._end)[0] for part in parts]


def _call(made: Any) -> ToolCall:
    name, arguments = made["name"], made.get("arguments", {})
    if not isinstance(name, str):
        raise ValueError("the name is no string")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are no object")
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))
