"""Messages between the kernel and JupyterLab's panel. comm.schema.json is their definition (docs/comm.md)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Required, TypeAlias, TypedDict, get_args, get_type_hints

TARGET = "omlx_jupyter"
VERSION = 1
Level = Literal["off", "status", "panel"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """Kernel to page: the status bar's figures. `where`: the server that holds the model, "" for the kernel."""

    model: str
    state: str
    rows: int
    tokens_per_s: float
    cached: float
    where: str
    note: str


class Snapshot(TypedDict, total=False):
    """What the engine is doing. `model` is "" where none is loaded, and nothing else is there; `where` and `others` are
    there where it lives on a server."""

    model: Required[str]
    state: str
    tokens_per_s: float
    history: list[float]  # tokens a second, the newest last
    lanes: list[dict[str, Any]]  # each an `engine.lanes.Lane`
    waiting_for: str
    recent: list[dict[str, Any]]  # each an `engine.lanes.Finished`
    cache: dict[str, Any]  # a `CacheStats`
    kv_bytes: int
    images_encoded: int
    images_reused: int
    prompt_tokens: int
    finished: int
    failed: int
    where: str
    others: list[str]


class JobShown(TypedDict):
    number: int
    state: str
    prompt: str
    done: bool


class ChatShown(TypedDict):
    name: str
    turns: int
    pictures: int


class StoreShown(TypedDict):
    """What the cache's folder holds of one model."""

    name: str
    bytes: int
    blocks: int
    tokens: int


@dataclass(frozen=True)
class Panel:
    """Kernel to page: all that the side panel shows."""

    dashboard: Snapshot | None
    jobs: list[JobShown]
    chats: list[ChatShown]
    stores: list[StoreShown]
    note: str


@dataclass(frozen=True)
class Models:
    """Kernel to page: what can be loaded without a download."""

    names: list[str]


@dataclass(frozen=True)
class Problem:
    """Kernel to page: what a command could not do."""

    text: str


@dataclass(frozen=True)
class Watch:
    """Page to kernel: how much it wants to see, for a minute."""

    page: str
    level: Level


@dataclass(frozen=True)
class Load:
    model: str


@dataclass(frozen=True)
class Unload:
    pass


@dataclass(frozen=True)
class ListModels:
    pass


@dataclass(frozen=True)
class CancelJob:
    number: int


@dataclass(frozen=True)
class ClearStore:
    model: str


@dataclass(frozen=True)
class ForkChat:
    name: str
    new: str


@dataclass(frozen=True)
class ClearChat:
    name: str


FromKernel: TypeAlias = Status | Panel | Models | Problem
FromPage: TypeAlias = Watch | Load | Unload | ListModels | CancelJob | ClearStore | ForkChat | ClearChat
FROM_KERNEL = {"status": Status, "panel": Panel, "models": Models, "problem": Problem}
FROM_PAGE: dict[str, type[FromPage]] = {
    "watch": Watch,
    "load": Load,
    "unload": Unload,
    "list_models": ListModels,
    "cancel_job": CancelJob,
    "clear_store": ClearStore,
    "fork_chat": ForkChat,
    "clear_chat": ClearChat,
}
_KINDS = {cls: kind for kind, cls in {**FROM_KERNEL, **FROM_PAGE}.items()}
_told: set[str] = set()


def encode(message: FromKernel | FromPage) -> dict[str, Any]:
    """A message as JSON values."""
    return {"v": VERSION, "kind": _KINDS[type(message)], **asdict(message)}


def parse(data: object) -> FromPage | None:
    """A page's message, or None where it is unknown or malformed, which is logged once a kind."""
    if isinstance(data, dict) and data.get("v") == VERSION:
        cls = FROM_PAGE.get(str(data.get("kind")))
        fields = {name: value for name, value in data.items() if name not in ("v", "kind")}
        if cls is not None and _fits(cls, fields):
            return cls(**fields)
    kind = str(data.get("kind"))[:40] if isinstance(data, dict) else type(data).__name__
    if kind not in _told and len(_told) < 100:
        _told.add(kind)
        _log.warning("a message of the page (%s) was not understood and is ignored", kind)
    return None


def _fits(cls: type, fields: Mapping[str, object]) -> bool:
    hints = get_type_hints(cls)
    if {f.name for f in dataclasses.fields(cls)} != set(fields):
        return False
    for name, value in fields.items():
        allowed = get_args(hints[name])
        if value not in allowed if allowed else type(value) is not hints[name]:
            return False
    return True
