"""The decode batch: one forward pass a step for every running row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from ..models.kv_state import MergedBatch, SingleRow
from ..models.row_store import RowStore, own_copies
from ..models.sampling import Chosen, choose, choose_ahead, finite_only
from ..types import TokenLogprob
from .guard import NotFiniteError
from .row import Row, Slot
from .verify import Fed, agreed

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel
    from .drafting import Drafting


@dataclass(frozen=True)
class Sampled:
    """A row's token of one step, or the error that its sampler raised."""

    row: Row
    token: int = -1
    logprob: TokenLogprob | None = None
    error: Exception | None = None
    source: str = ""  # of the draft that had said so


class DecodeBatch:
    """Rows in the order of their store. Step n + 1 is launched before step n's tokens are read."""

    def __init__(
        self,
        model: LoadedModel,
        new_store: Callable[[], RowStore | MergedBatch | SingleRow],
        drafting: Drafting | None = None,
    ) -> None:
        self._model, self._new_store, self._drafting = model, new_store, drafting
        self._store: RowStore | MergedBatch | SingleRow | None = None
        self.rows: list[Row] = []
        self._tokens: mx.array | None = None  # (rows,) the tokens to feed next
        self.steps = 0

    @property
    def _next(self) -> mx.array:
        assert self._tokens is not None
        return self._tokens

    @property
    def nbytes(self) -> int:
        return (self._store.nbytes if self._store else 0) + sum(row.heard_bytes for row in self.rows)

    def join(self, row: Row) -> None:
        """Move a prefilled row into the batch; modifies the row's cache."""
        assert row.cache is not None
        store = self._store if self._store is not None else self._new_store()
        tokens = self._next if self._store is not None else mx.zeros((0,), mx.int32)
        last = row.slot.token
        if last is None:
            last = mx.array([row.last_prompt_token], mx.int32)
        at = store.put(
            row.cache, row.fed or len(row.prompt.ids) - 1
        )  # from here on nothing can fail: a fault before leaves the batch as it was
        self._store, self._tokens = store, mx.concatenate([tokens[:at], last, tokens[at:]])
        self.rows.insert(at, row)
        row.cache = row.slot.token = None
        row.aside = 0
        for other in self.rows:
            other.request.course.peak_rows = max(other.request.course.peak_rows, len(self.rows))

    def length(self, row: Row) -> int:
        """Tokens whose KV the row holds, the step in flight included."""
        assert self._store is not None
        return self._store.length(self.rows.index(row))

    def row_caches(self, row: Row) -> list[Any]:
        """The row's caches as single-row ones, (1, heads, tokens, width): views, or copies where rows are merged."""
        assert self._store is not None
        return list(self._store.row(self.rows.index(row)))

    def park(self, row: Row) -> None:
        """Take a row out with all that it needs to `join` again later, and go on with the same tokens."""
        assert self._store is not None
        at = self.rows.index(row)
        row.cache, row.fed = own_copies(self._store.row(at)), self._store.length(at)
        row.slot.token, row.aside = self._next[at : at + 1], row.nbytes
        self.leave(row)

    def leave(self, row: Row) -> None:
        """Give the row's place up; the others keep their order."""
        at = self.rows.index(row)
        assert self._store is not None
        self._store.remove(at)
        del self.rows[at]
        if self.rows:
            self._tokens = mx.concatenate([self._next[:at], self._next[at + 1 :]])
        else:
            self.drop()

    def drop(self) -> None:
        """Give the batch's memory back."""
        self._store = self._tokens = None
        self.rows = []

    def step(self) -> list[Sampled]:
        """Feed one token per row, launch the next, and return the tokens that were ready.

        Where all rows are new, their first tokens are returned at once.
        """
        assert self._store is not None
        self._follow()
        fed = self._drafting.offered(self.rows, self._next) if self._drafting is not None else None
        if failed := [Sampled(row, error=row.failed) for row in self.rows if row.failed is not None]:
            return failed  # the others go on in the next step, without them
        return self._plain() if fed is None else self._verify(fed)

    def _plain(self) -> list[Sampled]:
        assert self._store is not None
        began, in_flight = time.perf_counter(), not any(row.last_known for row in self.rows)
        positions = self._positions([1] * len(self.rows))
        self._store.begin()
        logits, hidden = self._forward(self._next[:, None], positions)
        tokens, chosen = choose(logits, [row.sampler for row in self.rows])
        tokens = finite_only(tokens.astype(mx.int32), logits)
        mx.async_eval(tokens, *_lazy(chosen), *([] if hidden is None else [hidden]))
        first = all(row.slot.fresh for row in self.rows)
        ready = self._read()
        self._tokens = tokens
        for row, made in zip(self.rows, chosen, strict=True):
            row.slot = Slot(made, fresh=False, told=first)
        self._count_step()
        if self._drafting is not None:  # one in flight took as long as the step before needed
            self._drafting.stepped(self.rows, hidden, time.perf_counter() - began if in_flight else 0.0)
        return self._sampled(self.rows) if first else ready  # nobody waits for a first token through a second step

    def _forward(self, ids: mx.array, positions: mx.array | None) -> tuple[mx.array, mx.array | None]:
        """Logits (tokens, V) of the rows' next tokens, and what a drafter hears of the pass."""
        assert self._store is not None
        caches = self._store.caches
        if self._drafting is None:
            return self._model.forward(ids, caches, None, positions)[:, -1], None
        logits, hidden = self._drafting.forward(self.rows, ids, caches, None, positions)
        return logits[:, -1], hidden

    def _follow(self) -> None:
        """Guides that wait need their row's last token on the host first: no overlap while there are any."""
        bound = [(at, row) for at, row in enumerate(self.rows) if not row.slot.fresh and row.waits_for_guide]
        if not bound:
            return
        values: Any = self._next.tolist()
        for at, row in bound:
            row.follow_to(values[at])

    def _positions(self, widths: Sequence[int]) -> mx.array | None:
        """Of the next tokens, `widths` of each row."""
        if not self._model.family.mrope:
            return None
        assert self._store is not None
        starts = [self._store.length(i) + row.delta for i, row in enumerate(self.rows)]
        at = [start + i for start, width in zip(starts, widths, strict=True) for i in range(width)]
        return mx.array(np.broadcast_to(np.array(at, np.int32)[None, :, None], (3, len(at), 1)))

    # -- drafts -----------------------------------------------------------------------------

    def _verify(self, fed: list[Fed]) -> list[Sampled]:
        """Feed drafts, and return what was ready and what the model says to them."""
        assert isinstance(self._store, RowStore)
        assert self._drafting is not None
        ready = self._read()
        began, widths = time.perf_counter(), [1 + len(f.tokens) for f in fed]
        positions = self._positions(widths)
        self._store.begin(widths)
        ids = mx.array([token for f in fed for token in (f.last, *f.tokens)])
        logits, hidden = self._forward(ids[:, None], positions)
        tokens, chosen = choose_ahead(logits, [f.row.sampler for f in fed], [f.tokens for f in fed])
        tokens = finite_only(tokens, logits)
        mx.eval(tokens, *_lazy(c for made in chosen for c in made), *([] if hidden is None else [hidden]))
        values, at = [int(token) for token in np.array(tokens)], 0
        kept: list[int] = []
        counts: list[int] = []
        said: list[Sampled] = []
        for place, (f, width, made) in enumerate(zip(fed, widths, chosen, strict=True)):
            mine = values[at : at + width]
            count = agreed(f, mine, made)
            self._store.shorten(place, width - 1 - count)
            f.row.sampler.took(mine[: count + 1])
            counts.append(count)
            sources = [*[f.source] * count, ""]
            said += [sampled_of(f.row, *said_so) for said_so in zip(mine, made, sources, strict=False)]
            f.row.slot = Slot(made[count], fresh=False, told=True)
            kept.append(mine[count])
            at += width
        self._drafting.checked(fed, hidden, counts, time.perf_counter() - began)
        self._tokens = mx.array(kept, mx.int32)
        self._count_step()
        return [*ready, *said]

    def _count_step(self) -> None:
        self.steps += 1
        for row in self.rows:
            row.request.course.steps += 1

    def _read(self) -> list[Sampled]:
        return self._sampled([row for row in self.rows if not (row.slot.fresh or row.slot.told)])

    def _sampled(self, rows: Sequence[Row]) -> list[Sampled]:
        if not rows:
            return []
        values: Any = self._next.tolist()
        wanted = set(rows)
        return [sampled_of(row, values[at], row.slot.chosen) for at, row in enumerate(self.rows) if row in wanted]


class Aside:
    """Rows that were put aside, looked at as a batch's."""

    def length(self, row: Row) -> int:
        return row.fed

    def row_caches(self, row: Row) -> list[Any]:
        return list(row.cache or ())


def _lazy(chosen: Iterable[Chosen | Exception | None]) -> list[mx.array]:
    """What is read on the host besides the tokens."""
    parts = [c for made in chosen if isinstance(made, Chosen) for c in (made.logprob, made.top_logprobs, made.top_ids)]
    return [part for part in parts if part is not None]


def sampled_of(row: Row, token: int, chosen: Chosen | Exception | None, source: str = "") -> Sampled:
    """A row's token, or its sampler's error."""
    if token < 0:
        return Sampled(row, error=NotFiniteError())
    if isinstance(chosen, Exception):
        return Sampled(row, error=chosen)
    return Sampled(row, token, _logprob(token, chosen), source=source)


def _logprob(token: int, chosen: Chosen | None) -> TokenLogprob | None:
    if chosen is None or chosen.logprob is None:
        return None
    logprob = float(np.array(chosen.logprob))
    if chosen.top_ids is None or chosen.top_logprobs is None:
        return TokenLogprob(token, logprob)
    top = zip(np.array(chosen.top_ids).tolist(), np.array(chosen.top_logprobs).tolist(), strict=True)
    return TokenLogprob(token, logprob, tuple(top))
