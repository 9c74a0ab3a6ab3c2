"""What the engine thread does in one round: admit, prefill, decode, and end what was cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineFaultError, RequestError
from ..types import FinishReason
from .budget import Need
from .keeper import Keeper
from .prefill import PrefillQueue
from .registry import Registry
from .request import Request
from .row import Row
from .runner import Advance, Runner
from .scheduler import Limits, Running, Waiting, admit, why_waiting

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel


class Stepper:
    """Engine thread only. A request has its row here from its admission to its end: it prefills, decodes, or was put
    aside for one that somebody waits for."""

    def __init__(
        self,
        model: LoadedModel,
        runner: Runner,
        held: Registry,
        limits: Limits,
        folder: Path | None,
        settle: Callable[[], None],
    ) -> None:
        """`folder` is where kernels tell each other what they hold; `settle` is called where they did."""
        self._runner, self._held, self._limits = runner, held, limits
        self._model = model
        self._shared_to = runner.rows.shared_to if runner.rows else 0
        self._prefill = PrefillQueue(runner.reuse.follow)
        self._parked: list[Row] = []
        self.keeper = Keeper(runner, held, lambda: list(self._prefill.rows), lambda: list(self._parked), folder, settle)
        self.waiting_for = ""
        self.stuck = False  # nothing runs, and what waits has no memory
        self.state = "idle"

    @property
    def _alone(self) -> bool:
        return bool(self._model.alone_because) or not self._model.family.batchable

    @property
    def busy(self) -> bool:
        return bool(self._prefill.rows or self._runner.batch.rows or self._parked)

    @property
    def prefilling(self) -> int:
        return len(self._prefill)

    def step(self) -> None:
        """One round; running rows get a token each."""
        self._drop_cancelled()
        self._admit()
        if self._prefill.rows:
            self.state = "prefill"
            self._prefill_for_a_while()
        if self._runner.batch.rows:
            self.state = "decode"
            self._decode()
        if not self.busy:
            self.keeper.promise(())

    # -- admission --------------------------------------------------------------------------

    def _admit(self) -> None:
        held = self._held
        with held.changed:
            ready = list(held.ready)
        rows = [*self._prefill.rows, *self._runner.batch.rows]
        needs = [row.request.prompt.need for row in rows]
        self.stuck = False
        if not (ready or self._parked):
            self.waiting_for = ""
            self.keeper.promise(needs)
            return
        wanted = {r.number: r.prompt.need for r in ready}
        wanted |= {row.request.number: self._rest(row) for row in self._parked}
        running = [Running(r.number, r.prompt.need.kv, self._runs_alone(r)) for r in (row.request for row in rows)]
        waiting = [Waiting(r.number, r.prompt.need.kv, self._runs_alone(r), r.flags.background) for r in ready]
        waiting += [Waiting(row.request.number, 0, self._runs_alone(row.request), True) for row in self._parked]
        aside = sum(row.request.prompt.need.kv for row in self._parked)

        def fits(numbers: list[int]) -> bool:
            return self.keeper.fits([*needs, *(wanted[number] for number in numbers)])

        chosen = set(admit(waiting, running, self._limits, aside, fits))
        if not self.keeper.promise([*needs, *(wanted[number] for number in chosen)]):
            chosen = set()
            self.keeper.promise(needs)
        for row in [row for row in self._parked if row.request.number in chosen]:
            self._parked.remove(row)
            self._guarded(row.request, partial(self._runner.batch.join, row))
        for request in [r for r in ready if r.number in chosen]:
            self._begin(request)
        left = sorted((r for r in ready if r.number not in chosen), key=lambda r: (r.flags.background, r.number))
        if chosen:
            self.keeper.waited()
        self._explain(left, len(rows) + len(chosen), any(r.alone for r in running), [wanted[n] for n in chosen] + needs)
        if left:
            self._make_room(left, bool(rows or chosen))

    @staticmethod
    def _rest(row: Row) -> Need:
        """What a row that was put aside takes besides what it has."""
        need = row.request.prompt.need
        return Need(max(0, need.kv - row.aside), 0)

    def _explain(self, left: list[Request], rows: int, alone: bool, needs: list[Need]) -> None:
        """Say why the first of those that wait does."""
        if not left:
            self.waiting_for = ""
            return
        need = left[0].prompt.need
        if alone or self._runs_alone(left[0]) or rows >= self._limits.max_rows or self.keeper.fits([*needs, need]):
            alone = alone or (rows > 0 and self._runs_alone(left[0]))
            self.waiting_for = why_waiting(rows, alone, self._limits, self._model.alone_because)
        else:
            self.waiting_for = self.keeper.why(needs, need)

    def _runs_alone(self, request: Request) -> bool:
        """Whether it can't share a decode step: its family can't, or it may grow longer than rows can be together."""
        return self._alone or bool(self._shared_to and request.longest > self._shared_to)

    def _begin(self, request: Request) -> None:
        held, errors = self._held, list[BaseException]()
        with held.guard.request(errors.append):
            request.course.admitted_at = time.monotonic()
            self._prefill.add(self._runner.begin(request))
        with held.changed:
            held.ready.remove(request)
        for error in errors:
            held.fail(request, error)

    def _make_room(self, left: list[Request], runs: bool) -> None:
        """For the first of `left`: rows that were put aside give their memory back, youngest first; where somebody
        waits for it, the youngest background row gives its place; where nothing runs, pictures of others that wait."""
        first = left[0]
        short = self.waiting_for.startswith("memory")
        if short and self._parked:
            self._drop(self._parked.pop(_youngest(self._parked)))
        elif not first.flags.background and runs:
            rows = [row for row in self._runner.batch.rows if row.request.flags.background]
            full = self.prefilling + len(self._runner.batch.rows) >= self._limits.max_rows
            if rows and not self._alone and (full or short):
                row = rows[_youngest(rows)]
                self._runner.batch.park(row)
                self._parked.append(row)
        elif not runs:
            self._wait_for_memory(first, left[1:])

    def _drop(self, row: Row) -> None:
        """A row that was put aside is computed again later, or restored as far as a tier has it."""
        self._guarded(row.request, lambda: self._runner.drop(row))
        if not row.request.ended:
            self._held.back(row.request)

    def _wait_for_memory(self, first: Request, others: list[Request]) -> None:
        """Nothing runs, so that nothing of this engine's will be given back by itself."""
        self.keeper.want(first.prompt.need)
        with_pictures = [r for r in others if self._held.pixels.of(r.number)]
        if with_pictures:
            self._held.unprepare(with_pictures)
            return
        self.stuck = True
        if not self.keeper.wait(first.prompt.need):
            with self._held.changed:
                self._held.ready.remove(first)
            self._held.fail(first, RequestError(f"{self.waiting_for}; unload their models, or set memory_mib."))
            self.keeper.waited()

    def _guarded(self, request: Request, do: Callable[[], object]) -> None:
        errors: list[BaseException] = []
        with self._held.guard.request(errors.append):
            do()
        for error in errors:
            self._held.fail(request, error)

    # -- prefill and decode -----------------------------------------------------------------

    def _prefill_for_a_while(self) -> None:
        """Pieces of prefill until running rows want their next token; short enough for Ctrl-C to act."""
        if self._alone and self._runner.batch.rows:
            return  # rows that were admitted together, before a fault let them run alone, wait for one another
        began, longest, tried = time.monotonic(), 0.0, set[Row]()
        while (row := self._prefill.next(tried)) is not None:
            at = time.monotonic()
            made = self._advance(row)
            now = time.monotonic()
            longest = max(longest, now - at)
            if made is Advance.WAITS:
                tried.add(row)
            elif made is Advance.JOINED or now - began + longest > self._runner.gap_s:
                return

    def _advance(self, row: Row) -> Advance:
        made, errors = Advance.JOINED, list[BaseException]()
        with self._held.guard.request(errors.append):
            made = self._runner.advance(row)
        if made is Advance.JOINED:
            self._prefill.remove(row)
        if errors and not (self._runner.switching.goes_whole(errors[0], row) and self._held.again(row.request)):
            self._held.fail(row.request, errors[0])
        return made

    def _decode(self) -> None:
        rows = len(self._runner.batch.rows)
        ended = set[Row]()  # a step may give a row several tokens; one of them may be its last
        for item in self._runner.decode():
            row, errors = item.row, list[BaseException]()
            if row in ended:
                continue
            end: tuple[FinishReason, str] | None = None
            with self._held.guard.request(errors.append):
                if item.error is not None:
                    raise item.error
                end = row.accept(item.token, item.logprob)
                if item.source:
                    row.request.course.taken_from(item.source)
            again = self._runner.switching.no_number(errors, rows)
            if errors or end is not None:
                ended.add(row)
                self._runner.leave(row)  # first: whoever waits for the answer finds the row free
            if errors and not (again and self._held.again(row.request)):
                self._held.fail(row.request, errors[0])
            elif end is not None and not errors:
                self._held.finish(row.request, *end)

    # -- ends -------------------------------------------------------------------------------

    def batch_fault(self, error: EngineFaultError) -> None:
        """End what runs; the next request begins a fresh batch. Rows that were together run alone from now on, those
        that said nothing yet anew."""
        concerned = self._held.take_concerned()
        again = self._runner.switching.goes_alone(error, len(self._runner.batch.rows))
        self._prefill.clear()
        self._parked = []
        self._runner.reset()
        for request in concerned:
            if not (again and self._held.again(request)):
                self._held.fail(request, error)

    def _drop_cancelled(self) -> None:
        for request in self._held.take_cancelled():
            self._held.finish(request, "cancelled")
        for row in [r for r in self._prefill.rows if r.request.flags.cancelled]:
            self._prefill.remove(row)
            self._runner.reuse.left(row)
            self._held.finish(row.request, "cancelled")
        for row in [r for r in [*self._runner.batch.rows, *self._parked] if r.request.flags.cancelled]:
            self._guarded(row.request, row.flush)
            if row in self._parked:
                self._parked.remove(row)
            else:
                self._runner.leave(row)
            self._held.finish(row.request, "cancelled")

    def flush(self) -> None:
        """Say what rows held back; the engine closes."""
        for row in [*self._prefill.clear(), *self._runner.batch.rows, *self._parked]:
            self._guarded(row.request, row.flush)
        self._parked = []


def _youngest(rows: list[Row]) -> int:
    return max(range(len(rows)), key=lambda at: rows[at].request.number)
