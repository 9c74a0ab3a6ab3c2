"""NAME_OR_URL -> an engine: a server of this user by its name, another of ours by its address, or a foreign one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import EngineClosedError, RequestError
from . import place, wire
from .engine import RemoteEngine
from .line import Address, Line

if TYPE_CHECKING:
    from ..images.limits import Limits
    from .foreign import ForeignEngine


def connect(
    name_or_url: str = place.USUAL, model: str | None = None, *, key: str = "", image_limits: Limits | None = None
) -> RemoteEngine | ForeignEngine:
    """An engine that lives elsewhere, with the front of the kernel's own.

    `name_or_url` is the name of a server of this user (`python -m omlx_jupyter serve --name ...`), or the address of a
    server of ours or of one that speaks OpenAI's shapes (`http://host:port/v1`). `key` is its token, which is kept out
    of every text. `image_limits` is what pictures may cost on this side.

    :raises EngineClosedError: nobody answers there.
    :raises RequestError: there is no such server or model, or the key is wrong.
    """
    if "://" not in name_or_url:
        return RemoteEngine(_by_name(name_or_url), model, image_limits)
    url = name_or_url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"{url[:200]} isn't an address of a server; give http://, https:// or a server's name.")
    known = place.by_url(url.removesuffix("/v1"))
    ours = Address(url, url=url.removesuffix("/v1"), token=key or (known.token if known else ""))
    if known is not None or _is_ours(ours):
        return RemoteEngine(ours, model, image_limits)
    from .foreign import ForeignEngine

    return ForeignEngine(url, model, key=key, image_limits=image_limits)


def _by_name(name: str) -> Address:
    found = place.read(name)
    if found is None:
        there = ", ".join(place.names()) or "none"
        raise EngineClosedError(
            f"there is no server {name[:60]} on this machine (there is: {there}); start one with "
            f"python -m omlx_jupyter serve --name {name[:60]}, or %omlx serve."
        )
    return Address(name, socket=found.socket)


def _is_ours(address: Address) -> bool:
    """:raises EngineClosedError: nobody answers."""
    line = Line(address)
    try:
        reply = line.ask("GET", f"{wire.ROOT}/hello", timeout=10.0)
        return reply.status in (200, 401) and b"omlx" in reply.body[:2000]
    finally:
        line.close()
