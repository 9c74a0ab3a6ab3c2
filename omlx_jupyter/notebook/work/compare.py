"""The same asked of several models: each answers on a thread of its own, as far as memory allows at once."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...errors import EngineFaultError, OmlxError, RequestError
from ..answers.compare_view import Column
from ..answers.comparison import Comparison
from ..answers.result import Failure, Result
from ..answers.thoughts import Heard
from ..answers.view import phase_line
from ..plain import bar, tell
from . import run, session
from .many import AHEAD
from .sides import Plan, Side, Where

if TYPE_CHECKING:
    from ...engine.front import Front

_log = logging.getLogger("omlx_jupyter")
_TICK_S = 0.02
_ENDS_S = 12.0  # for what has to end after an interrupt
_CONNECTS_S = 0.2
_NEVER = "it was stopped before it answered."
_load_lock = threading.Lock()  # one at a time reads its weights


class _Stopped(Exception):
    """Ends a loading that nobody waits for any more."""


class Answering:
    """One side at work. Its thread alone writes; others read."""

    def __init__(self, side: Side, asks: Sequence[run.Ask], stop: threading.Event) -> None:
        self.side = side
        self.made: list[Result | Failure | None] = [None] * len(asks)
        self._asks, self._stop = asks, stop
        self._heard = [Heard() for _ in asks]
        self._handles: dict[int, Any] = {}
        self._first: Any = None  # the handle of the first row, which a cell shows
        self._phase = "waits for its turn …"
        self._thread = threading.Thread(target=self._run, name="omlx-compare", daemon=True)

    def start(self) -> None:
        self._phase = "connecting …" if self.side.where is Where.SERVER else "loading …"
        self._thread.start()

    @property
    def ended(self) -> bool:
        return self._thread.ident is not None and not self._thread.is_alive()

    def join(self) -> None:
        """After a stop: wait for what it has to keep. A server that doesn't answer is left to itself."""
        if self._thread.ident is not None:
            connects = self.side.where is Where.SERVER and self._first is None
            self._thread.join(_CONNECTS_S if connects else _ENDS_S)

    @property
    def column(self) -> Column:
        """How far the first row is."""
        heard, said = self._heard[0], self.made[0]
        if isinstance(said, Failure):
            return Column(self.side.name, "", f"failed: {said.error}")
        if said is not None:
            return Column(self.side.name, said.text, said.figures(), said.thought)
        handle = self._first
        if handle is None:
            return Column(self.side.name, "", self._phase)
        usage, thought = handle.usage, heard.thought(handle.usage.reasoning_tokens)
        return Column(self.side.name, heard.text, phase_line(handle.progress, usage, thought.running), thought)

    def _run(self) -> None:
        try:
            if self.side.error is not None:
                raise self.side.error
            with self._engine() as engine:
                self._ask(engine)
        except (OmlxError, UsageError) as error:
            self._fail(error)
        except _Stopped:
            pass
        except Exception as error:
            _log.warning("a side of a comparison failed", exc_info=True)
            self._fail(EngineFaultError(f"it failed ({type(error).__name__}); see the log."))
        self._fail(RequestError(_NEVER))

    def _fail(self, error: Exception) -> None:
        """For all rows that have no answer."""
        self.made[:] = [Failure(error, self.side.name) if made is None else made for made in self.made]

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Front | None]:
        """Its engine, closed after; None is the kernel's."""
        if self.side.where is Where.KERNEL:
            yield None
            return
        if self.side.where is Where.SERVER:
            made = self.side.open(self._wait)
        else:
            with self._turn_to_load():
                made = self.side.open(self._wait)
        with made:
            yield made

    @contextlib.contextmanager
    def _turn_to_load(self) -> Iterator[None]:
        while not _load_lock.acquire(timeout=_TICK_S):
            self._wait(0, 0)
        try:
            yield
        finally:
            _load_lock.release()

    def _wait(self, seconds: float, share: float) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._phase = f"{bar(share)} loading … {100 * share:.0f} %" if share else "loading …"

    def _ask(self, engine: Front | None) -> None:
        """Put all rows to the engine, some at a time."""
        waiting = list(enumerate(self._asks))
        while (waiting or self._handles) and not self._stop.is_set():
            while waiting and len(self._handles) < AHEAD:
                self._begin(engine, *waiting.pop(0))
            for row in list(self._handles):
                self._hear(engine, row)
            self._stop.wait(_TICK_S)
        for handle in self._handles.values():
            handle.cancel()
        for row, handle in self._handles.items():
            self.made[row] = run.partial_of(handle, self._asks[row], self._heard[row].thought_s, engine)

    def _begin(self, engine: Front | None, row: int, ask: run.Ask) -> None:
        try:
            begin = partial(run.begin, ask)
            self._handles[row] = session.submit(begin) if engine is None else begin(engine)
            self._first = self._handles[row] if not row else self._first
        except (OmlxError, UsageError) as error:
            self.made[row] = Failure(error, self.side.name)

    def _hear(self, engine: Front | None, row: int) -> None:
        handle, heard = self._handles[row], self._heard[row]
        pieces, ended = handle.poll(0)
        heard.take(pieces)
        if ended:
            del self._handles[row]
            try:
                self.made[row] = run.result_of(handle, self._asks[row], heard.thought_s, engine)
            except OmlxError as error:
                self.made[row] = Failure(error, self.side.name)


def compare(plan: Plan, asks: Sequence[run.Ask], show: Callable[[list[Answering]], None]) -> list[Comparison]:
    """Ask each side each of `asks`; a comparison for each of these. `show` is called while they answer.

    A side that fails has its error in its place; the kernel's engine is what it was afterwards.

    :raises Interrupted: with the list of what came until then.
    """
    stop = threading.Event()
    every = {id(side): Answering(side, asks, stop) for side in plan.sides}
    stopped, away = False, None
    try:
        for turn in plan.turns:
            if away is None and plan.away and any(side.where is Where.BESIDE for side in turn):
                away = session.current_engine()
                session.unload()
            _watch([every[id(side)] for side in turn], lambda: show(list(every.values())), stop)
    except KeyboardInterrupt:
        stopped = True
    finally:
        if away is not None:
            _load_again(away)
    made = [_comparison(list(every.values()), row, ask) for row, ask in enumerate(asks)]
    if stopped:
        raise run.Interrupted(made, "Interrupted: what came is kept in _")
    return made


def _load_again(away: Front) -> None:
    try:
        session.engine(away.name, drafter=away.drafter)
    except OmlxError as error:
        tell(f"Note: {away.name} could not be loaded again: {error}", error=True)


def _comparison(every: Sequence[Answering], row: int, ask: run.Ask) -> Comparison:
    never = RequestError(_NEVER)
    by_name = {one.side.name: one.made[row] or Failure(never, one.side.name) for one in every}
    return Comparison(by_name, ask.sampling.json_schema is not None)


def _watch(turn: Sequence[Answering], show: Callable[[], None], stop: threading.Event) -> None:
    """Until all of a turn have ended, or an interrupt; then what came is there, too."""
    try:
        for one in turn:
            one.start()
        while not all(one.ended for one in turn):
            show()
            time.sleep(_TICK_S)
        show()
    finally:
        if not all(one.ended for one in turn):
            stop.set()
            for one in turn:
                one.join()
