"""What the engine thread computes: pictures, prefill chunks, decode steps."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..cache.prefix_cache import CacheSettings
from ..errors import RequestError
from ..models import device, memory
from ..models.guide import Guides
from ..models.kv_state import MergedBatch, SingleRow
from ..models.own_thread import end_thread
from ..models.row_proof import RowProof
from ..models.row_store import RowStore
from ..models.sampling import RowSampler, choose, finite_only
from ..types import SamplingParams
from ..visible import size
from .batch import Aside, DecodeBatch, Sampled
from .budget import Need
from .drafting import Drafting
from .guard import Guard
from .phase import Phase
from .pictures import Pictures
from .request import Request
from .reuse import Reuse
from .row import Row, Slot
from .scheduler import Limits, next_chunk
from .solo import SoloBatch
from .state import PromptState
from .switching import Switching
from .turns import Chunks, chunks_for, gap_target

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel

_NO_CHUNKS = 2**40
_LEAST_ROOM = 256 * 2**20  # beside the weights, whatever the machine has


class Advance(Enum):
    """What became of a row's turn: it waits for the disk, has more to do, or has joined the batch."""

    WAITS = 0
    MORE = 1
    JOINED = 2


class Runner:
    """Drives one loaded model. Every method but `prepare` runs on the engine thread."""

    def __init__(
        self, model: LoadedModel, limits: Limits, feature_bytes: int, cache: CacheSettings | None = None
    ) -> None:
        self.model: Any = model  # a LoadedModel, None once closed
        self.guard = Guard()
        alone = not model.family.batchable
        device.hold()
        on_gpu = device.on_gpu()
        attention = memory.attention_per_token(model.checkpoint.config)
        fixed = Chunks(limits.prefill_chunk) if limits.prefill_chunk else None
        if model.whole_because and not alone:
            fixed = Chunks(_NO_CHUNKS)
        self._chunks = fixed or chunks_for(model.parameters, attention, on_gpu)
        self.gap_s = limits.gap_s or gap_target(on_gpu)
        self.rows: RowProof | None = model.rows
        settings = CacheSettings(0) if alone or model.whole_because or cache is None else cache
        self.reuse = Reuse(model, settings, lambda: bool(self.batch.rows), self.guard, self._chunks.size)
        self.drafting = Drafting(model, self.reuse, self.guard, self.gap_s)
        self.batch: Any = SoloBatch(model) if alone else DecodeBatch(model, self._new_store, self.drafting)
        self.switching = Switching(model)
        self.pictures = Pictures(model, self.reuse, self.guard, feature_bytes)
        self.vocabulary = self._vocabulary()
        self._guides = Guides(model.tokenizer, self.vocabulary, model.end_tokens)
        self._context = model.context
        self._on_gpu, self._dtype, self._cost = on_gpu, model.dtype, memory.row_cost(model)
        self.weights, self._kv_limit = model.nbytes, limits.kv_bytes
        if model.drafter is not None:
            self.weights += model.drafter.nbytes
            self._cost = model.drafter.beside(self._cost)
        self.together = 0 if limits.memory_bytes else memory.shared_bytes()
        self.bound = limits.memory_bytes or max(self.together, self.weights + _LEAST_ROOM)
        self.own_kv = self.rows is not None and self.rows.grouping.handles
        self.copied = (1 if on_gpu else 2) / max(1, len(model.new_cache()))  # of KV, a layer at a time, within a step
        self.step_bytes = 12 * self.vocabulary  # a decode step's logits a row, as they are and in float32

    def _new_store(self) -> RowStore | MergedBatch | SingleRow:
        if self.model.alone_because:
            return SingleRow()
        return RowStore(len(self.model.new_cache()), self.rows.grouping) if self.rows else MergedBatch()

    def prepare(self, request: Request) -> None:
        """Read its pictures and tokenize, estimate what it needs, cap its answer, make its guide.

        Runs on a worker thread.

        :raises OmlxError: a picture or the prompt can't be taken, or it can never fit.
        """
        self._check_ids(request.wants.sampling)
        request.prompt = PromptState()  # also where it is prepared again
        prompt, state = request.prepare(), request.prompt
        state.ready = prompt
        state.tokens = tokens = len(prompt.ids)
        state.images = len(prompt.images)
        state.notes.extend(prompt.notes)
        most = request.max_tokens
        if self._context and tokens >= self._context:
            raise RequestError(
                f"the prompt has {tokens:,} tokens, but {self.model.name} takes {self._context:,}; "
                "shorten it, or use fewer or smaller pictures."
            )
        if self._context and tokens + most > self._context:
            most = self._context - tokens
            state.max_tokens, state.cut_by = most, "context"
        state.hint = self.model.tokenizer.encode(request.wants.hint or prompt.hint)
        state.thinking = self._guides.thinking(prompt.ids)
        state.guide = self._guides.guide(request.wants.sampling, state.thinking)
        self._estimate(state, most)

    def _estimate(self, state: PromptState, most: int) -> None:
        """What the request's row will take; an answer that can't fit is cut to what can.

        :raises RequestError: the prompt alone can never fit.
        """
        prompt, config, tokens = state.ready, self.model.checkpoint.config, state.tokens
        chunk = tokens if prompt.inputs is not None else self._chunks.size
        features = memory.feature_bytes(prompt.images, config, self._dtype)
        compute = features + max(
            memory.vision_bytes(prompt.images, config, self._on_gpu),
            memory.prefill_bytes(config, self._dtype, tokens, chunk, self._on_gpu),
        )
        pixels = sum(prompt.held().values())
        left = int((self.bound - self.weights - compute - pixels - self.step_bytes) / (1 + self.copied))
        least = self._kv(tokens, 1)
        if least > left or (self._kv_limit and least > self._kv_limit):
            bound = min(self.bound - self.weights, self._kv_limit or self.bound)
            mend = "use fewer or smaller pictures" if prompt.images else "shorten it"
            whole = int(least * (1 + self.copied)) + compute + pixels + self.step_bytes
            raise RequestError(
                f"the request needs about {size(whole)}, but at most {size(bound)} are there for "
                f"one; {mend}, or allow the engine more memory."
            )
        while self._kv(tokens, most) > left:
            most, state.cut_by = max(1, most - max(1, most // 8)), "memory"
            state.max_tokens = most
        kv = self._kv(tokens, most)
        state.need = Need(kv, compute + max(0, self._cost.of(_whole(tokens, 256)) - kv))  # it prefills in larger steps

    def _kv(self, tokens: int, most: int) -> int:
        """Bytes of a row's KV at its largest, in the batch."""
        if not self.own_kv:
            return self._cost.of(_whole(tokens + most, 256))
        return self._cost.of(_whole(tokens + most + 1, 64))

    def _check_ids(self, sampling: SamplingParams) -> None:
        for name, ids in (("stop_token_ids", sampling.stop_token_ids), ("logit_bias", sampling.logit_bias or ())):
            wrong = [i for i in ids if not 0 <= i < self.vocabulary]
            if wrong:
                last = self.vocabulary - 1
                raise RequestError(f"{name} names the token {wrong[0]}; {self.model.name} has tokens 0 to {last}.")

    def _vocabulary(self) -> int:
        """The width of the logits: the config's, which may be more than the tokenizer's."""
        config = self.model.checkpoint.config
        text = config.get("text_config") or {}
        return int(text.get("vocab_size") or config.get("vocab_size") or len(self.model.tokenizer.inner))

    def begin(self, request: Request) -> Row:
        wants, prompt = request.wants.sampling, request.prompt
        sampling = wants if wants.seed is not None else replace(wants, seed=request.wants.seed)
        guide = prompt.guide
        if guide is not None and request.said.token_ids:  # its row was dropped: a guide can't go back
            guide = self._guides.guide(wants, prompt.thinking)
        sampler = RowSampler(sampling, self.vocabulary, guide)
        row = request.row = Row(request, self.model, sampler)
        row.cache = self.model.new_cache()
        positions = self.model.positions(row.prompt)
        if positions is not None:
            row.positions, row.delta = mx.array(positions.ids[:, None]), positions.delta
        request.to(Phase.READING if row.prompt.images else Phase.PREFILL)
        self.reuse.begin(row)
        self.drafting.begin(row, request.prompt.hint)
        return row

    def advance(self, row: Row) -> Advance:
        """One bounded piece of a row's prefill: a picture or a chunk."""
        request = row.request
        if row.prompt.inputs is not None:
            return self._prefill_whole(row)
        if row.followed:
            row.followed = False
            self.reuse.again(row)
        if not self.reuse.restored(row, 0.0 if self.batch.rows or self.pictures.ahead(row) else 0.005):
            if not self.pictures.ahead(row):
                return Advance.WAITS
            self.pictures.encode_next(row)  # while the disk is read
            return Advance.MORE
        if self.pictures.missing(row):
            self.pictures.encode_next(row)
            return Advance.MORE
        if not row.embedded:
            self.drafting.look(row)
            rest = row.prompt.suffix(request.course.prefilled)
            row.embeds, row.embeds_from = self.model.embed(rest, row.features), request.course.prefilled
            row.embedded = True
            request.to(Phase.PREFILL)
        done = request.course.prefilled
        count = next_chunk(done, request.prompt.tokens, self._chunks, self.reuse.stops(row))
        if count:
            end = row.prompt.outside(done, done + count) if self.model.both_ways else done + count
            self._prefill(row, done, end)
            request.course.prefilled = end
        if request.course.prefilled < request.prompt.tokens - 1:
            return Advance.MORE
        request.course.prefilled = request.prompt.tokens
        row.embeds = row.positions = None
        row.features = []
        self.batch.join(row)
        return Advance.JOINED

    def _prefill_whole(self, row: Row) -> Advance:
        if isinstance(self.batch, SoloBatch):
            self.batch.prefill(row)
        else:
            self._join_whole(row)
        row.request.course.prefilled = row.request.prompt.tokens
        row.request.course.images_encoded = row.request.prompt.images
        self.pictures.encoded += row.request.prompt.images
        return Advance.JOINED

    def _join_whole(self, row: Row) -> None:
        """A prompt that goes through the family's code at once: its row joins with its first token."""
        assert row.cache is not None
        logits, row.delta = self.model.prefill_whole(row.prompt, row.cache)
        tokens, chosen = choose(logits, [row.sampler])
        row.slot, row.fed = Slot(chosen[0], fresh=False, token=finite_only(tokens, logits)), len(row.prompt.ids)
        self.batch.join(row)

    def _prefill(self, row: Row, start: int, end: int) -> None:
        assert row.cache is not None
        ids = mx.array([row.prompt.ids[start:end]])
        positions = None if row.positions is None else row.positions[:, :, start:end]
        at = row.embeds_from
        embeds = None if row.embeds is None else row.embeds[:, start - at : end - at]
        began = time.perf_counter()
        logits, hidden = self.drafting.forward([row], ids, row.cache, embeds, positions)
        mx.eval([c.state for c in row.cache], *([] if hidden is None else [hidden]))
        del logits  # never evaluated: only the last prompt token's logits are wanted
        seconds = time.perf_counter() - began
        self.reuse.measured(row, end - start, seconds)
        self.drafting.prefilled(row, hidden, seconds)
        self.reuse.prefilled(row, start, end, last=end == row.request.prompt.tokens - 1)

    def decode(self) -> list[Sampled]:
        sampled: list[Sampled] = self.batch.step()
        device.tidy(self.batch.steps)
        self.drafting.poll()
        for row in dict.fromkeys(item.row for item in sampled):
            self.reuse.decoded(row, self.batch)
        return sampled

    def leave(self, row: Row) -> None:
        """Take a decoding row out of the batch; the prefix cache keeps its answer."""
        self.reuse.ended(row, self.batch)
        self.drafting.ended(row)
        self.batch.leave(row)

    def drop(self, row: Row) -> None:
        """Free a row that was put aside. Both tiers keep what they take of it."""
        self.reuse.ended(row, Aside())
        row.cache, row.aside = None, 0

    def reset(self) -> None:
        """After a fault under the running rows: drop the batch, so that the next request begins a fresh one."""
        self.batch.drop()
        self.drafting.drop()
        mx.clear_cache()

    def forget(self) -> None:
        """Empty what RAM holds of prefixes and pictures; running rows keep theirs."""
        self.pictures.features.clear()
        self.reuse.forget()
        self.drafting.drop()

    def close(self) -> None:
        try:
            self.reuse.close()
            self.drafting.drop()
            self.batch.drop()
            self.pictures.features.clear()
        finally:
            device.let_go()
            self.model = None
            end_thread()


def _whole(tokens: int, step: int) -> int:
    return -(-tokens // step) * step
