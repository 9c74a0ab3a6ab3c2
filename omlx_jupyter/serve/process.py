"""The server's process: sockets, the record by which it is found, uvicorn, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..remote import place
from .guard import Bounds, hosts_of

if TYPE_CHECKING:
    from ..chat.client import Engine

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Plan:
    """What is to be served, and where. `port` None is the Unix socket alone, 0 any free port; `idle_exit` in seconds, 0
    is never; `memory_bytes` 0 is what the machine has."""

    name: str = place.USUAL
    models: tuple[str, ...] = ("tiny-ocr",)
    port: int | None = None
    host: str = "127.0.0.1"
    idle_exit: float = 0.0
    memory_bytes: int = 0
    cache_folder: str = ""
    bounds: Bounds = field(default_factory=Bounds)


def run(plan: Plan, say: Callable[[str], None]) -> None:
    """Serve until it is stopped.

    :raises OmlxError: the first model can't be loaded, or the name or the port is taken.
    """
    name = place.checked_name(plan.name)
    folder = place.private_folder()
    if alive(name):
        raise RequestError(
            f"a server {name} runs already; stop it (python -m omlx_jupyter stop --name {name}), or give --name."
        )
    unix = bind_unix(folder / f"{name}.sock")
    sockets = [unix]
    try:
        record = place.Record(name, os.getpid(), str(folder / f"{name}.sock"), models=plan.models)
        if plan.port is not None:
            tcp = bind_tcp(plan.host, plan.port)
            sockets.append(tcp)
            shown = "127.0.0.1" if plan.host in ("0.0.0.0", "::", "") else plan.host
            url = f"http://{f'[{shown}]' if ':' in shown else shown}:{tcp.getsockname()[1]}"
            record = place.Record(name, record.pid, record.socket, url, secrets.token_urlsafe(32), plan.models)
            if plan.host not in _LOOPBACK:
                say(f"Warning: {plan.host} can be reached from other machines, unencrypted; put TLS in front of it, or "
                    "leave --host out and use ssh -L.")  # fmt: skip
        _Running(plan, record, sockets, say).run()
    finally:
        for one in sockets:
            one.close()
        if not alive(name):
            (folder / f"{name}.sock").unlink(missing_ok=True)


class _Running:
    """One run of a plan."""

    def __init__(
        self, plan: Plan, record: place.Record, sockets: list[socket.socket], say: Callable[[str], None]
    ) -> None:
        self._plan, self._record, self._sockets, self._say = plan, record, sockets, say
        self._uvicorn: Any = None

    def run(self) -> None:
        import uvicorn

        from .app import Server
        from .house import House

        plan, record = self._plan, self._record
        self._house = house = House(list(plan.models), self._load, plan.memory_bytes)
        self._server = server = Server(plan.name, house, plan.bounds, self.stop)
        config = uvicorn.Config(
            server.app(record.token, hosts_of(plan.host)),
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
            limit_concurrency=plan.bounds.connections,
            h11_max_incomplete_event_size=64 * 1024,
        )
        self._uvicorn = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, _terminated)  # uvicorn raises it again when it has ended
        try:
            asyncio.run(self._serve())
        finally:
            place.remove(record)
            house.close()

    async def _serve(self) -> None:
        await self._house.engine(None)  # the first model: what can't be loaded is told before anybody connects
        place.write(self._record)
        self._say(self._ready())
        watch = asyncio.create_task(self._watch())
        try:
            await self._uvicorn.serve(self._sockets)
        finally:
            watch.cancel()

    def _ready(self) -> str:
        record = self._record
        where = f" and {record.url} (token in {place.folder() / (record.name + '.json')})" if record.url else ""
        return (
            f"Serving {', '.join(record.models)} as {record.name} on {record.socket}{where}. %omlx connect "
            f"{record.name} uses it, python -m omlx_jupyter stop --name {record.name} ends it."
        )

    def _load(self, name: str) -> Engine:
        from ..cache.defaults import default_settings
        from ..chat.client import Engine

        cache = default_settings(folder=self._plan.cache_folder or None)
        return Engine.load(name, memory_bytes=self._plan.memory_bytes, cache=cache)

    def stop(self) -> None:
        """From any handler: clients are told by the end of their streams."""
        self._server.sessions.close()
        self._uvicorn.should_exit = True

    async def _watch(self) -> None:
        """Streams end on a signal, so that uvicorn need not wait for them; and the end of an idle server."""
        while True:
            await asyncio.sleep(0.2)
            if self._uvicorn.should_exit:
                self._server.sessions.close()
            if self._house.running():
                self._house.active = time.monotonic()
            idle = time.monotonic() - self._house.active
            if self._plan.idle_exit and idle > self._plan.idle_exit and not self._uvicorn.should_exit:
                self._say(f"Nobody has asked for {self._plan.idle_exit:g} s; ending.")
                self.stop()


def _terminated(*_: object) -> None:
    raise SystemExit(0)


def bind_unix(path: Path) -> socket.socket:
    """A listening socket that nobody else may open from the moment that it is there. One that a dead server left is
    replaced."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    try:
        made.bind(str(path))
        made.listen(256)
    except OSError as error:
        made.close()
        raise RequestError(f"{path} can't be bound ({error}); give another --name.") from None
    finally:
        os.umask(before)
    return made


def bind_tcp(host: str, port: int) -> socket.socket:
    """:raises RequestError: the port is taken or the address isn't this machine's."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
            made.listen(256)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        raise RequestError(f"{host}:{port} can't be bound ({error.strerror}); give another --port.") from None
    return made


def alive(name: str) -> place.Record | None:
    """The record of a server that answers."""
    from ..errors import OmlxError
    from ..remote.line import Address, Line

    found = place.read(name)
    if found is None:
        return None
    line = Line(Address(name, socket=found.socket))
    try:
        return found if line.ask("GET", "/health", timeout=5.0).status == 200 else None
    except OmlxError:
        return None
    finally:
        line.close()


def end(name: str, timeout: float = 15.0) -> bool:
    """Ask a server to end, and wait until it has; False where there is none.

    :raises RequestError: it goes on.
    """
    from ..errors import EngineClosedError
    from ..remote import wire
    from ..remote.line import Address, Line

    found = alive(name)
    if found is None:
        if (left := place.read(name)) is not None:
            place.remove(left)
        return False
    with contextlib.suppress(EngineClosedError), contextlib.closing(Line(Address(name, socket=found.socket))) as line:
        line.ask("POST", f"{wire.ROOT}/stop", {}, timeout=timeout)
    deadline = time.monotonic() + timeout
    while _lives(found.pid):
        if time.monotonic() > deadline:
            raise RequestError(f"the server {name} (process {found.pid}) doesn't end; send it SIGKILL.")
        time.sleep(0.05)
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)  # 0: only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
