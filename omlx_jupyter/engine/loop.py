"""The engine thread: it loads the model, runs every forward pass and frees the model."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ..errors import EngineClosedError, EngineFaultError, OmlxError
from ..types import FinishReason
from .guard import Guard, release
from .lanes import Finished, finished_of
from .process import Owner
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
        self._changed = threading.Condition()
        self._open: dict[int, Request] = {}  # every request that hasn't ended, wherever it is
        self._preparing: dict[int, Request] = {}
        self._ready: list[Request] = []  # prepared, waiting for a row
        self._prefilling: list[Row] = []
        self._runner: Any = None
        self._closing = self._forget = self._retired = False
        self._guard = Guard()
        self._counts = dict.fromkeys(
            ("finished", "failed", "cancelled", "prompt_tokens", "completion_tokens", "images_reused"), 0
        )
        self._loaded = threading.Event()
        self._error: BaseException | None = None
        self._state = "loading"
        self._waiting_for = ""
        self._workers = ThreadPoolExecutor(WORKERS, "omlx-prepare")
        self.recent: deque[Finished] = deque(maxlen=12)
        self.model: Any = None
        self._thread = threading.Thread(target=self._run, name="omlx-engine", daemon=True)
        self._thread.start()

    # -- other threads ----------------------------------------------------------------------

    def wait_loaded(self, on_wait: Callable[[float], None] | None = None) -> Any:
        """The loaded model. Short waits, so that Ctrl-C gets through; `on_wait` gets the seconds so far.

        :raises OmlxError: loading failed.
        """
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
        with self._changed:
            if self._closing:
                raise EngineClosedError("the engine was closed; load a new one.")
            self._preparing[request.number] = self._open[request.number] = request
        try:
            self._workers.submit(self._prepare, request).add_done_callback(lambda made: self._prepared(request, made))
        except RuntimeError:  # closed between the two: the request was never taken
            self._forget_request(request)
            raise EngineClosedError("the engine was closed; load a new one.") from None

    def wake(self) -> None:
        if self._owner.here:
            with self._changed:
                self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """Whether somebody will end the requests: False in a forked child, and once the thread has gone."""
        return self._owner.here and self._thread.is_alive()

    def retire(self) -> None:
        """Close when the last request has ended: nobody can send another."""
        if self._owner.here:
            with self._changed:
                self._retired = True
                self._changed.notify_all()

    def _forget_request(self, request: Request) -> None:
        with self._changed:
            self._preparing.pop(request.number, None)
            self._open.pop(request.number, None)

    def forget(self) -> None:
        """Empty the RAM tier before the next step."""
        self._forget = True
        self.wake()

    def close(self, wait: bool = True) -> None:
        """End every request as cancelled, then the thread; frees the model. In a forked child: nothing."""
        if not self._owner.here:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._workers.shutdown(wait=False, cancel_futures=True)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    def stats(self) -> EngineStats:
        """:raises ProcessError: this is a forked child."""
        self._owner.check()
        with self._changed:
            now = {"preparing": self._preparing, "waiting": self._ready, "prefilling": self._prefilling}
            counts = {name: len(held) for name, held in now.items()} | self._counts
            seen = self._state, self.model, self._runner, self._waiting_for if self._ready else "", counts, self._guard
        return snapshot(*seen)  # asks the disk: not while the engine thread waits for the lock

    def requests(self) -> list[Request]:
        """Everything that isn't finished. Any thread."""
        self._owner.check()
        with self._changed:
            return list(self._open.values())

    def _prepare(self, request: Request) -> None:
        """On a worker thread."""
        try:
            with self._guard.request(lambda error: self._fail(request, error)):
                if not (request.cancelled or self._closing):
                    self._runner.prepare(request)
            request.prepared_at = time.monotonic()
        finally:
            with self._changed:
                taken = self._preparing.pop(request.number, None) is None  # cancelled or closed meanwhile
                if not (request.ended or taken):
                    self._ready.append(request)
                self._changed.notify_all()

    def _prepared(self, request: Request, made: Future[None]) -> None:
        """The worker's last word: also where it fell over before or after the boundary."""
        error = None if made.cancelled() else made.exception()
        if error is not None:
            with self._changed:
                self._preparing.pop(request.number, None)
                self._ready = [r for r in self._ready if r is not request]
            self._fail(request, error)

    # -- the engine thread ------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.model = self._load()
            self._runner = self._make_runner(self.model, self._limits)
            self._limits = replace(self._limits, kv_bytes=self._runner.byte_limit)
            self._guard = self._runner.guard
        except BaseException as error:
            self._error = error
            self._state = "closed"
            self._closing = True
            if "mlx.core" in sys.modules:
                from .runner import end_thread

                end_thread()
            return
        finally:
            self._loaded.set()
        try:
            while self._wait_for_work():
                with self._guard.batch(self._batch_fault):
                    self._step()
        except BaseException as error:  # beyond the boundary: nobody may wait for ever
            _log.exception("the engine thread failed")
            self._error = error
        finally:
            self._shut_down()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._closing or self._forget or self._ready or self._prefilling or self._runner.batch.rows):
                if any(request.cancelled for request in self._preparing.values()):
                    break
                if self._retired and not self._open:
                    return False
                self._state = "idle"
                self._changed.wait()
            return not self._closing

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
        with self._changed:
            ready = list(self._ready)
        if not ready:
            return
        alone = not self.model.family.batchable
        running = [
            Running(row.request.number, row.request.bytes_needed, alone)
            for row in [*self._prefilling, *self._runner.batch.rows]
        ]
        waiting = [Waiting(r.number, r.bytes_needed, alone) for r in ready]
        chosen = set(admit(waiting, running, self._limits))
        self._waiting_for = (
            why_waiting(len(running) + len(chosen), alone, self._limits) if len(chosen) < len(ready) else ""
        )
        for request in ready:
            if request.number in chosen:
                with self._guard.request(lambda error, request=request: self._fail(request, error)):  # type: ignore[misc]
                    request.admitted_at = time.monotonic()
                    self._prefilling.append(self._runner.begin(request))
                with self._changed:
                    self._ready.remove(request)

    def _advance(self, row: Row) -> None:
        """One piece of a row's prefill; rows take turns, so that a short prompt needn't wait for a long one."""
        joined = True
        with self._guard.request(lambda error: self._fail(row.request, error)):
            joined = self._runner.advance(row)
        self._prefilling.remove(row)
        if not joined:
            self._prefilling.append(row)

    def _decode(self) -> None:
        for item in self._runner.decode():
            row, errors = item.row, list[BaseException]()
            end: tuple[FinishReason, str] | None = None
            with self._guard.request(errors.append):
                if item.error is not None:
                    raise item.error
                end = row.accept(item.token, item.logprob)
            if errors or end is not None:
                self._runner.leave(row)  # first: whoever waits for the answer finds the row free
            if errors:
                self._fail(row.request, errors[0])
            elif end is not None:
                self._finish(row.request, *end)

    def _batch_fault(self, error: EngineFaultError) -> None:
        """End what runs; where nothing ran, what waits, so that a fault can't repeat without end."""
        with self._changed:
            held = {r.number for r in [*self._preparing.values(), *self._ready]}
            running = [r for r in self._open.values() if r.number not in held]
            if not running:
                running, self._ready = self._ready, []
        self._prefilling = []
        self._runner.reset()
        for request in running:
            self._fail(request, error)

    def _drop_cancelled(self) -> None:
        with self._changed:
            gone = [r for r in [*self._preparing.values(), *self._ready] if r.cancelled]
            self._preparing = {n: r for n, r in self._preparing.items() if not r.cancelled}
            self._ready = [r for r in self._ready if not r.cancelled]
        for request in gone:
            self._finish(request, "cancelled")
        for row in [r for r in self._prefilling if r.request.cancelled]:
            self._prefilling.remove(row)
            self._runner.reuse.left(row)
            self._finish(row.request, "cancelled")
        for row in [r for r in self._runner.batch.rows if r.request.cancelled]:
            errors: list[BaseException] = []
            with self._guard.request(errors.append):
                row.flush()
            self._runner.leave(row)
            if errors:
                self._fail(row.request, errors[0])
            self._finish(row.request, "cancelled")

    def _finish(self, request: Request, reason: FinishReason, detail: str = "") -> None:
        if request.ended:
            return
        with self._guard.request(lambda error: self._fail(request, error)):
            request.finish(reason, detail)
            self.recent.append(finished_of(request))
        with self._changed:
            self._open.pop(request.number, None)
            self._counts["cancelled" if reason == "cancelled" else "finished"] += 1
            self._counts["prompt_tokens"] += request.prompt_tokens
            self._counts["completion_tokens"] += len(request.token_ids)
            self._counts["images_reused"] += request.images_reused

    def _fail(self, request: Request, error: BaseException) -> None:
        with self._changed:
            self._open.pop(request.number, None)
        if request.ended:  # cancelled while its pictures were being read
            return
        if not isinstance(error, OmlxError):
            _log.debug("request %s failed", request.number, exc_info=error)
        request.fail(error)
        with self._changed:
            self._counts["failed"] += 1

    def _shut_down(self) -> None:
        """End every request and free the model; what fails here is noted, and the rest goes on."""
        with self._changed:
            self._closing, self._state = True, "closed"
            self._preparing.clear()
            self._ready.clear()
            left = list(self._open.values())
        self._workers.shutdown(wait=False, cancel_futures=True)
        for row in [*self._prefilling, *self._runner.batch.rows]:
            with self._guard.request(lambda error, row=row: self._fail(row.request, error)):  # type: ignore[misc]
                row.flush()
        died = self._error
        why = f"the engine ended ({type(died).__name__}: {died}); load it again."
        for request in left:
            if died is None:
                self._finish(request, "cancelled", "the engine was closed")
            else:
                self._fail(request, EngineFaultError(why))
        self._prefilling = []
        try:
            self._runner.close()
        except BaseException as error:
            _log.warning("the engine could not be put away cleanly", exc_info=error)
            release(error)
        self._runner = self.model = None
        gc.collect()
