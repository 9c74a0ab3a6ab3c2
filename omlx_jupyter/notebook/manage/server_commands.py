"""`%omlx connect`, `disconnect` and `serve`."""

from __future__ import annotations

from IPython.core.error import UsageError

from ..plain import name, tell
from ..settings.config import settings
from ..work import servers, session

_CONNECT = "%omlx connect NAME_OR_URL [--model M] [--key-env VAR or keyring:SERVICE[:USER]]"
_SERVE = "%omlx serve [--name N] [--model M ...] [--port P] [--idle-exit S]"


def connect(rest: list[str]) -> None:
    """%omlx connect NAME_OR_URL [--model M] [--key-env VAR]"""
    words, flags = _flags(rest, ("--model", "--key-env"), _CONNECT)
    if len(words) > 1 or not (words or settings().server):
        raise UsageError(f"{_CONNECT}: the name of a server on this machine, or an address.")
    place = words[0] if words else settings().server
    key_env = flags.get("--key-env", [settings().server_key_env if not words else ""])[-1]
    made = session.connect(place, flags.get("--model", [None])[-1], key_env or "")
    _tell_connected(made)


def _tell_connected(made: object) -> None:
    shown, model = name(made.address.shown), name(made.name)  # type: ignore[attr-defined]
    tell(f"Connected to {shown}: {model} answers there. %omlx disconnect goes back to this kernel's own engine.")
    for warning in made.warnings:  # type: ignore[attr-defined]
        tell(f"Note: {warning}")


def disconnect(rest: list[str]) -> None:
    running = session.current_engine()
    goes_on = running is not None and running.stats().state != "closed"
    left = session.disconnect()
    if left is None:
        tell("This kernel uses its own engine.")
        return
    on = ", which goes on" if goes_on else ""
    tell(f"Disconnected from {name(left)}{on}. This kernel's own engine comes with the next request.")


def serve(rest: list[str]) -> None:
    """%omlx serve [--name N] [--model M ...] [--port P] [--idle-exit S]"""
    words, flags = _flags(rest, ("--name", "--model", "--port", "--idle-exit"), _SERVE)
    if words:
        raise UsageError(f"{_SERVE}; leave {' '.join(words)} out.")
    called = flags.get("--name", ["main"])[-1]
    running = session.current_engine()
    usual = settings().model or "tiny-ocr"
    mine = running.name if running is not None and not servers.is_remote(running) else usual
    arguments = [word for model in flags.get("--model", [mine]) for word in ("--model", model)]
    for flag in ("--port", "--idle-exit"):
        arguments += [flag, flags[flag][-1]] if flag in flags else []
    if settings().memory_mib:
        arguments += ["--memory-mib", str(settings().memory_mib)]
    if settings().cache_folder:
        arguments += ["--cache-folder", settings().cache_folder]
    log = servers.start(arguments, called)
    made = session.connect(called)
    _tell_connected(made)
    tell(
        f"The server outlives this kernel; `python -m omlx_jupyter stop --name {called}` ends it, and other kernels "
        f"use it after %omlx connect {called}. Its log is {name(log)}."
    )


def _flags(rest: list[str], known: tuple[str, ...], usage: str) -> tuple[list[str], dict[str, list[str]]]:
    """(words, values by flag). :raises UsageError: an unknown flag, or one without its value."""
    words: list[str] = []
    flags: dict[str, list[str]] = {}
    left = list(rest)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            words.append(word)
        elif word not in known or not left:
            raise UsageError(f"{usage}: {word} " + ("needs a value." if word in known else "isn't known."))
        else:
            flags.setdefault(word, []).append(left.pop(0))
    return words, flags
