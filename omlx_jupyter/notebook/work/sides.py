"""The models of a comparison: where each answers, and whether memory has room for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...errors import ModelError, OmlxError, RequestError
from ...remote import place
from ...serve import house
from ...visible import size
from ..plain import name as one_line
from ..settings import per_model
from ..settings.config import settings
from . import servers, session


class Where(StrEnum):
    KERNEL = "kernel"  # the kernel's engine, whichever it is
    BESIDE = "beside"  # a model that is loaded for this comparison and freed after it
    SERVER = "server"  # somebody else's engine


@dataclass
class Side:
    """One model as it was typed. `need` is what loading it takes, in bytes; `error` why it can't answer at all; a
    server's key is in `key_env`, and `served` is which of its models answers."""

    name: str
    where: Where
    model: str
    need: int = 0
    error: Exception | None = None
    served: str | None = None
    key_env: str = ""

    def open(self, on_wait: Callable[[float, float], None]) -> Any:
        """Its engine, which is the caller's to close; the kernel's is lent by `session.submit`, and isn't opened.

        :raises OmlxError: it can't be loaded, or nobody answers there.
        """
        if self.where is Where.SERVER:
            usual = settings().server_key_env if self.model == settings().server else ""
            return servers.opened(self.model, self.served, self.key_env or usual)
        configured = self.model == per_model.resolve(settings().model)
        return session.loaded(self.model, settings().drafter if configured else None, on_wait)


@dataclass
class Plan:
    """`turns` run one after another, the sides of one at once; `told` says so. `away`: the kernel's engine is put away
    while the others answer, for which there is no room beside it."""

    sides: list[Side]
    turns: list[list[Side]] = field(default_factory=list)
    told: str = ""
    away: bool = False


def named(models: str | Sequence[str]) -> list[str]:
    """The names of a comparison: a list of them, or text with commas between.

    :raises RequestError: fewer than two, or one twice.
    """
    given = models.split(",") if isinstance(models, str) else list(models)
    names = [str(word).strip() for word in given]
    if len(names) < 2 or not all(names):
        raise RequestError("a comparison takes two models or more, with commas between: tiny-ocr,org/name.")
    if twice := [word for word in names if names.count(word) > 1]:
        raise RequestError(f"{one_line(twice[0])} is named twice; a comparison takes each model once.")
    return names


def planned(names: Sequence[str]) -> Plan:
    """Where each answers, and in which order. A model that isn't there is its side's `error`. What has to be
    downloaded is downloaded here.

    :raises RequestError: two names for the same model.
    :raises UsageError: the models' settings can't be read.
    """
    running = session.current_engine()
    plan = Plan([_side(word, running) for word in names])
    meant = [(side.where, side.model, side.served) for side in plan.sides]
    if twice := [side for side, key in zip(plan.sides, meant, strict=True) if meant.count(key) > 1]:
        raise RequestError(f"{one_line(' and '.join(side.name for side in twice))} are the same model; name others.")
    mine = [] if running is None or servers.is_remote(running) else [running]
    beside = [side for side in plan.sides if side.where is Where.BESIDE and side.error is None]
    room = house.free(settings().memory_mib * 2**20, mine)
    need = sum(side.need for side in beside)
    if need <= room or not (mine or len(beside) > 1):
        plan.turns = [plan.sides]
        plan.told = _told_together([side for side in plan.sides if side.error is None])
        return plan
    others = [side for side in plan.sides if side not in beside]
    plan.turns = [turn for turn in (others, *([side] for side in beside)) if turn]
    tight = max(side.need for side in beside) > room
    plan.away = bool(mine) and tight and not house.busy(running)
    plan.told = _told_in_turns(plan, need, room, running)
    return plan


def _told_together(sides: Sequence[Side]) -> str:
    names = one_line(", ".join(side.name for side in sides))
    shared = sum(side.where is not Where.SERVER for side in sides) > 1
    slower = "; they share this machine, so that each is slower than alone" if shared else ""
    return f"{names} answer at once{slower}." if len(sides) > 1 else ""


def _told_in_turns(plan: Plan, need: int, room: int, running: Any) -> str:
    order = ", then ".join(" and ".join(side.name for side in turn) for turn in plan.turns)
    away = f" {running.name} is put away meanwhile, and loaded again afterwards." if plan.away else ""
    return one_line(
        f"Memory has no room for all of them at once ({size(need)} more are needed, {size(max(0, room))} are free), so "
        f"they answer one after another: {order}.{away}"
    )


def _side(word: str, running: Any) -> Side:
    model = per_model.resolve(word)
    if running is not None and _is_running(word, model, running):
        return Side(word, Where.KERNEL, str(running.name))
    key_env, place_, served = _parts(word)
    if _is_server(place_, per_model.resolve(place_)):
        return Side(word, Where.SERVER, place_, served=served or None, key_env=key_env)
    side = Side(word, Where.BESIDE, model)
    try:
        side.need = house.room_for(house.size_of(model))
    except ModelError as error:
        known = "/" in model or model.startswith(("~", "."))
        side.error = error if known else ModelError(f"there is no model and no server {word[:100]} (%omlx models).")
    except OmlxError as error:
        side.error = error
    return side


def _parts(word: str) -> tuple[str, str, str]:
    """`KEY@SERVER#MODEL` -> (variable of the environment or keyring:..., name or address, model); the first and the
    last may be missing."""
    lead, mark, rest = word.partition("@")
    key, place_ = (lead, rest) if mark and "://" not in lead and "/" not in lead else ("", word)
    place_, _, served = place_.partition("#")
    return key, place_, served


def _is_running(word: str, model: str, running: Any) -> bool:
    """Whether it names the kernel's engine: its model, or the server that it lives on."""
    if servers.is_remote(running):
        return word in (running.address.shown, running.asked_for[0]) or model == running.name
    return model == running.name or (_folder(model) or "") == _folder(str(running.path))


def _folder(model: str) -> Path | None:
    try:
        found = Path(model).expanduser()
        return found.resolve() if found.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _is_server(word: str, model: str) -> bool:
    """An address, or the name of a server of this user that isn't a model's as well."""
    if "://" in word:
        return True
    return model == word and word != per_model.EMBEDDED and _folder(word) is None and place.read(word) is not None
