"""Servers as the notebook uses them: connecting, starting one that outlives the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import EngineClosedError, RequestError
from ..settings.config import settings

if TYPE_CHECKING:
    from typing import TypeGuard

    from ...engine.front import Front
    from ...remote.front import RemoteFront

_STARTS_S = 600.0  # a model may have to be downloaded
_left: list[bool] = []  # `%omlx disconnect` was said: what is configured isn't connected to by itself


def is_remote(engine: Front) -> TypeGuard[RemoteFront]:
    return bool(getattr(engine, "remote", False))


def has_gone() -> bool:
    """Whether the kernel's engine is a server's that doesn't answer."""
    from . import session

    running = session.current_engine()
    return running is not None and is_remote(running) and running.stats().state == "closed"


def configured() -> bool:
    """Whether the kernel connects to a server by itself."""
    return bool(settings().server) and not _left


def leave() -> None:
    _left[:] = [True]


def connected(name_or_url: str, model: str | None, key_env: str = "") -> RemoteFront:
    """:raises OmlxError: nobody answers there, the variable is empty or its key is wrong."""
    made = opened(name_or_url, model, key_env)
    _left.clear()
    return made


def opened(name_or_url: str, model: str | None = None, key_env: str = "") -> RemoteFront:
    """An engine beside the kernel's, which stays what it is. Raises as `connected`."""
    from ...remote.connect import connect

    made = connect(name_or_url, model, key=_key(key_env), image_limits=settings().image_limits())
    made.asked_for = (name_or_url, model, key_env)
    return made


def _key(variable: str) -> str:
    """The key of a server, which is in the environment only: never in a notebook, a setting or a log.

    :raises RequestError: there is no such variable.
    """
    if not variable:
        return ""
    if variable.startswith(_KEYRING):
        return _of_keyring(variable.removeprefix(_KEYRING))
    key = os.environ.get(variable, "").strip()
    if not key or not variable.isidentifier():
        shown = variable if variable.isidentifier() and len(variable) < 80 else "what --key-env names"
        raise RequestError(
            f"{shown} is no variable of the environment that holds a key; set it before the kernel starts."
        )
    return key


_KEYRING = "keyring:"


def _of_keyring(words: str) -> str:
    """The key under `SERVICE` or `SERVICE:USER` of the system's keyring.

    :raises RequestError: no keyring, or none of that name in it.
    """
    service, _, user = words.partition(":")
    try:
        import keyring
    except ImportError:
        raise RequestError("a key in the keyring needs a package: pip install 'omlx_jupyter[keyring]'.") from None
    try:
        key = (
            keyring.get_password(service, user)
            if user
            else getattr(keyring.get_credential(service, None), "password", "")
        )
    except Exception as error:  # of whatever backend this machine has; its words may hold more than they should
        raise RequestError(f"the keyring can't be read ({type(error).__name__}).") from None
    if not (key or "").strip():
        raise RequestError(f"the keyring has no key for {service[:80]}; keyring set {service[:80]} NAME puts one in.")
    return str(key).strip()


def reconnected(lost: RemoteFront) -> RemoteFront:
    """The same server again.

    :raises EngineClosedError: it has gone.
    """
    from ...remote.line import gone

    name, model, key_env = lost.asked_for
    try:
        return connected(name, model or lost.name, key_env)
    except EngineClosedError:
        raise gone(lost.address) from None


def start(arguments: list[str], name: str) -> Path:
    """Start a server that outlives this kernel; its log's path.

    :raises RequestError: it ended before it served; with its last words.
    """
    from ...remote import place

    place.checked_name(name)
    log = place.private_folder() / f"{name}.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    command = [sys.executable, "-m", "omlx_jupyter", "serve", "--name", name, *arguments]
    with os.fdopen(descriptor, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + _STARTS_S
    while time.monotonic() < deadline:
        found = place.read(name)
        if found is not None and found.pid == process.pid:
            return log
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RequestError(f"the server did not start: {said[-1][:500] if said else f'see {log}'}")
        time.sleep(0.05)
    process.terminate()
    raise RequestError(f"the server was not ready after {_STARTS_S:g} s; see {log}.")
