"""What one engine drafts from, and whether it may: sources that rows share, and what followed a prompt before."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING

from ..cache import continuations
from ..models.width_proof import widest
from .drafts import Costs, RowDrafts, Source
from .guard import Guard
from .reuse import Reuse
from .row import Row
from .verify import MOST_TOKENS, Fed

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel

_BEFORE = 8  # tokens of the shared prefix that an earlier text keeps, so that its beginning is found
_OTHERS = 8  # answers of other requests that are looked through, the newest


class Drafting:
    """Engine thread only. A fault of it costs drafts, no request."""

    def __init__(self, model: LoadedModel, reuse: Reuse, guard: Guard, gap_s: float) -> None:
        """`gap_s`: what a step with drafts may take, which running rows and Ctrl-C wait for."""
        self._model, self._reuse, self._guard = model, reuse, guard
        self._rows, self._gap_s = model.rows, gap_s
        self.costs = Costs()
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
        if self.possible and row.request.wants.draft:
            row.drafts = RowDrafts(row.prompt.ids, self.costs, self.others, hint)

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

    def verified(self, fed: Fed, accepted: int) -> None:
        """The model has chosen `accepted` of a draft's tokens itself."""
        if fed.draft is None:
            return
        fed.draft.source.told(len(fed.tokens), accepted)
        fed.row.request.course.drafted += len(fed.tokens)

    def ended(self, row: Row) -> None:
        """Other rows may say what this one did."""
        self._looking.pop(row, None)
        if row.drafts is not None:
            self.others.texts = [*self.others.texts[1 - _OTHERS :], row.drafts.text]

    def drop(self) -> None:
        self._looking.clear()
        self.others.texts.clear()
