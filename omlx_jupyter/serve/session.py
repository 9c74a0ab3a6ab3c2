"""One client of the native route: its requests, and the stream on which all that comes of them goes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..engine.request import new_group
from ..errors import OmlxError, RequestError
from ..remote import wire
from ..types import Message

if TYPE_CHECKING:
    from ..chat.client import Engine
    from ..engine.request import Progress, RequestHandle

_TICK_S = 0.25  # between looks at how far requests are
_BEAT_S = 10.0  # a client that hears nothing takes the server for gone


@dataclass
class _Held:
    handle: RequestHandle
    progress: Progress | None = None  # what was told last


class Session:
    """Event loop only, but for `_news`, which the engine's thread calls. Ends with its stream, and its requests with
    it."""

    def __init__(self, model: str, who: str) -> None:
        self.identity, self.model, self.who = secrets.token_urlsafe(18), model, who
        self._held: dict[int, _Held] = {}
        self._groups: dict[int, int] = {}
        self._ready: list[wire.Item] = []  # events that are no request's news
        self._fresh: deque[int] = deque()  # requests of which there is something new
        self._awake = asyncio.Event()
        self._told = False
        self._loop = asyncio.get_running_loop()
        self.closed = False

    @property
    def running(self) -> int:
        return len(self._held)

    def submit(self, engine: Engine, said: wire.Item, messages: Sequence[Message]) -> None:
        """Begin a request; one that is known already came twice. Its errors go out on the stream."""
        number = said["id"]
        if number in self._held:
            return
        try:
            handle = engine.submit(
                messages,
                sampling=wire.sampling_in(said.get("sampling") or {}),
                tools=said.get("tools"),
                chat_template_kwargs=said.get("words") or {},
                draft=said.get("draft") is not False,
                hint=str(said.get("hint") or ""),
                begin=str(said.get("begin") or ""),
                group=self._group(said.get("group")),
            )
        except OmlxError as error:
            self._say({"id": number, "error": wire.error_out(error)})
            return
        self._held[number] = _Held(handle)
        handle.on_news(partial(self._news, number))

    def _group(self, number: object) -> int:
        """Numbers of groups are each client's own."""
        if not isinstance(number, int) or not number:
            return 0
        if len(self._groups) > 1000:
            self._groups.clear()
        return self._groups.setdefault(number, new_group())

    def tell(self, what: str, numbers: object) -> None:
        for number in numbers if isinstance(numbers, list) else ():
            held = self._held.get(number)
            if held is not None:
                held.handle.cancel() if what == "cancel" else held.handle.in_background()

    def _news(self, number: int) -> None:
        """From any thread: one wake-up however much is new."""
        self._fresh.append(number)
        if not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._awake.set)

    def _say(self, event: wire.Item) -> None:
        self._ready.append(event)
        self._awake.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """What goes out. Nothing is taken from the requests while the reader takes nothing: they run on."""
        yield _line([{"session": self.identity}])
        quiet = 0.0
        while not self.closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), _TICK_S if self._held else 1.0)
            news = self._awake.is_set()
            self._awake.clear()
            self._told = False
            events = self._gathered() if news else self._looked()
            quiet = 0.0 if events else quiet + (_TICK_S if self._held else 1.0)
            if events or quiet >= _BEAT_S:
                quiet = 0.0
                yield _line(events)

    def _gathered(self) -> list[wire.Item]:
        made = self._ready[:]
        self._ready.clear()
        fresh: dict[int, None] = {}
        while self._fresh:
            fresh[self._fresh.popleft()] = None
        return [*made, *(event for number in fresh if (event := self._event(number)))]

    def _event(self, number: int) -> wire.Item | None:
        held = self._held.get(number)
        if held is None:
            return None
        deltas, ended = held.handle.poll(0.0)
        event: wire.Item = {"id": number}
        if deltas:
            event["d"] = [wire.delta_out(delta) for delta in deltas]
        if ended:
            del self._held[number]
            try:
                event["end"] = wire.generation_out(held.handle.result())
            except OmlxError as error:
                event["error"] = wire.error_out(error)
        return event if len(event) > 1 else None

    def _looked(self) -> list[wire.Item]:
        """How far requests are; and those that ended unseen, because the engine's thread has died."""
        made = []
        for number, held in list(self._held.items()):
            if held.handle.settled:
                made.append(self._event(number))
            elif (progress := held.handle.progress) != held.progress:
                held.progress = progress
                told = [progress.phase, progress.done, progress.total, progress.tokens, progress.images]
                made.append({"id": number, "p": told, "u": wire.usage_out(held.handle.usage)})
        return [event for event in made if event]

    def close(self) -> None:
        """The client has gone, or is told to go: its rows end."""
        self.closed = True
        self._awake.set()
        for held in self._held.values():
            held.handle.cancel()
        self._held.clear()


def _line(events: Sequence[wire.Item]) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events) or b"\n"


class Sessions:
    """All that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def add(self, session: Session) -> None:
        self._open[session.identity] = session

    def remove(self, session: Session) -> None:
        session.close()
        self._open.pop(session.identity, None)

    def get(self, identity: object) -> Session:
        """:raises RequestError: it has ended, or never was."""
        found = self._open.get(identity) if isinstance(identity, str) else None
        if found is None:
            raise RequestError("the session has ended; connect again.")
        return found

    def who(self) -> list[str]:
        return sorted(session.who for session in self._open.values())

    def running(self) -> int:
        return sum(session.running for session in self._open.values())

    def close(self) -> None:
        for session in list(self._open.values()):
            self.remove(session)
