"""`%omlx doctor NAME_OR_URL`: a connection step by step, up to a first token."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

from ...errors import OmlxError
from ...types import SamplingParams
from ..work import servers, session

Finding = tuple[bool, str]


def steps(name_or_url: str) -> Iterator[Finding]:
    """Findings in order; the first that is bad ends them."""
    if "://" not in name_or_url:
        for good, line in _record(name_or_url):
            yield good, line
            if not good:
                return
    began = time.monotonic()
    running = session.current_engine()
    connected = running if running is not None and servers.is_remote(running) else None
    key_env = connected.asked_for[2] if connected is not None and connected.address.shown == name_or_url else ""
    try:
        engine = servers.opened(name_or_url, None, key_env)  # beside the kernel's, which stays what it is
    except OmlxError as error:
        yield False, str(error)
        return
    with engine:
        yield True, f"it answers, in {1000 * (time.monotonic() - began):.0f} ms; model {engine.name} ({engine.family})"
        try:
            made = engine.generate("Hello", sampling=SamplingParams(max_tokens=1), timeout=60)
        except (OmlxError, TimeoutError) as error:
            yield False, f"a request of one token failed: {error}"
            return
        yield True, f"a request of one token: {made.usage.total_s * 1000:.0f} ms"
        for note in made.notes:
            yield False, note
        for who in engine.others():
            yield True, f"also connected: {who}"


def _record(name: str) -> Iterator[Finding]:
    from ...remote import place

    found = place.read(name)
    if found is None:
        there = ", ".join(place.names()) or "none"
        yield (
            False,
            f"{place.folder()} has no record of a server {name} (there is: {there}); start one with %omlx serve.",
        )
        return
    yield True, f"record of {name}: process {found.pid}, models {', '.join(found.models)}"
    try:
        kind = os.stat(found.socket).st_mode
    except OSError as error:
        yield False, f"its socket {found.socket} is missing ({error.strerror}); start the server anew."
        return
    private = stat.S_ISSOCK(kind) and not kind & 0o077
    yield private, f"its socket {found.socket} " + ("is yours alone" if private else "can be opened by others; stop it")
