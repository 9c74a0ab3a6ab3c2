"""A server's figures -> the engine's own types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..cache.prefix_cache import CacheStats
from ..engine.budget import MemoryStats
from ..engine.guard import FaultCounts
from ..engine.lanes import Finished, Lane
from ..engine.phase import Phase
from ..engine.stats import Capabilities, EngineStats
from . import wire

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_NESTED: dict[str, Any] = {"cache": CacheStats, "faults": FaultCounts, "memory": MemoryStats}


def _known(kind: type[DataclassInstance], said: wire.Item) -> wire.Item:
    """A newer server may say more."""
    names = {f.name for f in fields(kind)}
    return {key: value for key, value in said.items() if key in names}


def stats_in(said: wire.Item) -> EngineStats:
    made = {k: _NESTED[k](**_known(_NESTED[k], v)) if k in _NESTED else v for k, v in said.items()}
    return EngineStats(**_known(EngineStats, made))


def closed(model: str) -> EngineStats:
    return EngineStats(model, "closed", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def lanes_in(said: Sequence[wire.Item]) -> list[Lane]:
    return [Lane(**_known(Lane, {**lane, "phase": Phase(lane["phase"])})) for lane in said]


def finished_in(said: Sequence[wire.Item]) -> list[Finished]:
    return [Finished(**_known(Finished, one)) for one in said]


def capabilities_in(said: wire.Item) -> Capabilities:
    made = {**said, "sampling": wire.sampling_in(said.get("sampling", {}))}
    return Capabilities(**_known(Capabilities, made))
