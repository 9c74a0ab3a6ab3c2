"""Between a row and the prefix cache: restore what is known, take in what was computed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import mlx.core as mx

from ..cache.keys import BLOCK_TOKENS, Chain, Span
from ..cache.planner import Needs, Plan
from ..cache.prefix_cache import CacheSettings, PrefixCache, Restored
from ..models import kv_records
from ..models.identity import identity_of
from ..models.kv_records import Layout, Payload, Room
from . import sharing
from .guard import Guard, costs_the_cache
from .promotions import Promotions
from .rates import Rates
from .row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..models.loaded import LoadedModel

    Busy = Callable[[], bool]  # whether rows decode

_STATE_EVERY = 4 * BLOCK_TOKENS  # recurrent layers' state is kept at least this often in a prompt
_TRIES = 3  # plans for one prompt, when what was planned has gone


@dataclass
class RowPrefix:
    """A row's chain of blocks. `deltas` are sliding layers' tokens since the chain's last block."""

    chain: Chain
    plan: Plan = field(default_factory=Plan)
    reading: Future[Restored | None] | None = None
    tries: int = 0
    room: Room | None = None  # the row's own arrays, while the disk is read into them
    from_disk: Plan | None = None  # restored into the row alone; RAM gets it after the first token
    deltas: list[Payload] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)  # where another row wants recurrent layers' state to be kept


class HoldsRows(Protocol):
    """A decode batch, or rows that were put aside, as far as what they hold is stored."""

    def length(self, row: Row) -> int: ...
    def row_caches(self, row: Row) -> list[Any]: ...


class Reuse:
    """Engine thread only; nothing for models whose caches it can't slice. Its faults cost the cache, no request."""

    def __init__(self, model: LoadedModel, settings: CacheSettings, busy: Busy, guard: Guard, chunk: int) -> None:
        self._model, self._chunk = model, chunk
        self.guard = guard
        self._layout: Layout = kv_records.layout_of(model.new_cache())
        self.cache: PrefixCache | None = None
        self.io: ThreadPoolExecutor | None = None
        self._promotions: Promotions | None = None
        if self._layout.usable and settings.ram_bytes > 0:
            try:
                needs = Needs(self._layout.window, self._layout.stateful)
                identity = identity_of(model.checkpoint, model.dtype)
                self.cache = PrefixCache(identity, model.name, needs, self._layout.names, settings, busy)
            except Exception as error:
                guard.cache(error)
            self.io = ThreadPoolExecutor(2, "omlx-cache-reader")
            if self.cache is not None:
                self._promotions = Promotions(self.cache, self.io, guard)
        ssd = self.cache.ssd if self.cache is not None else None
        self.rates = Rates(ssd.seconds_per_token if ssd is not None else 0.0)

    def detach(self, row: Row) -> None:
        """Part a row from the cache; a row that hasn't computed anything begins at its first token."""
        unread = row.prefix is not None and row.prefix.reading is not None
        row.prefix = row.follows = None
        if unread:
            row.cache, row.images_done, row.features = self._model.new_cache(), 0, []
            row.request.course.nothing_reused()

    # -- before prefill ---------------------------------------------------------------------

    @costs_the_cache(None)
    def begin(self, row: Row) -> None:
        """Look the prompt up and start reading what is on disk."""
        if self.cache is None or row.prompt.inputs is not None:
            return
        if self._promotions is not None:
            self._promotions.collect()
        spans = [Span(s.start, s.length, s.digest) for s in row.prompt.spans]
        row.prefix = RowPrefix(self.cache.chain(row.prompt.ids, spans))
        self.cache.tokens_asked += len(row.prompt.ids)
        self._plan(row)

    @costs_the_cache(None)
    def again(self, row: Row) -> None:
        """Look a prompt up once more that has computed nothing yet."""
        prefix = row.prefix
        if prefix is not None and not row.request.course.prefilled:
            prefix.tries = 0
            self._plan(row)

    @costs_the_cache(None)
    def follow(self, row: Row, ahead: Sequence[Row]) -> None:
        """Let `row` wait for a row that computes the same now, if there is one; see `sharing`."""
        sharing.follow(row, ahead, self._chunk if self._layout.stateful else 0)

    def _plan(self, row: Row) -> None:
        assert self.io is not None
        cache, prefix = cast(PrefixCache, self.cache), cast(RowPrefix, row.prefix)
        prefix.plan = cache.plan(prefix.chain, len(row.prompt.ids) - 1) if prefix.tries < _TRIES else Plan()
        prefix.tries += 1
        prefix.reading = prefix.room = None
        row.images_done, row.features = 0, []  # those that were encoded ahead are known elsewhere
        if prefix.plan.length:
            slow, read = cache.fetch(prefix.plan, _allocator(row, self._layout))
            if slow:
                prefix.reading = self.io.submit(read)
                if prefix.room is not None:
                    _or_give_up(prefix.room)
            else:
                prefix.reading = Future()
                prefix.reading.set_result(read())

    @costs_the_cache(True)
    def restored(self, row: Row, wait_s: float) -> bool:
        """Whether the row can be prefilled; waits at most `wait_s` for the disk. Modifies the row's caches."""
        prefix = row.prefix
        if prefix is None or prefix.reading is None:
            return True
        if not prefix.reading.done():
            wait([prefix.reading], wait_s)  # not result(wait_s): a disk that times out raises TimeoutError too
            if not prefix.reading.done():
                return False
        found = prefix.reading.result()
        if found is None:
            self._plan(row)
            return prefix.reading is None
        self._fill(row, prefix, found)
        prefix.reading = None
        return True

    def _fill(self, row: Row, prefix: RowPrefix, found: Restored) -> None:
        assert self.cache is not None
        course, plan = row.request.course, prefix.plan
        parts = [(part.payload, part.take) for part in found.parts]
        if prefix.room is not None:
            parts, prefix.room = [(prefix.room.arrays, plan.length)], None
            prefix.from_disk = plan
        elif self._promotions is not None:
            self._promotions.keep(prefix.chain, plan, found.parts)
        kv_records.rebuild(row.cache or [], self._layout, parts, plan.length, found.state, _capacity(row))
        self.cache.used(plan, prefix.chain)
        if self._layout.window and plan.steps[-1].take < plan.steps[-1].child.length:
            count = plan.length - prefix.chain.done  # a block used in part is stored anew, with what follows
            prefix.deltas = [kv_records.window_delta(row.cache or [], self._layout, count)]
        course.prefilled = course.cached_tokens = plan.length
        course.cached_tokens_ram, course.cached_tokens_ssd = plan.tokens(ram=True), plan.tokens(ram=False)
        images = sum(span.end <= plan.length for span in prefix.chain.spans)
        course.images_reused += images
        row.images_done = images
        course.saved_s = plan.length * self.rates.per_token + images * self.rates.per_image
        self.cache.saved_s += course.saved_s

    def _read_again(self, prefix: RowPrefix) -> None:
        """Start to read for RAM what was restored into a row alone."""
        plan, prefix.from_disk = prefix.from_disk, None
        if plan is not None and self._promotions is not None:
            self._promotions.read(prefix.chain, plan)

    # -- during prefill and decode ----------------------------------------------------------

    @costs_the_cache(())
    def stops(self, row: Row) -> tuple[int, ...]:
        """Where prefill chunks have to end."""
        prefix = row.prefix
        if prefix is None:
            return ()
        stops = [prefix.chain.done + BLOCK_TOKENS]
        if self._layout.stateful:
            stops += [span.end for span in prefix.chain.spans]
        return tuple(sorted(stops))

    @costs_the_cache(None)
    def prefilled(self, row: Row, start: int, end: int, last: bool) -> None:
        """Take in what a chunk [start, end) made: whole blocks, and at the prompt's end the rest."""
        prefix = row.prefix
        if prefix is None or self.cache is None:
            return
        if self._layout.window:
            prefix.deltas.append(kv_records.window_delta(row.cache or [], self._layout, end - start))
        chain = prefix.chain
        boundary = self._layout.stateful and (end in prefix.asked or any(span.end == end for span in chain.spans))
        if last or boundary or end - chain.done >= BLOCK_TOKENS:
            self._store(row.cache or [], prefix, end)
            if self._layout.stateful and (last or boundary or end % _STATE_EVERY < BLOCK_TOKENS):
                self.cache.put_state(chain.parent, kv_records.take_state(row.cache or [], self._layout))

    def _store(self, caches: Sequence[object], prefix: RowPrefix, end: int) -> None:
        """Cut [chain.done, end) into one block and put it into both tiers."""
        assert self.cache is not None
        start = prefix.chain.done
        if end <= start:
            return
        deltas, missing = kv_records.join_deltas(prefix.deltas, end - start)
        prefix.deltas = []
        block = prefix.chain.cut(end, missing)
        if not self.cache.ram.has_block(block.key):
            self.cache.put(block, kv_records.take_block(caches, self._layout, start, end, deltas))

    @costs_the_cache(None)
    def decoded(self, row: Row, batch: HoldsRows) -> None:
        """A block of a running answer, once it is full."""
        prefix = row.prefix
        if prefix is None:
            return
        self._read_again(prefix)
        known = len(row.prompt.ids) + len(row.request.answer.token_ids)
        if known - prefix.chain.done > BLOCK_TOKENS:
            self._answer(row, prefix, batch, prefix.chain.done + BLOCK_TOKENS, ended=False)

    @costs_the_cache(None)
    def ended(self, row: Row, batch: HoldsRows) -> None:
        """The rest of an answer, when its row is about to leave the batch."""
        prefix = row.prefix
        if prefix is None:
            return
        row.prefix = None
        self._read_again(prefix)
        if self._promotions is not None:
            self._promotions.collect()
        self._answer(row, prefix, batch, len(row.prompt.ids) + len(row.request.answer.token_ids), ended=True)

    def _answer(self, row: Row, prefix: RowPrefix, batch: HoldsRows, end: int, ended: bool) -> None:
        assert self.cache is not None
        chain = prefix.chain
        chain.extend([*row.prompt.ids, *row.request.answer.token_ids][len(chain.symbols) :])
        length = batch.length(row)
        end = min(end, length)
        if end - chain.done < (1 if ended else BLOCK_TOKENS):
            return
        caches = batch.row_caches(row)
        if self._layout.window:
            held = kv_records.window_delta(caches, self._layout, length - chain.done)
            beyond = length - end
            prefix.deltas = [{n: a[:, : max(0, a.shape[1] - beyond)] for n, a in held.items()}]
        while chain.done < end:
            stop = min(end, chain.done + BLOCK_TOKENS)
            if ended and stop == end and self.cache.holds(chain, end + 1):
                break  # drafts don't feed an answer's last token; an earlier run has
            rest = prefix.deltas
            if self._layout.window and stop < end:  # cut the delta where the block ends
                prefix.deltas = [{n: a[:, : max(0, a.shape[1] - (end - stop))] for n, a in rest[0].items()}]
            self._store(caches, prefix, stop)
            prefix.deltas = rest if stop < end else []
        if self._layout.stateful and ended and end == length:
            self.cache.put_state(chain.parent, kv_records.take_state(caches, self._layout))

    @costs_the_cache(None)
    def left(self, row: Row) -> None:
        """A row that ends during prefill: keep what is whole."""
        prefix = row.prefix
        row.prefix = None
        if prefix is None or prefix.reading is not None or row.cache is None or self._layout.stateful:
            return
        self._store(row.cache, prefix, row.request.course.prefilled)

    @costs_the_cache(None)
    def stored_features(self, row: Row, digest: str) -> mx.array | None:
        """A picture's features from disk."""
        stored = self.cache.features(digest) if self.cache is not None else None
        return None if stored is None else kv_records.features_in(stored)

    @costs_the_cache(None)
    def keep_features(self, row: Row, digest: str, features: mx.array) -> None:
        if self.cache is not None:
            self.cache.put_features(digest, kv_records.features_out(features))

    @costs_the_cache(None)
    def measured(self, row: Row, tokens: int, seconds: float) -> None:
        """A chunk's time."""
        self.rates.prefilled(tokens, seconds)
        if self.cache is not None and self.cache.ssd is not None:
            self.cache.ssd.note_rate(self.rates.per_token)

    def forget(self) -> None:
        """Empty the RAM tier; running rows keep what is theirs."""
        if self.cache is not None:
            self.cache.ram.clear()

    def close(self) -> None:
        try:
            if self.io is not None:
                self.io.shutdown(wait=True, cancel_futures=True)
            if self.cache is not None:
                self.cache.close()
        except Exception as error:
            self.guard.cache(error)


def _allocator(row: Row, layout: Layout) -> Any:
    """Memory for a restore from disk alone: the row's final arrays, which numpy writes into. Sliding windows are put
    together from what was read instead."""
    if layout.window:
        return None

    prefix = row.prefix
    assert prefix is not None

    def allocate(shapes: Mapping[str, tuple[Sequence[int], object]]) -> Any:
        prefix.room = Room(shapes, _capacity(row))
        return prefix.room

    return allocate


def _or_give_up(room: Room) -> None:
    """Whatever fails, before the room is made too, is told to those who wait for it."""
    try:
        make_room(room)
    except BaseException as error:
        room.give_up(error)
        raise


def make_room(room: Room) -> None:
    """Make a room; a fault reaches whoever waits for its arrays too."""
    try:
        room.make()
    except BaseException as error:
        room.give_up(error)
        raise


def _capacity(row: Row) -> int:
    """Tokens to make room for: the prompt and a beginning of the answer, in whole blocks."""
    wanted = row.request.prompt.tokens + min(row.request.max_tokens, 2 * BLOCK_TOKENS)
    return -(-wanted // BLOCK_TOKENS) * BLOCK_TOKENS
