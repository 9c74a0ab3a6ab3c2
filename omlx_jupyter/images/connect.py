"""Connections that go to checked addresses only, with one deadline over all they do."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any

import httpcore

from ..errors import ImageError
from .limits import Limits
from .networks import forbidden, plain


class Deadline:
    """Seconds left of one fetch."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """:raises httpcore.ReadTimeout: none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time is up")
        return left


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a host once, checks every address, and connects to those very addresses.

    A name that resolves differently the next time gains nothing, since there is no next time.
    """

    def __init__(self, limits: Limits, deadline: Deadline, check: bool = True) -> None:
        self._check = check and not limits.allow_private_urls
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(host, port, self._deadline)
        if self._check:
            check(host, addresses)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._plain.connect_tcp(address, port, self._deadline.left(), local_address, socket_options)
                return _Timed(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class _Timed(httpcore.NetworkStream):
    """A stream whose every wait ends with the deadline, so that no drip of bytes outlasts it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        return _Timed(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def check(host: str, addresses: list[str]) -> None:
    """:raises ImageError: one of the host's addresses is not for fetching."""
    for address in addresses:
        reason = forbidden(address)
        if reason is not None:
            raise ImageError(
                f"{host} resolves to the private address {plain(address)} ({reason}); "
                "set allow_private_urls if you trust it."
            )


def resolve(host: str, port: int, deadline: Deadline) -> list[str]:
    """A host's addresses, in the resolver's order.

    :raises ImageError: there is no such host.
    :raises httpcore.ReadTimeout: the resolver, which can't be interrupted, took too long.
    """
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:  # OSError, and UnicodeError for names that IDNA refuses
            answers.put(error)

    threading.Thread(target=ask, name="omlx-resolve", daemon=True).start()
    try:
        found = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise httpcore.ConnectTimeout("the host's name took too long to resolve") from None
    if isinstance(found, Exception):
        raise ImageError(f"the host {host} can't be found; check the address and the connection.") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
