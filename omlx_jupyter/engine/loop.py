"""The engine thread: it loads the model, runs every forward pass and frees the model."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import EngineClosedError
from .guard import release
from .process import Owner
from .registry import WORKERS, Registry
from .request import Request
from .scheduler import Limits
from .stats import EngineStats, snapshot

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel
    from .runner import Runner
    from .stepper import Stepper

Held = TypeVar("Held")
STUCK_S = 0.05  # between looks whether others gave memory back
_log = logging.getLogger(__name__)


class EngineLoop:
    """Owns the thread. Other threads talk to it through `submit`, `wake` and `close`."""

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        limits: Limits,
        make_runner: Callable[[LoadedModel, Limits], Runner],
        folder: Path | None = None,
    ) -> None:
        """`load` gives the model and `make_runner` its runner; both are called on the engine thread. `folder` is where
        kernels tell each other what they hold; None: the user's own."""
        self._folder = folder
        self._load, self._limits, self._make_runner = load, limits, make_runner
        self._owner = Owner()
        self._held = Registry()
        self._stepper: Stepper | None = None  # the Stepper, once the model is there
        self._runner: Runner | None = None
        self._forget = self._tidy = self._retired = False
        self._loaded = threading.Event()
        self._error: BaseException | None = None
        self._state = "loading"
        self._workers = ThreadPoolExecutor(WORKERS, "omlx-prepare")
        self.recent = self._held.recent
        self.model: LoadedModel | None = None
        self._thread = threading.Thread(target=self._run, name="omlx-engine", daemon=True)
        self._thread.start()

    # -- other threads ----------------------------------------------------------------------

    def wait_loaded(self, on_wait: Callable[[float], None] | None = None) -> LoadedModel:
        """The loaded model, or its error. Short waits, for Ctrl-C; `on_wait` gets the seconds so far."""
        started = time.monotonic()
        while not self._loaded.wait(0.05):
            if on_wait is not None:
                on_wait(time.monotonic() - started)
        if self._error is not None:
            raise self._error
        return _there(self.model)

    def submit(self, request: Request) -> None:
        """:raises EngineClosedError: the engine was closed, or is being closed by another thread.
        :raises ProcessError: this is a forked child; the engine lives in the parent.
        """
        self._owner.check()
        self._held.add(request)
        try:
            self._hand_out()
        except RuntimeError:  # closed between the two: the request was never taken
            self._held.forget(request)
            raise EngineClosedError("the engine was closed; load a new one.") from None

    def _hand_out(self) -> None:
        """Give workers what they may prepare now. Any thread."""
        while (request := self._held.to_prepare()) is not None:
            made = self._workers.submit(self._prepare, request)
            made.add_done_callback(functools.partial(self._prepared, request))

    @property
    def runner(self) -> Runner | None:
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
        return snapshot(self._state, self.model, self._runner, why, counts, self._held.guard, stepper)

    def requests(self) -> list[Request]:
        """Everything that isn't finished. Any thread."""
        self._owner.check()
        return self._held.listing()

    def _prepare(self, request: Request) -> None:
        """On a worker thread."""
        try:
            with self._held.guard.request(lambda error: self._held.fail(request, error)):
                if not (request.flags.cancelled or self._held.closing):
                    _there(self._runner).prepare(request)
                    self._held.pixels.add(request.number, request.prompt.ready)
            request.prompt.at = time.monotonic()
        finally:
            self._held.prepared(request)

    def _prepared(self, request: Request, made: Future[None]) -> None:
        """The worker's last word: also where it fell over before or after the boundary."""
        error = None if made.cancelled() else made.exception()
        if error is not None:
            self._held.withdraw(request, error)
        try:
            self._held.worked(request)
        finally:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: its requests are ended
                self._hand_out()

    # -- the engine thread ------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.model = self._load()
            self._runner = self._make_runner(self.model, self._limits)
            self._held.guard = self._runner.guard
            self._stepper = self._new_stepper()
        except BaseException as error:
            self._error = error
            self._state = "closed"
            self._held.closing = True
            if "mlx.core" in sys.modules:
                from ..models.own_thread import end_thread

                end_thread()
            return
        finally:
            self._loaded.set()
        try:
            while self._wait_for_work():
                with self._held.guard.batch(self._stepper.batch_fault):
                    self._step()
                with contextlib.suppress(RuntimeError):  # closed meanwhile
                    self._hand_out()
        except BaseException as error:  # beyond the boundary: nobody may wait for ever
            _log.exception("the engine thread failed")
            self._error = error
        finally:
            self._shut_down()

    def _new_stepper(self) -> Stepper:
        from .stepper import Stepper  # loads mlx

        return Stepper(_there(self.model), _there(self._runner), self._held, self._limits, self._folder, self._settle)

    def _settle(self) -> None:
        """The watch has seen something: who gives way is looked at before the next step."""
        self._tidy = True
        self.wake()

    def _wait_for_work(self) -> bool:
        held = self._held
        with held.changed:
            stuck = _there(self._stepper).stuck and not _there(self._stepper).busy
            if stuck and not held.closing:
                held.changed.wait(STUCK_S)
            while not (held.closing or self._forget or self._tidy or held.ready or _there(self._stepper).busy):
                if any(request.flags.cancelled for request in held.preparing.values()):
                    break
                if self._retired and not held.open:
                    return False
                if self._unproved:
                    break
                self._state = "idle"
                held.changed.wait()
            return not held.closing

    def _step(self) -> None:
        if self._forget:
            self._forget = False
            _there(self._runner).forget()
        if self._tidy:
            self._tidy = False
            _there(self._stepper).keeper.settle()
        if self._unproved:
            self._prove()
        _there(self._stepper).step()
        self._state = _there(self._stepper).state

    @property
    def _unproved(self) -> bool:
        """Whether nobody wants anything, and what the model may do isn't known yet."""
        return _there(self.model).unproved is not None and not self._held.open

    def _prove(self) -> None:
        """Find out what the model may do, as long as nobody wants anything."""
        from ..models.proof import Interrupted, go_on

        held, self._state = self._held, "proving"
        try:
            made = go_on(
                _there(self.model), wanted=lambda: bool(held.open or held.closing or self._forget or self._tidy)
            )
        except Interrupted:
            return
        except Exception as error:
            _log.warning("the proof of what the model may do met a fault; it runs alone", exc_info=error)
            _there(self.model).unproved = None
            return
        self._go_over(made)

    def _go_over(self, model: LoadedModel) -> None:
        """Drive the same weights as another model from now on. There are no rows: only this thread makes some. What is
        being prepared for the old one can be taken by the new."""
        old = _there(self._runner)
        _there(self._stepper).keeper.close()
        self.model, self._runner = model, self._make_runner(model, self._limits)
        self._held.guard = self._runner.guard
        self._stepper = self._new_stepper()
        old.reuse.close()

    def _shut_down(self) -> None:
        """End every request and free the model; what fails here is noted, and the rest goes on."""
        self._state = "closed"
        left = self._held.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        _try(_there(self._stepper).flush)
        _try(lambda: self._held.end_all(left, self._error))
        _try(_there(self._stepper).keeper.close)
        _try(_there(self._runner).close)
        self._runner = self._stepper = self.model = None
        gc.collect()


def _there(held: Held | None) -> Held:
    """What is there from the model's loading to the engine's end."""
    assert held is not None
    return held


def _try(act: Callable[[], None]) -> None:
    """A last act of the engine; what fails is noted. In a frame of its own, which holds no model when it is freed."""
    try:
        act()
    except BaseException as error:
        _log.warning("the engine could not be put away cleanly", exc_info=error)
        release(error)
