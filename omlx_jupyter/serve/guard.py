"""Who may ask and how much: the token, the Host header, sizes and times. In front of every route."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DRAIN_S, _DRAINED = 2.0, 16 * 2**20


@dataclass(frozen=True)
class Bounds:
    """What a client may cost. Bytes, counts and seconds."""

    body: int = 256 * 2**20
    connections: int = 512
    queue: int = 4096  # requests of all clients that aren't finished
    body_s: float = 60.0  # between two pieces of a body
    pictures: int = 512 * 2**20  # kept of what clients sent
    pixels: int = 120_000_000


class Refused(Exception):
    """An answer that isn't 200, with one sentence."""

    def __init__(self, status: int, sentence: str, kind: str = "RequestError") -> None:
        super().__init__(sentence)
        self.status, self.kind = status, kind


class Guard:
    """Over a Unix socket the folder's rights are the guard; over TCP a token is asked for, and a Host header that names
    this server: a page whose name was made to lead here (DNS rebinding) has another."""

    def __init__(self, app: App, token: str, hosts: Collection[str], bounds: Bounds) -> None:
        self._app, self._token, self._hosts, self._bounds = app, token.encode(), frozenset(hosts), bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets: uvicorn refuses them
        headers = {key.lower(): value for key, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _drain(receive)
            await refuse(send, refused)
            return
        await self._app(scope, self._bounded(receive), send)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Refused | None:
        if not over_socket(scope):
            if host_of(headers.get(b"host", b"")) not in self._hosts:
                return Refused(421, "the Host header names no address of this server.")
            if b"origin" in headers:
                return Refused(403, "pages in a browser may not ask this server.")
            if not self._knows(headers.get(b"authorization", b"")):
                return Refused(401, "this omlx_jupyter server wants its token as Authorization: Bearer TOKEN.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._bounds.body:
            return self._too_large()
        return None

    def _knows(self, given: bytes) -> bool:
        kind, _, token = given.partition(b" ")
        known = hmac.compare_digest(token.strip(), self._token)  # in constant time, whatever came
        return known and kind.lower() == b"bearer" and bool(self._token)

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is over the limit of {self._bounds.body // 2**20} MiB; send less at once.")

    def _bounded(self, receive: Receive) -> Receive:
        got, going_on = [0], [True]

        async def bounded() -> dict[str, Any]:
            if not going_on[0]:
                return await receive()  # waits for the client to go
            try:
                message = await asyncio.wait_for(receive(), self._bounds.body_s)
            except TimeoutError:
                raise Refused(408, "the body came too slowly; send it again.") from None
            going_on[0] = bool(message.get("more_body"))
            got[0] += len(message.get("body", b""))
            if got[0] > self._bounds.body:
                raise self._too_large()
            return message

        return bounded


async def _drain(receive: Receive) -> None:
    """Take a part of a body that isn't wanted: who is still sending when the connection is closed hears no answer."""
    got, ends = 0, asyncio.get_running_loop().time() + _DRAIN_S
    with contextlib.suppress(TimeoutError):
        while got < _DRAINED and (left := ends - asyncio.get_running_loop().time()) > 0:
            message = await asyncio.wait_for(receive(), left)
            got += len(message.get("body", b""))
            if not message.get("more_body"):
                return


def over_socket(scope: Scope) -> bool:
    """Whether a request came over the Unix socket: uvicorn then knows a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None and scope.get("client") is None


def host_of(value: bytes) -> str:
    """The name in a Host header, without its port."""
    text = value.decode("latin-1").strip().lower()
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit():
        text = name
    return text.removeprefix("[").removesuffix("]")


def hosts_of(host: str, more: Collection[str] = ()) -> set[str]:
    """The names under which a server that listens on `host` is asked."""
    made = {"127.0.0.1", "localhost", "::1", host.lower(), *(name.lower() for name in more)}
    try:
        if ipaddress.ip_address(host).is_unspecified:
            import socket

            made.add(socket.gethostname().lower())
    except ValueError:
        pass
    return made


async def refuse(send: Send, refused: Refused) -> None:
    body = json.dumps(
        {"error": {"kind": refused.kind, "message": str(refused), "type": "invalid_request_error"}}
    ).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status in (429, 503):
        headers.append((b"retry-after", b"1"))
    if refused.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
