"""`%%vlm --background`: requests that run while the kernel stays usable."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...errors import EngineClosedError, OmlxError
from ..answers.stream_view import hear
from ..answers.thoughts import Heard
from ..plain import name, tell
from . import servers

if TYPE_CHECKING:
    from ...engine.readable import Readable
    from ...types import Generation
    from ..answers.result import Result
    from ..answers.view import View

_RETRY_S = 1.0
_numbers = itertools.count(1)
_jobs: dict[int, Job] = {}


class Job:
    """A request in the background: `.done`, `.result()`, `.cancel()`, and `await job`."""

    def __init__(
        self,
        handle: Readable[Generation],
        view: View,
        make_result: Callable[[Readable[Generation], float], Result],
        prompt: str,
        again: Callable[[], Readable[Generation]] | None = None,
    ) -> None:
        """`make_result` is told the handle and how long the thought took. `again` asks once more: a job of which
        nothing was said yet waits for its server, should that be started anew."""
        self.number = next(_numbers)
        self.prompt = prompt
        self._handle, self._view, self._make_result = handle.in_background(), view, make_result
        self._again, self._given_up = again, threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Result], None]] = []
        _jobs[self.number] = self
        self._thread = threading.Thread(target=self._watch, name=f"omlx-job-{self.number}", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            result = self._heard()
        except BaseException as error:
            self._error = error
            if isinstance(error, OmlxError):
                self._view.status(str(error))
            return
        with self._lock:
            self._result, callbacks = result, list(self._callbacks)
        self._view.finish(result)
        for callback in callbacks:
            self._tell(callback, result)

    def _heard(self) -> Result:
        """:raises OmlxError: the request failed."""
        while True:
            heard, ended = Heard(), False
            try:
                while not ended:
                    ended = hear(self._handle, self._view, heard)
                return self._make_result(self._handle, heard.thought_s)
            except EngineClosedError:
                if self._again is None or self._handle.progress.tokens or not servers.has_gone():
                    raise
            self._view.status(f"job {self.number} waits for its server; %omlx jobs cancel {self.number} ends it")
            self._handle = self._asked_again(self._again)

    def _asked_again(self, again: Callable[[], Readable[Generation]]) -> Readable[Generation]:
        """The same request, as soon as a server is there.

        :raises EngineClosedError: it was cancelled meanwhile.
        """
        while True:
            try:
                return again().in_background()
            except EngineClosedError:
                if self._given_up.wait(_RETRY_S):
                    raise

    def _tell(self, callback: Callable[[Result], None], result: Result) -> None:
        """One that fails keeps neither the answer nor the others from their turn."""
        try:
            callback(result)
        except Exception as error:
            tell(name(f"Job {self.number}: {type(error).__name__}: {error}"), error=True)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    @property
    def state(self) -> str:
        if self._error is not None:
            return f"failed: {self._error}"
        if self._result is not None:
            return "interrupted" if self._result.finish_reason == "cancelled" else "finished"
        progress = self._handle.progress
        return {"decode": f"writing, {progress.tokens} tokens"}.get(progress.phase, progress.phase)

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the answer; Ctrl-C ends the waiting, not the job.

        :raises OmlxError: the request failed.
        :raises TimeoutError: it is still running.
        """
        waited = 0.0
        while not self.done:
            if timeout is not None and waited >= timeout:
                raise TimeoutError(f"job {self.number} is still running")
            self._thread.join(0.05)
            waited += 0.05
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel(self) -> None:
        """End it; what was said is kept."""
        self._given_up.set()
        self._handle.cancel()

    def then(self, callback: Callable[[Result], None]) -> None:
        """Call `callback(result)` when the answer is there."""
        with self._lock:
            result = self._result
            if result is None:
                self._callbacks.append(callback)
        if result is not None:
            self._tell(callback, result)

    def __await__(self) -> Generator[Any, None, Result]:
        import asyncio

        async def wait() -> Result:
            while not self.done:
                await asyncio.sleep(0.02)
            return self.result()

        return wait().__await__()

    def __repr__(self) -> str:
        return name(f"<Job {self.number} · {self.state}>")


def listing() -> list[Job]:
    return list(_jobs.values())


def find(text: str) -> Job:
    """:raises UsageError: no such job."""
    job = _jobs.get(int(text)) if text.isdigit() else None
    if job is None:
        raise UsageError(f"there is no job {text}; known: {', '.join(map(str, _jobs)) or 'none yet'}.")
    return job


def command(rest: list[str]) -> None:
    """%omlx jobs | jobs wait [N] | jobs cancel [N] | jobs clear"""
    match rest:
        case []:
            for job in listing():
                tell(f"{job.number}: {job.state} · {name(job.prompt[:60])}")
            if not _jobs:
                tell("No jobs yet; %%vlm --background begins one.")
        case ["wait"]:
            for job in listing():
                _wait(job)
        case ["wait", number]:
            _wait(find(number))
        case ["cancel"]:
            for job in listing():
                job.cancel()
        case ["cancel", number]:
            find(number).cancel()
        case ["clear"]:
            for job in listing():
                if job.done:
                    del _jobs[job.number]
        case _:
            raise UsageError("%omlx jobs; jobs wait [N]; jobs cancel [N]; jobs clear")


def _wait(job: Job) -> None:
    try:
        job.result()
    except OmlxError as error:
        tell(f"{job.number}: {error}")
    except Exception:  # a fault of one job: the others are waited for all the same
        tell(f"{job.number}: {name(job.state)}")
    else:
        tell(f"{job.number}: {job.state}")
