"""What one engine drafts from, and whether it may: sources that rows share, and what followed a prompt before."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..cache import continuations
from ..models.width_proof import widest
from .drafter import DrafterSource
from .drafts import Costs, RowDrafts, Source
from .guard import Guard
from .reuse import Reuse
from .row import Row
from .verify import MOST_TOKENS, Fed, settle

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel
    from ..models.shapes import Layer

_BEFORE = 8  # tokens of the shared prefix that an earlier text keeps, so that its beginning is found
_OTHERS = 8  # answers of other requests that are looked through, the newest


class Drafting:
    """Engine thread only. A fault of it costs drafts, no request."""

    def __init__(self, model: LoadedModel, reuse: Reuse, guard: Guard, gap_s: float) -> None:
        """`gap_s`: what a step with drafts may take, which running rows and Ctrl-C wait for."""
        self._model, self._reuse, self._guard = model, reuse, guard
        self._rows, self._gap_s = model.rows, gap_s
        self.costs = Costs()
        self.drafter = DrafterSource(model.drafter, self.costs) if model.drafter is not None else None
        self.others = Source("other answers", 0.5, 1.0)
        self._looking: dict[Row, tuple[list[int], Future[list[list[int]]]]] = {}

    @property
    def possible(self) -> bool:
        """Whether rows own their KV, so that a draft that was refused can be forgotten."""
        return self._rows is not None and self._rows.grouping.handles and not self._model.alone_because

    @property
    def most_tokens(self) -> int:
        """Tokens that a step may have now."""
        return self.costs.within(self._gap_s, MOST_TOKENS)

    @cached_property
    def widest(self) -> int:
        """Tokens of one row that a step may take; found at the first draft."""
        assert self._rows is not None
        try:
            known = self._model.remembered.get("widest")
            if not isinstance(known, int) or not 1 <= known <= MOST_TOKENS:
                known = widest(self._model, self._rows.grouping)
                self._model.remembered.put("widest", known)
            return known
        except Exception as error:
            self._guard.cache(error)
            return 1

    def begin(self, row: Row, hint: Sequence[int]) -> None:
        bound = self._rows.shared_to if self._rows else 0
        if self.possible and row.request.wants.draft and not (bound and row.request.longest > bound):
            row.drafts = RowDrafts(row.prompt.ids, self.costs, self.others, hint)
            if self.drafter is not None:
                self.drafter.begin(row)

    def look(self, row: Row) -> None:
        """The row's prefix is restored: begin to collect what followed it before."""
        cache, prefix = self._reuse.cache, row.prefix
        if row.drafts is None or cache is None or prefix is None or not prefix.plan.length:
            return
        try:
            parent, done = prefix.chain.parent, prefix.chain.done
            before = row.prompt.ids[max(0, done - _BEFORE) : done]
            found = continuations.in_ram(cache.ram, parent)
            if found or cache.ssd is None or self._reuse.io is None:
                self._know(row, before, found)
            else:
                self._looking[row] = before, self._reuse.io.submit(continuations.on_disk, cache.ssd, parent)
        except Exception as error:
            self._guard.cache(error)

    def poll(self) -> None:
        """Take in what was found on disk."""
        for row, (before, future) in list(self._looking.items()):
            if future.done():
                del self._looking[row]
                try:
                    self._know(row, before, future.result())
                except Exception as error:
                    self._guard.cache(error)

    @staticmethod
    def _know(row: Row, before: list[int], found: list[list[int]]) -> None:
        if row.drafts is not None:
            for tokens in reversed(found):  # the newest is tried first
                row.drafts.know([*before, *tokens])

    # -- steps ------------------------------------------------------------------------------

    def forward(
        self, rows: Sequence[Row], ids: mx.array, caches: list[Layer], *more: mx.array | None
    ) -> tuple[mx.array, mx.array | None]:
        """The model's logits, and the hidden states that a drafter wants of the same pass."""
        if self.drafter is None:
            return self._model.forward(ids, caches, *more), None
        return self.drafter.forward(self._model, rows, ids, caches, *more)

    def offered(self, rows: Sequence[Row], tokens: mx.array) -> list[Fed] | None:
        """What each row is fed where one has a draft worth trying, else None. `tokens` (rows,), to be fed next, are
        read only if so."""
        if not self.possible or not any(row.drafts for row in rows):
            return None
        drafts = [row.offer(self.widest) for row in rows]
        guided = any(row.drafts and not row.last_known and row.waits_for_guide for row in rows)
        asks = self.drafter is not None and self.drafter.wants(rows)
        if not (guided or asks or any(drafts)):
            return None
        values = [int(token) for token in np.array(tokens)]
        if guided:  # their tokens are read at each step anyhow
            drafts = [o or row.offer(self.widest, v) for row, o, v in zip(rows, drafts, values, strict=True)]
        fed = settle(rows, drafts, values, self.widest, self.most_tokens)
        if asks and self.drafter is not None:
            fed = self.drafter.improve(fed, self.widest, self.most_tokens)
        if not any(f.draft for f in fed):
            return None
        for f in fed:
            f.row.follow_to(f.last)
        return fed

    def prefilled(self, row: Row, hidden: mx.array | None, seconds: float) -> None:
        """A piece of the row's prompt took `seconds`; `hidden` is what a drafter heard of it."""
        if self.drafter is not None:
            self.drafter.prefilled(row, hidden, seconds)

    def stepped(self, rows: Sequence[Row], hidden: mx.array | None, seconds: float) -> None:
        """A step without drafts. `seconds` is 0 where it doesn't say what such a step takes."""
        if seconds:
            self.costs.narrow(len(rows), seconds)
        if self.drafter is not None:
            if seconds:
                self.drafter.balance.measured()
            if seconds and any(row.drafts for row in rows):
                self.drafter.balance.without(len(rows), seconds)
            self.drafter.fed(rows, hidden, [1] * len(rows), [1] * len(rows))

    def checked(self, fed: Sequence[Fed], hidden: mx.array | None, counts: Sequence[int], seconds: float) -> None:
        """A step with drafts, of which the model chose the first `counts` tokens itself."""
        widths = [1 + len(f.tokens) for f in fed]
        for f, count in zip(fed, counts, strict=True):
            self.verified(f, count)
        self.costs.drafted(len(fed), sum(widths), seconds)
        if self.drafter is not None:
            self.drafter.fed([f.row for f in fed], hidden, widths, [1 + count for count in counts])
            self.drafter.stepped(len(fed), len(fed) + sum(counts), seconds)

    def verified(self, fed: Fed, accepted: int) -> None:
        """The model has chosen `accepted` of a draft's tokens itself."""
        if fed.draft is None:
            return
        fed.draft.source.told(len(fed.tokens), accepted)
        fed.row.request.course.drafted += len(fed.tokens)

    def ended(self, row: Row) -> None:
        """Other rows may say what this one did."""
        self._looking.pop(row, None)
        row.heard = None
        if row.drafts is not None:
            self.others.texts = [*self.others.texts[1 - _OTHERS :], row.drafts.text]

    def drop(self) -> None:
        self._looking.clear()
        self.others.texts.clear()
