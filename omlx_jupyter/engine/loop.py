"""The engine thread: it loads the model, runs every forward pass and frees the model."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ..errors import EngineClosedError, EngineFaultError
from ..types import FinishReason
from .guard import release
from .process import Owner
from .registry import Registry
from .request import Request
from .row import Row
from .scheduler import Limits, Running, Waiting, admit, why_waiting
from .stats import EngineStats, snapshot

_log = logging.getLogger(__name__)
WORKERS = 4  # threads that fetch, decode and preprocess pictures


class EngineLoop:
    """Owns the thread. Other threads talk to it through `submit`, `wake` and `close`."""

    def __init__(self, load: Callable[[], Any], limits: Limits, make_runner: Callable[[Any, Limits], Any]) -> None:
        """`load` gives the model and `make_runner` its runner; both are called on the engine thread."""
        self._load, self._limits, self._make_runner = load, limits, make_runner
        self._owner = Owner()
        self._held = Registry()
        self._prefilling: list[Row] = []
        self._runner: Any = None
        self._forget = self._retired = False
        self._loaded = threading.Event()
        self._error: BaseException | None = None
        self._state = "loading"
        self._waiting_for = ""
        self._workers = ThreadPoolExecutor(WORKERS, "omlx-prepare")
        self.recent = self._held.recent
        self.model: Any = None
        self._thread = threading.Thread(target=self._run, name="omlx-engine", daemon=True)
        self._thread.start()

    # -- other threads ----------------------------------------------------------------------

    def wait_loaded(self, on_wait: Callable[[float], None] | None = None) -> Any:
        """The loaded model, or its error. Short waits, for Ctrl-C; `on_wait` gets the seconds so far."""
        started = time.monotonic()
        while not self._loaded.wait(0.05):
            if on_wait is not None:
                on_wait(time.monotonic() - started)
        if self._error is not None:
            raise self._error
        return self.model

    def submit(self, request: Request) -> None:
        """:raises EngineClosedError: the engine was closed, or is being closed by another thread.
        :raises ProcessError: this is a forked child; the engine lives in the parent.
        """
        self._owner.check()
        self._held.add(request)
        try:
            self._workers.submit(self._prepare, request).add_done_callback(lambda made: self._prepared(request, made))
        except RuntimeError:  # closed between the two: the request was never taken
            self._held.forget(request)
            raise EngineClosedError("the engine was closed; load a new one.") from None

    def wake(self) -> None:
        if self._owner.here:
            self._held.wake()

    @property
    def alive(self) -> bool:
        """Whether somebody will end the requests: False in a forked child, and once the thread has gone."""
        return self._owner.here and self._thread.is_alive()

    def retire(self) -> None:
        """Close when the last request has ended: nobody can send another."""
        self._retired = True
        self.wake()

    def forget(self) -> None:
        """Empty the RAM tier before the next step."""
        self._forget = True
        self.wake()

    def close(self, wait: bool = True) -> None:
        """End every request as cancelled, then the thread; frees the model. In a forked child: nothing."""
        if not self._owner.here:
            return
        self._held.closing = True
        self._held.wake()
        self._workers.shutdown(wait=False, cancel_futures=True)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    def stats(self) -> EngineStats:
        """:raises ProcessError: this is a forked child."""
        self._owner.check()
        counts = {**self._held.figures(), "prefilling": len(self._prefilling)}
        why = self._waiting_for if counts["waiting"] else ""
        return snapshot(self._state, self.model, self._runner, why, counts, self._held.guard)

    def requests(self) -> list[Request]:
        """Everything that isn't finished. Any thread."""
        self._owner.check()
        return self._held.listing()

    def _prepare(self, request: Request) -> None:
        """On a worker thread."""
        try:
            with self._held.guard.request(lambda error: self._held.fail(request, error)):
                if not (request.cancelled or self._held.closing):
                    self._runner.prepare(request)
            request.prepared_at = time.monotonic()
        finally:
            self._held.prepared(request)

    def _prepared(self, request: Request, made: Future[None]) -> None:
        """The worker's last word: also where it fell over before or after the boundary."""
        error = None if made.cancelled() else made.exception()
        if error is not None:
            self._held.withdraw(request, error)

    # -- the engine thread ------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.model = self._load()
            self._runner = self._make_runner(self.model, self._limits)
            self._limits = replace(self._limits, kv_bytes=self._runner.byte_limit)
            self._held.guard = self._runner.guard
        except BaseException as error:
            self._error = error
            self._state = "closed"
            self._held.closing = True
            if "mlx.core" in sys.modules:
                from .runner import end_thread

                end_thread()
            return
        finally:
            self._loaded.set()
        try:
            while self._wait_for_work():
                with self._held.guard.batch(self._batch_fault):
                    self._step()
        except BaseException as error:  # beyond the boundary: nobody may wait for ever
            _log.exception("the engine thread failed")
            self._error = error
        finally:
            self._shut_down()

    def _wait_for_work(self) -> bool:
        held = self._held
        with held.changed:
            while not (held.closing or self._forget or held.ready or self._prefilling or self._runner.batch.rows):
                if any(request.cancelled for request in held.preparing.values()):
                    break
                if self._retired and not held.open:
                    return False
                self._state = "idle"
                held.changed.wait()
            return not held.closing

    def _step(self) -> None:
        if self._forget:
            self._forget = False
            self._runner.forget()
        self._drop_cancelled()
        self._admit()
        if self._prefilling:
            self._state = "prefill"
            self._advance(self._prefilling[0])
        if self._runner.batch.rows:
            self._state = "decode"
            self._decode()

    def _admit(self) -> None:
        held = self._held
        with held.changed:
            ready = list(held.ready)
        if not ready:
            return
        alone = not self.model.family.batchable
        rows = [*self._prefilling, *self._runner.batch.rows]
        running = [Running(row.request.number, row.request.bytes_needed, alone) for row in rows]
        waiting = [Waiting(r.number, r.bytes_needed, alone) for r in ready]
        chosen = set(admit(waiting, running, self._limits))
        self._waiting_for = (
            why_waiting(len(running) + len(chosen), alone, self._limits) if len(chosen) < len(ready) else ""
        )
        for request in ready:
            if request.number in chosen:
                errors: list[BaseException] = []
                with held.guard.request(errors.append):
                    request.admitted_at = time.monotonic()
                    self._prefilling.append(self._runner.begin(request))
                with held.changed:
                    held.ready.remove(request)
                for error in errors:
                    held.fail(request, error)

    def _advance(self, row: Row) -> None:
        """One piece of a row's prefill; rows take turns, so that a short prompt needn't wait for a long one."""
        joined, errors = True, list[BaseException]()
        with self._held.guard.request(errors.append):
            joined = self._runner.advance(row)
        self._prefilling.remove(row)
        if not joined:
            self._prefilling.append(row)
        if errors:
            self._held.fail(row.request, errors[0])

    def _decode(self) -> None:
        for item in self._runner.decode():
            row, errors = item.row, list[BaseException]()
            end: tuple[FinishReason, str] | None = None
            with self._held.guard.request(errors.append):
                if item.error is not None:
                    raise item.error
                end = row.accept(item.token, item.logprob)
            if errors or end is not None:
                self._runner.leave(row)  # first: whoever waits for the answer finds the row free
            if errors:
                self._held.fail(row.request, errors[0])
            elif end is not None:
                self._held.finish(row.request, *end)

    def _batch_fault(self, error: EngineFaultError) -> None:
        """End what runs; the next request begins a fresh batch."""
        concerned = self._held.take_concerned()
        self._prefilling = []
        self._runner.reset()
        for request in concerned:
            self._held.fail(request, error)

    def _drop_cancelled(self) -> None:
        for request in self._held.take_cancelled():
            self._held.finish(request, "cancelled")
        for row in [r for r in self._prefilling if r.request.cancelled]:
            self._prefilling.remove(row)
            self._runner.reuse.left(row)
            self._held.finish(row.request, "cancelled")
        for row in [r for r in self._runner.batch.rows if r.request.cancelled]:
            errors: list[BaseException] = []
            with self._held.guard.request(errors.append):
                row.flush()
            self._runner.leave(row)
            for error in errors:
                self._held.fail(row.request, error)
            self._held.finish(row.request, "cancelled")

    def _shut_down(self) -> None:
        """End every request and free the model; what fails here is noted, and the rest goes on."""
        self._state = "closed"
        left = self._held.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        for row in [*self._prefilling, *self._runner.batch.rows]:
            with self._held.guard.request(lambda error, row=row: self._held.fail(row.request, error)):  # type: ignore[misc]
                row.flush()
        self._held.end_all(left, self._error)
        self._prefilling = []
        try:
            self._runner.close()
        except BaseException as error:
            _log.warning("the engine could not be put away cleanly", exc_info=error)
            release(error)
        self._runner = self.model = None
        gc.collect()
