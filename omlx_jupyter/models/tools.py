"""Tool calls in an answer: told from its text, whole or while they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .tokenizer import ChatTokenizer
from .tool_formats import format_of
from .tool_grammar import call_grammar

if TYPE_CHECKING:
    from ..types import Tools


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


@dataclass(frozen=True)
class Begun:
    """A call that goes on: `arguments` is what its JSON begins with, as it will be in the end."""

    name: str
    arguments: str
    whole: bool = False


class ToolParser:
    """Finds the calls in an answer. One per loaded model."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._format = format_of(tokenizer.inner)
        self.style = self._format.style
        self.start = self._format.start
        self.start_id = tokenizer.token_id(self.start) if self.start else None
        self.begins = self._format.begins
        added = getattr(tokenizer.inner, "added_tokens_decoder", {})
        self._added = {str(token): number for number, token in added.items() if str(token).strip()}
        starts = (self.start, self._format.heading + self.start)
        self.starts = tuple(dict.fromkeys(t for s in starts for t in (s, self._shown(s)) if t))

    def grammar(self, tools: Sequence[Mapping[str, Any]], several: bool) -> str | None:
        """A grammar of a call of one of `tools`; None where the model's format can't be bound to one."""
        return call_grammar(self._format, tools, self._word, several, self._tokenizer.template_text)

    def _word(self, text: str) -> str:
        """A marker as Lark has it: tokens that were added to the vocabulary by their ids, the rest as text."""
        held = sorted((t for t in self._added if t in text), key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, held))})", text) if held else [text]
        words = [f"<[{self._added[p]}]>" if p in self._added else json.dumps(p, ensure_ascii=False) for p in parts if p]
        return " ".join(words)

    def parse(self, token_ids: Sequence[int], end_tokens: frozenset[int], text: str, tools: Tools = None) -> Parsed:
        """Take an answer apart. A malformed call comes back as text with a note, never as an exception."""
        ids = list(token_ids)
        while ids and ids[-1] in end_tokens:
            ids.pop()
        raw = self._tokenizer.decode(ids, skip_special_tokens=False)
        before, rest = self._split(raw)
        if rest is None:
            return Parsed(text)
        calls: list[ToolCall] = []
        for block, whole in self._format.blocks(rest):
            try:
                if not whole and self._format.unfinished(block):
                    raise ValueError("it isn't finished")
                calls += self._calls(block, tools)
            except Exception as error:
                if not self.start and not raw.lstrip().startswith("<|"):
                    return Parsed(text)  # an answer that begins as a call would
                note = f"the model's tool call can't be parsed ({type(error).__name__}: {error})"
                return (
                    Parsed(f"{before.strip()}{self.start}{block}", tuple(calls), note)
                    if calls
                    else Parsed(text, (), note)
                )
        if not calls:
            return Parsed(text, (), "the model began a tool call and didn't finish it")
        return Parsed(self._plain(before), tuple(calls))

    def _split(self, raw: str) -> tuple[str, str | None]:
        """(what stands before the calls, what behind their first marker; None where there is no call)."""
        if self.start:
            before, found, rest = raw.partition(self.start)
            return before, rest if found else None
        return "", raw if raw.lstrip().startswith(self.begins) else None

    def _plain(self, text: str) -> str:
        """Text before a call without what only headed it."""
        return self._shown(text.removesuffix(self._format.heading)).strip()

    def _shown(self, text: str) -> str:
        """A text as decoding shows it, without the special tokens in it."""
        for special in self._tokenizer.special_texts:
            text = text.replace(special, "")
        return text

    def _calls(self, block: str, tools: Tools) -> list[ToolCall]:
        made = self._format.parse(block, tools)
        return [_call(c) for c in (made if isinstance(made, list) else [made])]

    def begun(self, token_ids: Sequence[int], tools: Tools = None) -> list[Begun]:
        """The calls of an answer that goes on, as far as they are told. Malformed ones end the list: `parse` tells of
        them."""
        raw = self._tokenizer.decode(list(token_ids), skip_special_tokens=False)
        rest = self._split(raw.rstrip("\ufffd"))[1]  # half a character may be at its end
        found: list[Begun] = []
        for block, whole in self._format.blocks(rest or ""):
            try:
                if whole:
                    texts = self._format.begun(block, tools) if self._format.header else None
                    calls = self._calls(block, tools)
                    exact = texts is not None and len(calls) == 1
                    found += [Begun(c.name, texts[1] if exact and texts else c.arguments, True) for c in calls]
                elif part := self._format.begun(block, tools):
                    return [*found, Begun(*part)]
            except Exception:
                return found
        return found


def _call(made: Mapping[str, Any]) -> ToolCall:
    name, arguments = made["name"], made.get("arguments", {})
    if not isinstance(name, str):
        raise ValueError("the name is no string")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are no object")
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))
