"""The kernel's side of JupyterLab's status item and panel: one comm that speaks, one per page that listens.

ipykernel hands a page's message to the shell that published last on that comm. So the kernel only ever publishes on
its own comm, the beacon, and a page sends on one that it opens itself: it is heard while a cell runs where the
front end gives comms a subshell.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import OmlxError
from ..settings.config import cache_folder, cache_place, settings
from ..work import session
from .busy import StillBusy
from .protocol import (
    TARGET,
    CancelJob,
    ClearChat,
    ClearStore,
    ForkChat,
    ListModels,
    Load,
    Models,
    Panel,
    Problem,
    Status,
    Unload,
    Watch,
    encode,
    parse,
)
from .state import Watcher, same

if TYPE_CHECKING:
    from ..shell import KernelShell
    from .protocol import ChatShown, FromKernel, JobShown, StoreShown

_log = logging.getLogger(__name__)
PANEL_S, STATUS_S = 0.05, 0.3  # and 0.2 s after each message
HOLDS_S = 60.0  # a page that doesn't ask again is taken for closed
_STORES_S = 3.0


class Control(Protocol):
    """A comm that a page opened."""

    def on_msg(self, call: Callable[[Mapping[str, Any]], object]) -> object: ...
    def on_close(self, call: Callable[[object], object]) -> object: ...
    def close(self) -> object: ...


class Wire:
    """Publishes what pages watch, on change only, and does what they ask. One per kernel."""

    def __init__(self, shell: KernelShell | None = None) -> None:
        import comm

        self._busy = StillBusy(shell) if shell is not None else None

        self._watching: dict[str, tuple[str, float]] = {}  # page -> level, until when
        self._wake = threading.Event()
        self._closed = False
        self._note = ""
        self._watcher = Watcher()
        self._sent: dict[str, Any] = {}
        self._stores: tuple[float, list[StoreShown]] = (0.0, [])
        self._controls: list[Control] = []
        comm.get_comm_manager().register_target(TARGET, self._opened)
        self._beacon = comm.create_comm(target_name=TARGET, data={"v": 1})
        self.published = 0
        threading.Thread(target=self._run, name="omlx-comm", daemon=True).start()

    def close(self) -> None:
        import comm

        self._closed = True
        self._wake.set()
        if self._busy is not None:
            self._busy.close()
        comm.get_comm_manager().unregister_target(TARGET, self._opened)
        for opened in [self._beacon, *self._controls]:
            opened.close()

    # -- what pages say ---------------------------------------------------------------------

    def _opened(self, control: Control, _: object) -> None:
        self._controls.append(control)
        control.on_msg(lambda message: self._heard(message["content"]["data"]))
        control.on_close(lambda _: self._dropped(control))

        if self._busy is not None:
            self._busy.say_again()

    def _heard(self, data: object) -> None:
        self.receive(data)
        if self._busy is not None:
            self._busy.say_again()

    def _dropped(self, control: Control) -> None:
        self._controls = [held for held in self._controls if held is not control]

    def receive(self, data: object) -> None:
        """Do what a page asks; what takes long runs on a thread."""
        match parse(data):
            case Watch(page=page, level=level):
                self._watching[page] = (level, time.monotonic() + HOLDS_S)
                self._sent.clear()  # a page that has just begun to look knows nothing
                self._wake.set()
            case Load(model=model):
                self._start(lambda: session.engine(model, self._tell))
            case Unload():
                self._start(session.unload)
            case ListModels():
                self._start(self._models)
            case CancelJob(number=number):
                self._do(lambda: _jobs().find(str(number)).cancel())
            case ClearStore(model=model):
                self._start(lambda: self._clear(model))
            case ForkChat(name=name, new=new):
                self._do(lambda: _chats().fork(name, new))
            case ClearChat(name=name):
                self._do(lambda: _chats().clear(name))

    def _start(self, work: Callable[[], object]) -> None:
        threading.Thread(target=self._do, args=(work,), name="omlx-command", daemon=True).start()

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            if not isinstance(error, OmlxError):
                _log.debug("a page's command failed", exc_info=error)
            self._publish(Problem(str(error)))
        finally:
            self._note = ""
            self._wake.set()

    def _tell(self, line: str) -> None:
        self._note = line
        self._wake.set()

    def _models(self) -> None:
        from ...models.hub import EMBEDDED, cached_models

        self._publish(Models([EMBEDDED, *cached_models()]))

    def _clear(self, model: str) -> None:
        from ...cache import check

        running = session.current_engine()
        if running is not None and running.name == model:
            running.forget()
        check.clear(cache_folder(), model)
        self._stores = (0.0, [])

    # -- what pages see ---------------------------------------------------------------------

    @property
    def level(self) -> str:
        """The most that any page wants to see."""
        now = time.monotonic()
        self._watching = {page: held for page, held in self._watching.items() if held[1] > now}
        levels = {level for level, _ in self._watching.values()}
        return "panel" if "panel" in levels else "status" if "status" in levels else "off"

    def _run(self) -> None:
        while not self._closed:
            level = self.level
            self._wake.wait(None if level == "off" else PANEL_S if level == "panel" else STATUS_S)
            self._wake.clear()
            if self._closed:
                return
            before = self.published
            try:
                self._show(self.level)
            except Exception:
                _log.debug("the panel could not be updated", exc_info=True)
            time.sleep(0.2 * max(1, self.published - before))  # however often it is woken: five messages a second

    def _show(self, level: str) -> None:
        if level == "off":
            return
        state = self._watcher.snapshot()
        cache = state.get("cache", {})
        asked = cache.get("tokens_asked", 0)
        self._changed(
            Status(
                model=state["model"],
                state=state.get("state", ""),
                rows=sum(lane["phase"] == "decode" for lane in state.get("lanes", ())),
                tokens_per_s=state.get("tokens_per_s", 0.0),
                cached=round((cache["tokens_ram"] + cache["tokens_ssd"]) / asked, 3) if asked else 0.0,
                where=state.get("where", ""),
                note=self._note,
            )
        )
        if level == "panel":
            self._changed(Panel(state if state["model"] else None, *self._lists(), self._note))

    def _lists(self) -> tuple[list[JobShown], list[ChatShown], list[StoreShown]]:
        running: list[JobShown] = [
            {"number": j.number, "state": j.state, "prompt": j.prompt[:80], "done": j.done} for j in _jobs().listing()
        ]
        talks: list[ChatShown] = [
            {"name": c.name, "turns": len(c.turns), "pictures": c.pictures} for c in _chats().listing()
        ]
        if time.monotonic() - self._stores[0] > _STORES_S:
            from ...cache import check

            place = cache_place(settings().cache_folder)
            found = check.entries(place) if place is not None else []
            stores: list[StoreShown] = [
                {"name": e.name, "bytes": e.bytes, "blocks": e.blocks, "tokens": e.tokens} for e in found
            ]
            self._stores = (time.monotonic(), stores)
        return running, talks, self._stores[1]

    def _changed(self, message: FromKernel) -> None:
        """Publish it if it says something new; a quiet engine's history is nothing new."""
        made = encode(message)
        old = self._sent.get(made["kind"])
        if old is not None and same(made, old):
            return
        self._sent[made["kind"]] = made
        self._publish(message)

    def _publish(self, message: FromKernel) -> None:
        self.published += 1
        self._beacon.send(encode(message))


# Imported when a page asks, not by `%load_ext`.
def _jobs() -> Any:
    from ..work import jobs

    return jobs


def _chats() -> Any:
    from ..work import chats

    return chats
