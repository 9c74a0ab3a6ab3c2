"""A row's own way from logits to a token: bias, penalties, temperature, truncation, seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from ..types import SamplingParams
from .guide import Guide


@dataclass
class Chosen:
    """Lazy arrays of one step of one row: the token (), its log-probability () and the best alternatives."""

    token: mx.array
    logprob: mx.array | None = None
    top_ids: mx.array | None = None
    top_logprobs: mx.array | None = None


def position_key(seed: int, position: int, choice: int = 0) -> mx.array:
    """The key (2,) uint32 of one position of an answer: a hash, so that near seeds share nothing and any
    position can be drawn without the ones before it. `choice` counts the answers to one prompt."""
    name = b"%d:%d:%d" % (seed, choice, position)
    return mx.array(np.frombuffer(hashlib.blake2b(name, digest_size=8).digest(), np.uint32))


class RowSampler:
    """Samples one row. The same seed gives the same tokens, whatever else is in the batch.

    Penalties count the tokens generated so far (OpenAI's meaning of presence and frequency, CTRL's
    of repetition), of a model that thinks those of its answer. Everything stays in MLX's graph, so that
    the next step can be launched before this one's token has been read.
    """

    def __init__(self, params: SamplingParams, vocabulary: int, guide: Guide | None = None) -> None:
        self.params = params
        self.guide = guide
        self._seed = params.seed if params.seed is not None else random.getrandbits(63)
        self._step = 0
        penalties = (params.presence_penalty or 0, params.frequency_penalty or 0)
        self._repetition = params.repetition_penalty or 1.0
        self._counts = mx.zeros(vocabulary) if any(penalties) or self._repetition != 1.0 else None
        self._presence, self._frequency = penalties
        self._bias = None
        if params.logit_bias:
            tokens, biases = list(params.logit_bias), list(params.logit_bias.values())
            self._bias = (mx.array(tokens, dtype=mx.int32), mx.array(biases))

    @property
    def plain_greedy(self) -> bool:
        """Whether this row's token is simply the argmax of its logits."""
        p = self.params
        simple = self._counts is None and self._bias is None and self.guide is None
        return simple and not p.temperature and p.logprobs is None

    def __call__(self, logits: mx.array) -> Chosen:
        """`logits` is (V,). A guide that waits for the last token must have followed it before."""
        made = self.ahead(logits, (), self.guide)
        self._step += 1
        if self._counts is not None:
            self._counts = self._counts.at[made.token].add(1.0)
        return made

    def ahead(self, logits: mx.array, said: Sequence[int], guide: Guide | None) -> Chosen:
        """What would be chosen had `said` been chosen since the last step; `guide` has followed it. Changes nothing."""
        own = logits = logits.astype(mx.float32)
        if self._bias is not None:
            logits = logits.at[self._bias[0]].add(self._bias[1])
        counts = self._begin_answer()
        if counts is not None:
            logits = self._penalise(logits, counts.at[mx.array(list(said))].add(1.0) if said else counts)
        mask = guide.mask() if guide is not None else None
        if mask is not None:
            logits = logits + mask
        return self._with_logprobs(self._choose(logits, self._step + len(said)), own)

    def took(self, tokens: Sequence[int]) -> None:
        """These were chosen, by `ahead`."""
        self._step += len(tokens)
        if self._counts is not None:
            self._counts = self._counts.at[mx.array(list(tokens))].add(1.0)

    def _begin_answer(self) -> mx.array | None:
        """The counts of what was said; none of a thought once the answer begins."""
        if self._counts is not None and self.guide is not None and self.guide.answer_begins:
            self._counts, self.guide.answer_begins = mx.zeros_like(self._counts), False
        return self._counts

    def _penalise(self, logits: mx.array, counts: mx.array) -> mx.array:
        said = counts > 0
        if self._repetition != 1.0:
            weaker = mx.where(logits > 0, logits / self._repetition, logits * self._repetition)
            logits = mx.where(said, weaker, logits)
        return logits - self._presence * said - self._frequency * counts

    def _choose(self, logits: mx.array, position: int) -> mx.array:
        p = self.params
        if not p.temperature:
            return mx.argmax(logits)
        logprobs = (logits - mx.logsumexp(logits))[None]
        if p.top_k and p.top_k < logits.shape[-1]:
            logprobs = apply_top_k(logprobs, p.top_k)
        if p.top_p is not None and 0 < p.top_p < 1:
            logprobs = apply_top_p(logprobs, p.top_p)
        if p.min_p:
            logprobs = apply_min_p(logprobs, p.min_p, 1)
        return mx.random.categorical(logprobs[0] / p.temperature, key=position_key(self._seed, position))

    def _with_logprobs(self, token: mx.array, logits: mx.array) -> Chosen:
        """By the model's own distribution, before bias, penalties, grammar and temperature."""
        wanted = self.params.logprobs
        if wanted is None:
            return Chosen(token)
        logprobs = logits - mx.logsumexp(logits)
        if not wanted:
            return Chosen(token, logprobs[token])
        best = mx.argsort(-logprobs)[:wanted]
        return Chosen(token, logprobs[token], best, logprobs[best])


def choose(logits: mx.array, samplers: Sequence[RowSampler]) -> tuple[mx.array, list[Chosen | Exception | None]]:
    """Tokens (B,) of a decode step, and what rows with options chose.

    A sampler that raises gives its exception in its row's place; the other rows go on.
    """
    tokens = mx.argmax(logits, axis=-1)
    if all(s.plain_greedy for s in samplers):
        return tokens, [None] * len(samplers)
    chosen: list[Chosen | Exception | None] = []
    parts = []
    for row, sampler in enumerate(samplers):
        if sampler.plain_greedy:
            chosen.append(None)
            parts.append(tokens[row])
            continue
        try:
            made = sampler(logits[row])
        except Exception as error:
            chosen.append(error)
            parts.append(tokens[row])
            continue
        chosen.append(made)
        parts.append(made.token.astype(tokens.dtype))
    return mx.stack(parts), chosen


def choose_ahead(
    logits: mx.array, samplers: Sequence[RowSampler], drafts: Sequence[Sequence[int]]
) -> tuple[mx.array, list[list[Chosen | Exception | None]]]:
    """Tokens (T,) of a step in which row i was fed its last token and the `drafts[i]`, each place as if the drafted
    tokens before it had been chosen; and what rows with options chose at each of their places."""
    plain = mx.argmax(logits, axis=-1)
    parts: list[mx.array] = []
    chosen: list[list[Chosen | Exception | None]] = []
    at = 0
    for sampler, draft in zip(samplers, drafts, strict=True):
        end = at + len(draft) + 1
        if sampler.plain_greedy:
            parts.append(plain[at:end])
            chosen.append([None] * (end - at))
        else:
            made = _ahead(logits[at:end], sampler, draft)
            chosen.append(made)
            tokens = [
                c.token.astype(plain.dtype) if isinstance(c, Chosen) else plain[at + i] for i, c in enumerate(made)
            ]
            parts.append(mx.stack(tokens))
        at = end
    return mx.concatenate(parts), chosen


def _ahead(logits: mx.array, sampler: RowSampler, draft: Sequence[int]) -> list[Chosen | Exception | None]:
    guide = sampler.guide.fork() if sampler.guide is not None else None
    made: list[Chosen | Exception | None] = []
    for place in range(len(draft) + 1):
        try:
            made.append(sampler.ahead(logits[place], draft[:place], guide))
        except Exception as error:
            made.append(error)
            break
        if guide is not None and place < len(draft) and not guide.takes(draft[place]):
            break
    return [*made, *[None] * (len(draft) + 1 - len(made))]  # behind a token that can't come nothing is accepted


def finite_only(tokens: mx.array, logits: mx.array) -> mx.array:
    """`tokens` (rows,) int32, -1 where a row's logits (rows, V) hold what is no number."""
    return mx.where(mx.isnan(logits).any(axis=-1), -1, tokens.astype(mx.int32))
