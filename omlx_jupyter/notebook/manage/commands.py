"""The commands of `%omlx`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...visible import size
from ..line import split_line
from ..plain import name, tell
from ..settings.config import settings
from ..work import chats, jobs, servers, session
from . import cache_command, doctor, server_commands, settings_command

if TYPE_CHECKING:
    from ..shell import Shell


def run_command(shell: Shell, line: str) -> Any:
    """:raises UsageError: an unknown command or a missing argument."""
    words = [w.text for w in split_line(line)]
    wanted, rest = (words[0], words[1:]) if words else ("status", [])
    command = COMMANDS.get(wanted)
    if command is None:
        raise UsageError(f"%omlx has no command {wanted}; it knows {', '.join(COMMANDS)}.")
    if rest and wanted in _BARE:
        raise UsageError(f"%omlx {wanted} takes nothing behind it; leave {' '.join(rest)} out.")
    return command(rest)


def _load(rest: list[str]) -> None:
    match rest:
        case [model] | [model, "--drafter", _] | ["--drafter", _, model] if not model.startswith("-"):
            drafter = rest[rest.index("--drafter") + 1] if "--drafter" in rest else None
        case _:
            raise UsageError(
                "%omlx load takes one model: a folder, a hub id like org/name, or tiny-ocr; --drafter NAME names a "
                "drafter model for it."
            )
    engine = session.engine(model, tell, drafter)
    tell(f"{name(engine.name)} is loaded ({engine.family}{', reads text by itself' if engine.is_ocr else ''}).")
    for warning in engine.warnings:
        tell(f"Note: {warning}")


def _unload(rest: list[str]) -> None:
    ended = session.unload()
    tell(f"{name(ended)} is unloaded." if ended else "No model is loaded.")


def _status(rest: list[str]) -> None:
    engine = session.current_engine()
    if engine is None:
        tell(f"No model is loaded; {settings().model or 'tiny-ocr'} comes with the first request.")
        return
    stats = engine.stats()
    tell(f"{name(stats.model)} · {engine.family} · {stats.state}")
    if servers.is_remote(engine):
        others = engine.others()
        with_whom = f" · also connected: {name(', '.join(others))}" if others else ""
        tell(f"on the server {name(engine.address.shown)}{with_whom}")
    tell(
        f"rows: {stats.decoding} writing, {stats.prefilling} in prefill, {stats.waiting + stats.preparing} waiting"
        f" · requests: {stats.finished} finished, {stats.failed} failed, {stats.cancelled} cancelled"
    )
    tell(
        f"tokens: {stats.prompt_tokens:,} read, {stats.completion_tokens:,} written"
        f" · pictures: {stats.images_encoded} encoded, {stats.images_reused} reused"
        f" · KV {stats.kv_bytes / 2**20:.1f} MiB, features {stats.feature_bytes / 2**20:.1f} MiB"
        f" · memory {size(stats.memory.total)} of {size(stats.memory.bound)}"
    )
    if stats.waiting_for:
        tell(f"waiting: {name(stats.waiting_for)}")


def _memory(rest: list[str]) -> None:
    engine = session.current_engine()
    if engine is None:
        tell(f"No model is loaded; {settings().model or 'tiny-ocr'} comes with the first request.")
        return
    stats = engine.stats()
    memory = stats.memory
    tell(f"{name(stats.model)}: {size(memory.total)} of {size(memory.bound)}")
    for account, held in memory.accounts.items():
        tell(f"  {account:<22} {size(held):>9}")
    tell(f"  promised to rows {size(memory.promised)}, held by other kernels {size(memory.others)}")
    if memory.pressed:
        tell("  the system is short of memory: the RAM tier was made smaller")
    if stats.waiting_for:
        tell(f"  waiting: {name(stats.waiting_for)}")


def _model(rest: list[str]) -> None:
    engine = session.current_engine()
    if "--drafter" in rest:
        _load(rest)
        engine, rest = session.current_engine(), []
    if rest not in ([], ["--prove"]):
        raise UsageError("%omlx model shows what the model may do; %omlx model --prove shows it anew.")
    if engine is None:
        tell(f"No model is loaded; {settings().model or 'tiny-ocr'} comes with the first request.")
        return
    if rest:
        engine.forget_proofs()
        model, drafter = engine.name, engine.drafter
        session.unload()
        engine = session.engine(model, tell, drafter)
    able = engine.capabilities
    tell(f"{name(engine.name)} · {engine.family}")
    for label, key, yes in (
        ("requests share the batch", "batched", able.batched),
        ("prompts are reused", "cached", able.cached),
        ("a row costs its own tokens only", "own_kv", able.own_kv),
        ("what is known already is drafted", "drafts", able.drafts),
    ):
        tell(f"  {'yes' if yes else 'no '}  {label}" + (f" ({name(able.why[key])})" if key in able.why else ""))
    if engine.drafter:
        why = f" ({name(able.why['drafter'])})" if "drafter" in able.why else ""
        tell(f"  {'yes' if able.drafter else 'no '}  {name(engine.drafter)} drafts while that saves time{why}")
    if able.together_to:
        tell(f"  rows longer than {able.together_to:,} tokens run alone: they would change their neighbours")


def _models(rest: list[str]) -> None:
    from ...models.hub import EMBEDDED, cached_models

    running = session.current_engine()
    for model in [EMBEDDED, *cached_models()]:
        marks = [
            m for m, yes in (("embedded", model == EMBEDDED), ("loaded", running and running.name == model)) if yes
        ]
        tell(name(model) + (f"  ({', '.join(marks)})" if marks else ""))


def _dashboard(rest: list[str]) -> Any:
    from ..watch import dashboard

    return dashboard.make()


_BARE = ("unload", "status", "models", "memory", "dashboard", "settings", "disconnect")
COMMANDS: dict[str, Callable[[list[str]], Any]] = {
    "load": _load,
    "unload": _unload,
    "status": _status,
    "model": _model,
    "models": _models,
    "memory": _memory,
    "cache": cache_command.command,
    "chats": chats.command,
    "jobs": jobs.command,
    "dashboard": _dashboard,
    "doctor": doctor.command,
    "connect": server_commands.connect,
    "disconnect": server_commands.disconnect,
    "serve": server_commands.serve,
    "settings": settings_command.show,
    "set": settings_command.change,
}
