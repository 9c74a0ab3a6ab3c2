"""What decides on the host which tokens may come next: a grammar, a thought that has to end, or both in turn."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ..errors import RequestError
from ..types import SamplingParams
from .grammar import Grammars, RowGrammar
from .thinking import Markers, Thoughts, opened_by
from .tokenizer import ChatTokenizer, TextStream

_TAIL = 32  # tokens of a prompt's end in which a marker that opens a thought would be


class Guide:
    """One row's. Tokens that it must know before the next is chosen come through `follow`.

    A thought is ended at its budget by feeding what closes it, never inside a character. A grammar begins behind the
    thought; where none has begun yet, the marker that opens one is allowed beside the grammar's own tokens.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        vocabulary: int,
        *,
        markers: Markers | None,
        opened: bool = False,
        budget: int | None = None,
        grammar: RowGrammar | None = None,
        may_open: bool = True,
        fresh_answer: bool = False,
    ) -> None:
        """`fresh_answer`: the row's penalties begin anew with its answer."""
        self._vocabulary, self._grammar, self._budget = vocabulary, grammar, budget
        self._thoughts, self._stream = Thoughts(markers, opened), TextStream(tokenizer)
        self._marked, self._fresh_answer = markers is not None, fresh_answer
        self._opens = tokenizer.encode(markers.open.rstrip()) if markers and grammar and may_open else []
        self._closes = tokenizer.encode(markers.closing) if markers else []
        opening = tokenizer.encode(markers.open.rstrip()) if markers and budget is not None else []
        self._reopens = opening if len(opening) == 1 else []  # would begin another thought behind one that was ended
        self._forced: list[int] = []
        self._seen = self._count = 0  # tokens; those of the thought
        self._in_grammar = False
        self.answer_begins = False  # since the last token; whoever acts on it sets it back
        self._end_thought_in_time()

    def waits(self, count: int) -> bool:
        """Whether the next token can't be chosen before the `count` tokens so far are known."""
        if self._grammar is not None or self._forced:
            return True
        if self._thoughts.said:
            return False
        return self._fresh_answer or (self._budget is not None and count >= self._budget)

    @property
    def answer_waits(self) -> bool:
        """Whether penalties will begin anew, with an answer that hasn't begun."""
        return self._fresh_answer and not self._thoughts.said

    def follow(self, said: Sequence[int], last: int | None) -> None:
        """Take in the answer's tokens, each once: `said`, and `last` where one isn't handed out yet.

        :raises RequestError: the grammar can't go on.
        """
        fresh = list(said[self._seen :])
        if last is not None and self._seen <= len(said):
            fresh.append(last)
        for token in fresh:
            self._accept(token)
        self._seen += len(fresh)

    def fork(self) -> Guide:
        """One that goes on from here by itself."""
        made = copy.copy(self)
        made._thoughts, made._stream = copy.copy(self._thoughts), self._stream.fork()
        made._forced = list(self._forced)
        made._grammar = None if self._grammar is None else self._grammar.fork()
        return made

    def takes(self, token: int) -> bool:
        """Follow a token that was only drafted; False where it can't come."""
        if (self._forced and token != self._forced[0]) or (self._may_not_reopen and token in self._reopens):
            return False
        try:
            self._accept(token)
        except RequestError:
            return False
        return True

    def certain(self) -> list[int]:
        """The tokens about which there is no choice, as far as is known."""
        if self._forced or self._grammar is None or self._thoughts.thinking or self._may_open:
            return list(self._forced)
        return self._grammar.certain()

    def _accept(self, token: int) -> None:
        if self._forced and token == self._forced[0]:
            del self._forced[0]
        was = self._thoughts.thinking
        if self._marked and not self._thoughts.said:
            self._thoughts.feed(self._stream.add(token))
        now = self._thoughts.thinking
        self._count += was or now
        self.answer_begins = self.answer_begins or (was and not now and self._fresh_answer)
        self._end_thought_in_time()
        if self._grammar is not None and not (was or now or self._forced):
            self._outside(self._grammar, token)

    def _end_thought_in_time(self) -> None:
        over = self._budget is not None and self._count >= self._budget
        if over and self._thoughts.thinking and not self._forced and not self._stream.inside:
            self._forced = list(self._closes)

    def _outside(self, grammar: RowGrammar, token: int) -> None:
        """A token that is no thought: of the marker that opens one, or the grammar's."""
        if self._may_open and token == self._opens[0]:
            self._forced = self._opens[1:]
            self._opens = []
            return
        self._in_grammar = True
        grammar.accept(token)

    @property
    def _may_open(self) -> bool:
        return bool(self._opens) and not (self._in_grammar or self._thoughts.thought)

    def mask(self) -> mx.array | None:
        """(V,) float32 to add to the logits: 0 where a token may come, minus infinity elsewhere; None: any may."""
        if self._forced:
            return self._only(self._forced[:1])
        if self._thoughts.thinking:
            return None
        allowed = self._grammar.allowed() if self._grammar is not None else None
        if allowed is not None and self._may_open:
            allowed[self._opens[0]] = 0
        if self._may_not_reopen:
            allowed = np.zeros(self._vocabulary, np.float32) if allowed is None else allowed
            allowed[self._reopens] = -np.inf
        return None if allowed is None else mx.array(allowed)

    @property
    def _may_not_reopen(self) -> bool:
        """Whether a thought was ended for its budget, and the next thing that is said has to be the answer."""
        spent = self._budget is not None and self._count >= self._budget
        return spent and bool(self._reopens) and self._thoughts.thought and not self._thoughts.said

    def _only(self, tokens: Sequence[int]) -> mx.array:
        closed = np.full(self._vocabulary, -np.inf, np.float32)
        closed[list(tokens)] = 0
        return mx.array(closed)


class Guides:
    """Makes guides for one model. Any thread."""

    def __init__(self, tokenizer: ChatTokenizer, vocabulary: int, end_tokens: frozenset[int]) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._grammars = Grammars(tokenizer, vocabulary, end_tokens)

    def thinking(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends inside a thought."""
        text = [token for token in prompt[-_TAIL:] if token >= 0]  # some families number their pictures below 0
        tail = self._tokenizer.decode(text, skip_special_tokens=False)
        return opened_by(self._tokenizer.markers, tail)

    def guide(self, sampling: SamplingParams, opened: bool) -> Guide | None:
        """What a request needs; None where any token may come at any time.

        :raises RequestError: a schema that can't be followed, or a budget for a model that marks no thoughts.
        """
        markers, budget, schema = self._tokenizer.markers, sampling.think_budget, sampling.json_schema
        if budget is not None and markers is None:
            raise RequestError("this model marks no thoughts; leave think_budget out.")
        grammar = None if schema is None else self._grammars.json(schema)
        if sampling.lark is not None:
            grammar = self._grammars.lark(sampling.lark)
        penalised = (
            sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty not in (None, 1)
        )
        anew = markers is not None and bool(penalised)
        if grammar is None and budget is None and not anew:
            return None
        return Guide(
            self._tokenizer,
            self._vocabulary,
            markers=markers,
            opened=opened,
            budget=budget,
            grammar=grammar,
            may_open=sampling.think is not False,
            fresh_answer=anew,
        )
