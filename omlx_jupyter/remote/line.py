"""HTTP/1.1 over a Unix socket or TCP with the standard library alone, which is there before httpx is imported."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import EngineClosedError, OmlxError, RequestError
from . import wire

_BROKEN = (OSError, http.client.HTTPException)
_KEPT = 8  # idle connections
OPENS_S = 10.0  # a server answers what needs no model within this time, or counts as gone


@dataclass(frozen=True)
class Address:
    """Where a server is. `shown` is what an error says; the token is in no text of it."""

    shown: str
    socket: str = ""
    url: str = ""
    token: str = field(default="", repr=False)


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    def json(self) -> Any:
        """:raises EngineClosedError: it is no JSON, so it wasn't a server of ours."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise EngineClosedError("the server answered something that isn't JSON; is it one of ours?") from None


def gone(address: Address) -> EngineClosedError:
    return EngineClosedError(
        f"the server {address.shown} has gone; %omlx connect {address.shown} tries it again, %omlx disconnect goes "
        "back to this kernel's own engine."
    )


class Line:
    """Requests to one server, from any thread; connections are kept and used again."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if self.address.socket:
            return _Unix(self.address.socket, timeout)
        parts = urlsplit(self.address.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=timeout)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.address.token}"} if self.address.token else {}

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        pieces: Sequence[bytes | memoryview] | None = None,
        timeout: float = 60.0,
    ) -> Reply:
        """One request. `body` goes as JSON, `pieces` as they are. What is asked may be asked twice: a kept connection
        may have been closed by then.

        :raises EngineClosedError: nobody answers, or not in time.
        """
        data = pieces if pieces is not None else None if body is None else [json.dumps(body).encode()]
        for kept in (True, False):
            connection = self._take(timeout) if kept else None
            if kept and connection is None:
                continue
            connection = connection or self._connection(timeout)
            try:
                reply = self._once(connection, method, path, data)
            except _BROKEN as error:
                connection.close()
                if kept and not isinstance(error, TimeoutError):
                    continue
                raise gone(self.address) from None
            except BaseException:
                connection.close()
                raise
            self._give(connection)
            return reply
        raise gone(self.address)

    def _once(
        self, connection: http.client.HTTPConnection, method: str, path: str, data: Sequence[bytes | memoryview] | None
    ) -> Reply:
        headers: dict[str, str] = self._headers()
        if data is not None:
            headers |= {"Content-Length": str(sum(len(piece) for piece in data)), "Content-Type": "application/json"}
        with contextlib.suppress(BrokenPipeError):  # it doesn't read on: it may have said why
            connection.request(method, path, body=iter(data) if data is not None else None, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, response.read())

    def _take(self, timeout: float) -> http.client.HTTPConnection | None:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def _give(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and connection.sock is not None and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def stream(self, path: str, timeout: float) -> tuple[Any, Any]:
        """(connection, response) of a GET that goes on; reading raises where nothing comes for `timeout` seconds.

        :raises EngineClosedError: nobody answers.
        """
        connection = self._connection(OPENS_S)
        try:
            connection.request("GET", path, headers=self._headers())
            response = connection.getresponse()
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
        except _BROKEN:
            connection.close()
            raise gone(self.address) from None
        return connection, response

    def told(self, reply: Reply) -> Any:
        """The JSON of a reply.

        :raises OmlxError: what the server says went wrong.
        """
        if reply.status == 200:
            return reply.json()
        raise refused(reply, self.address)

    def close(self) -> None:
        with self._lock:
            self._closed, idle = True, list(self._idle)
            self._idle.clear()
        for connection in idle:
            with contextlib.suppress(OSError):
                connection.close()


def refused(reply: Reply, address: Address) -> OmlxError:
    """The error that a reply stands for."""
    if reply.status == 401:
        return RequestError(
            f"{address.shown} wants a token, and this one is missing, wrong or of an earlier start; connect by the "
            "server's name, or name the variable that holds it with --key-env."
        )
    try:
        said = json.loads(reply.body)
    except ValueError:
        said = None
    if isinstance(said, Mapping) and isinstance(said.get("error"), Mapping):
        return wire.error_in(dict(said["error"]))
    return RequestError(f"{address.shown} answered {reply.status}; see its log.")
