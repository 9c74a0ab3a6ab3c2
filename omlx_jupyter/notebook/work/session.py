"""The kernel's one engine: loaded at first use or a server's, replaced by `%omlx load` and `%omlx connect`, ended with
the extension."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from ...errors import EngineClosedError
from ..plain import bar, tell
from ..settings import per_model
from ..settings.config import settings
from . import servers

if TYPE_CHECKING:
    from ...chat.client import Engine
    from ...engine.front import Front
    from ...remote.front import RemoteFront

ANNOUNCE_AFTER_S = 0.5
Asked = TypeVar("Asked")  # a handle
_lock = threading.Lock()
_engine: list[Front] = []


def current_engine() -> Front | None:
    """The loaded engine, or None."""
    return _engine[0] if _engine else None


def engine(model: str | None = None, say: Callable[[str], None] | None = None, drafter: str | None = None) -> Front:
    """The loaded engine; loads `model` (or the configured one) where there is none or another. `drafter` is the one it
    has to have, None the configured one, which goes with the configured model.

    :raises ModelError: one sentence that names the mend. A model that is running stays.
    """
    with _lock:
        running = current_engine()
        configured = per_model.resolve(settings().model) or None
        wanted = (per_model.resolve(model) if model else configured) or None
        same = running is not None and wanted == running.name and drafter in (None, running.drafter)
        if running is not None and (model is None or (same and not servers.is_remote(running))):
            return running
        if model is None and servers.configured():
            _engine[:] = [servers.connected(settings().server, None, settings().server_key_env)]
            return _engine[0]
        made = loaded(
            wanted,
            settings().drafter if drafter is None and wanted == configured else drafter,
            _announce(wanted or "tiny-ocr", say),
        )
        if running is not None:
            running.close()
        _engine[:] = [made]
        return made


def loaded(model: str | None, drafter: str | None, on_wait: Callable[[float, float], None] | None) -> Engine:
    """An engine of this process under the kernel's settings, which isn't the kernel's by that. `on_wait` is as in
    `Engine.load`; what it raises ends the loading.

    :raises ModelError: one sentence that names the mend.
    """
    from ...chat.client import Engine

    return Engine.load(
        model,
        drafter=drafter or None,
        memory_bytes=settings().memory_mib * 2**20,
        image_limits=settings().image_limits(),
        cache=settings().cache_settings(),
        trust_code=settings().trust_code,
        pixel_budget=settings().pixel_budget,
        on_wait=on_wait,
    )


def connect(name_or_url: str, model: str | None = None, key_env: str = "") -> RemoteFront:
    """Go over to an engine that lives elsewhere; the one that was in use ends, or is left.

    :raises OmlxError: nobody answers there, or the key is wrong; the one that was in use stays.
    """
    made = servers.connected(name_or_url, model, key_env)
    with _lock:
        running = current_engine()
        _engine[:] = [made]
    if running is not None:
        running.close()
    return made


def disconnect() -> str | None:
    """Leave the server, whose name is returned; the next request loads this kernel's own engine. None: there was
    none."""
    servers.leave()
    running = current_engine()
    if running is None or not servers.is_remote(running):
        return None
    unload()
    return str(running.address.shown)


def _announce(name: str, say: Callable[[str], None] | None) -> Callable[[float, float], None]:
    """Say how far loading is, if the wait turns out to be one."""
    said: list[str] = []

    def on_wait(seconds: float, share: float) -> None:
        line = f"{bar(share)} loading {name} … {100 * share:.0f} %" if share else f"loading {name} …"
        if say is not None and seconds > ANNOUNCE_AFTER_S and line not in said[-1:]:
            said.append(line)
            say(line)

    return on_wait


def unload() -> str | None:
    """End the engine and free its model; the model's name, or None where none was loaded."""
    with _lock:
        running = current_engine()
        _engine.clear()
        if running is None:
            return None
        running.close()
        return str(running.name)


@cache
def _tell_if_slow() -> None:
    """Once a kernel: nobody would look for a missing library behind slow answers."""
    from ...models.blas import slow_note

    note = slow_note()
    if note:
        tell(f"Note: {note} (%omlx doctor).", error=True)


def submit(start: Callable[[Front], Asked], say: Callable[[str], None] | None = None) -> Asked:
    """`start(engine)`, once more with a new engine where the old one was closed meanwhile."""
    running = engine(say=say)
    if not servers.is_remote(running):
        _tell_if_slow()
    try:
        return start(running)
    except EngineClosedError:
        if servers.is_remote(running):
            return start(_again(running))
        with _lock:  # of several threads that meet a closed engine one puts it away; all use the next
            if current_engine() is running:
                _engine.clear()
        running.close()
        return start(engine(say=say))


def _again(lost: RemoteFront) -> Front:
    """The same server once more, should it have been started anew; nothing else is taken in its place.

    :raises EngineClosedError: it has gone: one sentence that offers this kernel's own engine.
    """
    with _lock:
        running = current_engine()
        if running is None or running is lost:
            running = servers.reconnected(lost)
            _engine[:] = [running]
            lost.close()
        return running
