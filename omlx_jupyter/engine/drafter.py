"""A drafter model as a source of drafts: asked while it saves time by its own measure, switched off where it fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from .drafts import Costs, Draft, Source
from .guard import release
from .row import Row
from .verify import Fed

if TYPE_CHECKING:
    from ..models.drafter import Drafter, Heard
    from ..models.loaded import LoadedModel
    from ..models.shapes import Layer

_SHARE = 0.02  # of the time without it that it may cost where it doesn't pay
_CREDIT = 8  # steps that it may cost before anything is known
_MOST = 16  # steps saved, or lost, that count for later
_MEASURE = 128  # steps with it before it is compared anew with steps without
_log = logging.getLogger(__name__)


class Balance:
    """Seconds that the drafter may still cost: it earns what its steps save, and a small share of all others.

    So it is asked while it pays, and now and then where it doesn't, for a bounded price.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self.seconds, self._begun, self._since = 0.0, False, 0

    def open(self, rows: int) -> bool:
        """Whether the drafter may be asked in a step of so many rows. Not before one without it was measured."""
        return rows in self._costs.by_rows and self._since < _MEASURE and self.seconds > 0

    @property
    def worth_following(self) -> bool:
        """Whether a new row's hidden states should be read."""
        return not self._begun or self.seconds > 0

    def measured(self) -> None:
        """What a step without the drafter takes is known anew."""
        self._since = 0

    def without(self, rows: int, seconds: float) -> None:
        """A step, or a piece of prefill (0 rows), of rows that take drafts went without the drafter."""
        if rows and not self._begun:
            self._begun = True
            self.seconds += _CREDIT * seconds
        self.seconds += _SHARE * seconds

    def read(self, seconds: float) -> None:
        """It read hidden states for so long."""
        self.seconds -= seconds

    def with_it(self, rows: int, said: int, seconds: float) -> None:
        """A step with its drafts gave `said` tokens to so many rows, its own time included."""
        narrow = self._costs.by_rows[rows]
        made = self.seconds + narrow * said / rows - seconds
        self.seconds = max(-_MOST * narrow, min(_MOST * narrow, made))  # also where the machine stalled once
        self._since += 1


class DrafterSource:
    """Engine thread only. A fault costs the drafter, no request."""

    def __init__(self, drafter: Drafter, costs: Costs) -> None:
        self._drafter: Drafter | None = drafter
        self._costs = costs
        self.balance = Balance(costs)
        self.source = Source("drafter", 1.0, 0.5)
        self.name, self.why = drafter.name, ""
        self._row_s = 0.0  # what one row's draft takes
        self._draft_s = 0.0  # of the step being made

    def off(self, rows: Sequence[Row], error: BaseException) -> None:
        """Go on without it, and tell the answers that run."""
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self.why = f"the drafter {self.name} failed ({told}) and was switched off; answers go on without it"
        self._drafter = None
        for row in rows:
            row.heard = None
            row.request.prompt.notes.append(self.why)
        _log.warning(self.why)
        release(error)

    # -- hidden states ----------------------------------------------------------------------

    def begin(self, row: Row) -> None:
        """Follow a row whose prefill begins; what was restored of its prompt can't be heard any more."""
        row.heard = self._drafter.hear() if self._drafter is not None and self.balance.worth_following else None

    def forward(
        self, model: LoadedModel, rows: Sequence[Row], ids: mx.array, caches: list[Layer], *more: mx.array | None
    ) -> tuple[mx.array, mx.array | None]:
        """The model's logits, and what its layers put out in the same pass where a row is followed."""
        drafter = self._drafter
        if drafter is None or not any(row.heard for row in rows):
            return model.forward(ids, caches, *more), None
        drafter.taps.open()
        try:
            logits = model.forward(ids, caches, *more)
        finally:
            hidden = drafter.taps.close()
        return logits, hidden

    def prefilled(self, row: Row, hidden: mx.array | None, seconds: float) -> None:
        """A piece of the prompt took `seconds`; `hidden` (1, n, width) are its states."""
        if row.drafts is not None:
            self.balance.without(0, seconds)
        if hidden is None or row.heard is None or self._drafter is None:
            return
        began = time.perf_counter()
        try:
            self._drafter.take(row.heard, hidden)
            self._drafter.read(row.heard)
        except Exception as error:
            self.off([row], error)
        self.balance.read(time.perf_counter() - began)

    def fed(self, rows: Sequence[Row], hidden: mx.array | None, widths: Sequence[int], kept: Sequence[int]) -> None:
        """A step fed `widths` tokens a row, of which the first `kept` stand; `hidden` is (tokens, 1, width)."""
        if hidden is None or self._drafter is None:
            return
        at = 0
        try:
            for row, width, stand in zip(rows, widths, kept, strict=True):
                if row.heard is not None:
                    self._drafter.take(row.heard, hidden[at : at + stand].swapaxes(0, 1))
                at += width
        except Exception as error:
            self.off(rows, error)

    # -- drafts -----------------------------------------------------------------------------

    def wants(self, rows: Sequence[Row]) -> bool:
        """Whether it may be asked in the next step. Then the rows' last tokens have to be read first."""
        self._draft_s = 0.0
        return self._drafter is not None and any(row.heard for row in rows) and self.balance.open(len(rows))

    def improve(self, fed: list[Fed], widest: int, most: int) -> list[Fed]:
        """Its drafts where they promise more than the others', so that the step has at most `most` tokens."""
        drafter = self._drafter
        assert drafter is not None
        left = most - sum(1 + len(f.tokens) for f in fed)
        asked: dict[int, tuple[Heard, int, float]] = {}
        extra = self._row_s / self._costs.by_rows[len(fed)]
        for at, f in enumerate(fed):
            room = min(drafter.widest, f.row.draft_room(widest), left + len(f.tokens))
            heard = f.row.heard
            if heard is None or not heard.tokens or room < 1:
                continue
            width, gain = self.source.promise(0, room, self._costs, 0.0, extra)
            if f.draft is None or gain > f.draft.gain:
                asked[at] = heard, width, gain
                left -= width - len(f.tokens)
        if not asked:
            return fed
        began = time.perf_counter()
        try:
            made = drafter.draft([(heard, fed[at].last, width) for at, (heard, width, _) in asked.items()])
        except Exception as error:
            self.off([f.row for f in fed], error)
            return fed
        self._draft_s = time.perf_counter() - began
        each = self._draft_s / len(asked)
        self._row_s = 0.8 * self._row_s + 0.2 * each if self._row_s else each
        fed = list(fed)
        for (at, (_, _, gain)), tokens in zip(asked.items(), made, strict=True):
            fed[at] = replace(fed[at], draft=Draft(tokens, self.source, gain))
        return fed

    def stepped(self, rows: int, said: int, seconds: float) -> None:
        """A step with drafts took `seconds` beside the drafter's own time and gave `said` tokens."""
        if self._draft_s:
            self.balance.with_it(rows, said, seconds + self._draft_s)
