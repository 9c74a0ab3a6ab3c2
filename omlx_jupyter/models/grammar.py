"""Answers that follow a JSON schema: llguidance decides which tokens may come next, per row."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import RequestError
from .tokenizer import ChatTokenizer


class Matcher(Protocol):
    """llguidance's."""

    def deep_copy(self) -> Matcher: ...
    def is_stopped(self) -> bool: ...
    def compute_ff_tokens(self) -> Sequence[int]: ...
    def try_consume_tokens(self, tokens: Sequence[int]) -> int: ...
    def get_error(self) -> str: ...


class RowGrammar:
    """One row's matcher. `accept` must get every sampled token before the next `allowed`."""

    def __init__(self, matcher: Matcher, vocabulary: int, end_tokens: list[int]) -> None:
        self._end_tokens = end_tokens
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._bits = np.zeros((1, -(-vocabulary // 32)), np.int32)

    def fork(self) -> RowGrammar:
        return RowGrammar(self._matcher.deep_copy(), self._vocabulary, self._end_tokens)

    def certain(self) -> list[int]:
        """Tokens that spell the text which must come next, such as a key; the model may choose to spell it
        otherwise."""
        return [] if self._matcher.is_stopped() else list(self._matcher.compute_ff_tokens())

    def accept(self, token: int) -> None:
        """:raises RequestError: the token can't come here, or the grammar engine gave up (its error says why)."""
        if not self._matcher.is_stopped() and not self._matcher.try_consume_tokens([token]):  # `consume_token` prints
            why = self._matcher.get_error() or f"token {token} can't come here"
            raise RequestError(f"the schema can't be followed further ({why}).")

    def allowed(self) -> np.ndarray | None:
        """(V,) float32 to add to the logits: 0 where a token may come, minus infinity elsewhere; None: any may."""
        from llguidance.numpy import fill_next_token_bitmask

        if self._matcher.is_stopped():  # the JSON is complete: nothing may follow but the end
            closed = np.full(self._vocabulary, -np.inf, np.float32)
            closed[self._end_tokens] = 0
            return closed if self._end_tokens else None
        fill_next_token_bitmask(self._matcher, self._bits)
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocabulary]
        return np.where(allowed, np.float32(0), np.float32(-np.inf))


class Grammars:
    """Makes matchers for one model; the tokenizer's trie is built once, at first use."""

    def __init__(self, tokenizer: ChatTokenizer, vocabulary: int, end_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._end_tokens = sorted(end_tokens)
        self._trie: Any = None
        self._lock = threading.Lock()

    def json(self, schema: Mapping[str, Any]) -> RowGrammar:
        """A matcher for a JSON schema; `{}` is any JSON value.

        :raises RequestError: llguidance doesn't take the schema; the sentence says why.
        """
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(dict(schema)))
        except (TypeError, ValueError) as error:
            raise RequestError(f"the JSON schema can't be used ({error}).") from None
        return self._matcher(grammar, "JSON schema")

    def lark(self, text: str) -> RowGrammar:
        """A matcher for a Lark grammar, in llguidance's dialect.

        :raises RequestError: llguidance doesn't take the grammar; the sentence says why.
        """
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_lark(text)
        except (TypeError, ValueError) as error:
            raise RequestError(f"the grammar can't be used ({error}).") from None
        return self._matcher(grammar, "grammar")

    def _matcher(self, grammar: str, what: str) -> RowGrammar:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        with self._lock:
            if self._trie is None:
                self._trie = from_tokenizer(
                    self._tokenizer.inner, n_vocab=self._vocabulary, eos_token=self._end_tokens or None
                )
        problem = LLMatcher.validate_grammar(grammar, self._trie)
        if problem:
            raise RequestError(f"the {what} can't be used ({problem.splitlines()[0]}).")
        return RowGrammar(LLMatcher(self._trie, grammar), self._vocabulary, self._end_tokens)
