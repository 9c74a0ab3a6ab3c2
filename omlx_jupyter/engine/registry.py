"""Where each request is, from the moment it is submitted until it has ended."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import EngineClosedError, EngineFaultError, OmlxError
from ..types import FinishReason
from .guard import Guard
from .lanes import Finished, note_finished
from .pixels import Pixels
from .request import Request

_log = logging.getLogger(__name__)
WORKERS = 4  # threads that fetch, decode and preprocess pictures
_COUNTS = ("finished", "failed", "cancelled", "prompt_tokens", "completion_tokens", "images_reused")


class Registry:
    """`open` has every request that hasn't ended; `preparing` and `ready` those that have no row yet; `unprepared`
    those of the preparing that no worker has taken up.

    `changed` guards all of it, is reentrant, and is notified when the engine thread has something to look at.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.guard = Guard()
        self.closing = False
        self.open: dict[int, Request] = {}
        self.preparing: dict[int, Request] = {}
        self.unprepared: list[Request] = []
        self.ready: list[Request] = []
        self.pixels = Pixels()
        self.pixel_room: Callable[[], int] = lambda: 2**62  # bytes that prepared pictures may have together
        self._working: list[Request] = []
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.recent: deque[tuple[int, Finished]] = deque(maxlen=12)  # with their groups

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def add(self, request: Request) -> None:
        """:raises EngineClosedError: the engine takes none any more."""
        with self.changed:
            if self.closing:
                raise EngineClosedError("the engine was closed; load a new one.")
            self.preparing[request.number] = self.open[request.number] = request
            self.unprepared.append(request)

    def to_prepare(self) -> Request | None:
        """The next for a worker, cells first; not one with pictures while those that wait have all they may have."""
        with self.changed:
            self._working = [r for r in self._working if r.number in self.preparing]  # whose worker fell over, too
            if len(self._working) >= WORKERS or self.closing:
                return None
            for request in sorted(self.unprepared, key=lambda r: (r.flags.background, r.number)):
                if not request.wants.pictures or self._room_for_pixels():
                    self.unprepared.remove(request)
                    self._working.append(request)
                    return request
        return None

    def _room_for_pixels(self) -> bool:
        """Whether one more request's may be prepared: as large as the largest, for all that one knows before. One may
        be where nothing else is on its way."""
        working = sum(r.wants.pictures for r in self._working)
        if not self.pixels.largest:
            return not working
        expected = self.pixels.nbytes + (working + 1) * self.pixels.largest
        return expected <= self.pixel_room() or not (working or self.pixels.nbytes)

    def preparing_bytes(self) -> int:
        """What workers are about to add, as far as one knows before."""
        with self.changed:
            return sum(r.wants.pictures for r in self._working) * self.pixels.largest

    def worked(self, request: Request) -> None:
        """Its worker is free again."""
        with self.changed:
            self._working = [r for r in self._working if r is not request]

    def back(self, request: Request) -> None:
        """A row was dropped: its request waits for another."""
        with self.changed:
            request.back()
            self.ready.append(request)

    def again(self, request: Request) -> bool:
        """Let a request that a fault ended begin anew, if nothing of its answer was said."""
        if request.ended or request.answer.token_ids or request.said.token_ids:
            return False
        self.back(request)
        self.unprepare([request])
        return True

    def unprepare(self, requests: Sequence[Request]) -> None:
        """Drop the pictures of requests that wait, and prepare them again later."""
        with self.changed:
            for request in requests:
                self.ready.remove(request)
                self.pixels.drop(request.number)
                request.unprepare()
                self.preparing[request.number] = request
                self.unprepared.append(request)

    def listing(self) -> list[Request]:
        """Everything that isn't finished."""
        with self.changed:
            return list(self.open.values())

    def figures(self) -> dict[str, int]:
        """Counts since the engine was loaded, and how many have no row yet."""
        with self.changed:
            return {"preparing": len(self.preparing), "waiting": len(self.ready), **self.counts}

    def forget(self, request: Request) -> None:
        """As if it had never been submitted."""
        with self.changed:
            self.preparing.pop(request.number, None)
            self.open.pop(request.number, None)
            self.unprepared = [r for r in self.unprepared if r is not request]

    def prepared(self, request: Request) -> None:
        """Its worker is done: it waits for a row now, unless it ended meanwhile."""
        with self.changed:
            taken = self.preparing.pop(request.number, None) is None  # cancelled or closed meanwhile
            if not (request.ended or taken):
                self.ready.append(request)
            else:
                self.pixels.drop(request.number)
                request.let_go()  # what its worker made after its end
            self.changed.notify_all()

    def withdraw(self, request: Request, error: BaseException) -> None:
        """End a request whose worker fell over."""
        with self.changed:
            self.preparing.pop(request.number, None)
            self.ready = [r for r in self.ready if r is not request]
        self.fail(request, error)

    def take_cancelled(self) -> list[Request]:
        """Requests without a row that were cancelled, taken out."""
        with self.changed:
            gone = [r for r in [*self.preparing.values(), *self.ready] if r.flags.cancelled]
            self.preparing = {n: r for n, r in self.preparing.items() if not r.flags.cancelled}
            self.unprepared = [r for r in self.unprepared if not r.flags.cancelled]
            self.ready = [r for r in self.ready if not r.flags.cancelled]
        return gone

    def take_concerned(self) -> list[Request]:
        """Whom a fault of the batch ends: those that have a row; where none has, those that wait for one, so that
        a fault can't repeat without end."""
        with self.changed:
            held = {r.number for r in [*self.preparing.values(), *self.ready]}
            running = [r for r in self.open.values() if r.number not in held]
            if not running:
                running, self.ready = self.ready, []
        return running

    def close(self) -> list[Request]:
        """Nothing is taken any more; what hasn't ended is given out, for `end_all`."""
        with self.changed:
            self.closing = True
            self.preparing.clear()
            self.unprepared.clear()
            self.ready.clear()
            return list(self.open.values())

    def end_all(self, left: list[Request], died: BaseException | None) -> None:
        """End what is left as cancelled, or with the fault that the engine's thread `died` of."""
        for request in left:
            if died is None:
                self.finish(request, "cancelled", "the engine was closed")
            else:
                why = f"the engine ended ({type(died).__name__}: {died}); load it again."
                self.fail(request, EngineFaultError(why))

    def finish(self, request: Request, reason: FinishReason, detail: str = "") -> None:
        if request.ended:
            return
        with self.guard.request(lambda error: self.fail(request, error)):
            request.finish(reason, detail)
            note_finished(self.recent, request)
        self.pixels.drop(request.number)
        with self.changed:
            self.open.pop(request.number, None)
            self.counts["cancelled" if reason == "cancelled" else "finished"] += 1
            self.counts["prompt_tokens"] += request.prompt.tokens
            self.counts["completion_tokens"] += len(request.answer.token_ids)
            self.counts["images_reused"] += request.course.images_reused

    def fail(self, request: Request, error: BaseException) -> None:
        self.pixels.drop(request.number)
        with self.changed:
            self.open.pop(request.number, None)
        if request.ended:  # cancelled while its pictures were being read
            return
        if not isinstance(error, OmlxError):
            _log.debug("request %s failed", request.number, exc_info=error)
        request.fail(error)
        with self.changed:
            self.counts["failed"] += 1
