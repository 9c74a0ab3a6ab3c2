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
from typing import TYPE_CHECKING, Any

from ..errors import EngineClosedError
from .guard import release
from .process import Owner
from .registry import Registry
from .request import Request
from .scheduler import Limits
from .stats import EngineStats, snapshot

if TYPE_CHECKING:
    from .stepper import Stepper

_log = logging.getLogger(__name__)
WORKERS = 4  # threads that fetch, decode and preprocess pictures


class EngineLoop:
    """Owns the thread. Other threads talk to it through `submit`, `wake` and `close`."""

    def __init__(self, load: Callable[[], Any], limits: Limits, make_runner: Callable[[Any, Limits], Any]) -> None:
        """`load` gives the model and `make_runner` its runner; both are called on the engine thread."""
        self._load, self._limits, self._make_runner = load, limits, make_runner
        self._owner = Owner()
        self._held = Registry()
        self._stepper: Any = None  # the Stepper, once the model is there
        self._runner: Any = None
        self._forget = self._retired = False
        self._loaded = threading.Event()
        self._error: BaseException | None = None
        self._state = "loading"
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

    @property
    def runner(self) -> Any:
        """What computes; None before loading and after closing."""
        return self._runner

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
        stepper = self._stepper
        counts = {**self._held.figures(), "prefilling": stepper.prefilling if stepper else 0}
        why = stepper.waiting_for if stepper and counts["waiting"] else ""
        return snapshot(self._state, self.model, self._runner, why, counts, self._held.guard)

    def requests(self) -> list[Request]:
        """Everything that isn't finished. Any thread."""
        self._owner.check()
        return self._held.listing()

    def _prepare(self, request: Request) -> None:
        """On a worker thread."""
        try:
            with self._held.guard.request(lambda error: self._held.fail(request, error)):
                if not (request.flags.cancelled or self._held.closing):
                    self._runner.prepare(request)
            request.prompt.at = time.monotonic()
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
            self._stepper = self._new_stepper()
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
                with self._held.guard.batch(self._stepper.batch_fault):
                    self._step()
        except BaseException as error:  # beyond the boundary: nobody may wait for ever
            _log.exception("the engine thread failed")
            self._error = error
        finally:
            self._shut_down()

    def _new_stepper(self) -> Stepper:
        from .stepper import Stepper  # loads mlx

        return Stepper(self.model, self._runner, self._held, self._limits)

    def _wait_for_work(self) -> bool:
        held = self._held
        with held.changed:
            while not (held.closing or self._forget or held.ready or self._stepper.busy):
                if any(request.flags.cancelled for request in held.preparing.values()):
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
        self._stepper.step()
        self._state = self._stepper.state

    def _shut_down(self) -> None:
        """End every request and free the model; what fails here is noted, and the rest goes on."""
        self._state = "closed"
        left = self._held.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        _try(self._stepper.flush)
        _try(lambda: self._held.end_all(left, self._error))
        _try(self._runner.close)
        self._runner = self._stepper = self.model = None
        gc.collect()


def _try(act: Callable[[], None]) -> None:
    """A last act of the engine; what fails is noted. In a frame of its own, which holds no model when it is freed."""
    try:
        act()
    except BaseException as error:
        _log.warning("the engine could not be put away cleanly", exc_info=error)
        release(error)
