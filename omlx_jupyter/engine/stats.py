"""A frozen snapshot of the engine, for people and dashboards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..cache.prefix_cache import CacheStats
from ..models.identity import identity_of
from ..types import SamplingParams
from .budget import MemoryStats
from .guard import FaultCounts, Guard

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel
    from .runner import Runner
    from .stepper import Stepper


@dataclass(frozen=True)
class EngineStats:
    """Counts since the engine was loaded, and where each request is now."""

    model: str
    state: str  # loading, idle, prefill, decode, closed
    preparing: int  # pictures being fetched, decoded or preprocessed
    waiting: int  # prepared, not yet admitted
    prefilling: int
    decoding: int
    finished: int
    failed: int
    cancelled: int
    steps: int
    prompt_tokens: int
    completion_tokens: int
    images_encoded: int
    images_reused: int
    kv_bytes: int
    feature_bytes: int
    cache: CacheStats = field(default_factory=CacheStats)
    waiting_for: str = ""  # why the first waiting request isn't admitted
    faults: FaultCounts = field(default_factory=FaultCounts)
    memory: MemoryStats = field(default_factory=MemoryStats)


@dataclass(frozen=True)
class Capabilities:
    """What the loaded model may do, as it was shown on its weights when it was loaded.

    `batched`: requests share decode steps; `cached`: prompts are reused; `own_kv`: a row costs its own tokens, not the
    longest row's; `drafts`: what is known already is only checked; `drafter`: a drafter model is asked too, the one
    that was named. Rows longer than `together_to` tokens run alone (0: no such length). `why` says why not, by name.
    """

    batched: bool
    cached: bool
    own_kv: bool
    drafts: bool = False
    drafter: bool = False
    together_to: int = 0
    why: dict[str, str] = field(default_factory=dict)
    identity: str = ""  # of the weights and what else makes its answers
    sampling: SamplingParams = field(default_factory=SamplingParams)  # what the checkpoint says of its requests


def capabilities_of(model: LoadedModel, runner: Runner) -> Capabilities:
    """Of a loaded model and its runner."""
    alone = bool(model.alone_because) or not model.family.batchable
    rows, batched = runner.rows, not alone
    cached = runner.reuse.cache is not None and not model.whole_because
    why = {}
    if not batched:
        why["batched"] = model.alone_because or "its family's requests run one at a time"
    if not cached:
        off = model.whole_because or "the cache is off, or a layer's cache is of an unknown kind"
        why["cached"] = off if model.family.batchable else "it runs alone"
    if rows is None:
        why["own_kv"] = "its layers keep more than plain KV" if batched else "it runs alone"
    elif rows.why:
        why["own_kv"] = rows.why
    own = rows is not None and rows.grouping.handles
    if not own:
        why["drafts"] = "a refused draft couldn't be forgotten"
    drafter = runner.drafting.drafter
    if model.drafter_why or (drafter is not None and drafter.why):
        why["drafter"] = model.drafter_why or (drafter.why if drafter is not None else "")
    return Capabilities(
        batched,
        cached,
        own,
        runner.drafting.possible,
        drafter is not None and not drafter.why,
        rows.shared_to if rows else 0,
        why,
        identity_of(model.checkpoint, model.dtype),
        model.defaults,
    )


def snapshot(
    state: str,
    model: LoadedModel | None,
    runner: Runner | None,
    waiting_for: str,
    counts: dict[str, int],
    guard: Guard,
    stepper: Stepper | None = None,
) -> EngineStats:
    """The figures as they stand; `model` and `runner` are None before loading and after closing."""
    batch = runner.batch if runner else None
    return EngineStats(
        model=model.name if model else "",
        state=state,
        decoding=len(batch.rows) if batch else 0,
        steps=batch.steps if batch else 0,
        images_encoded=runner.pictures.encoded if runner else 0,
        kv_bytes=batch.nbytes if batch else 0,
        feature_bytes=runner.pictures.features.nbytes if runner else 0,
        cache=runner.reuse.cache.stats() if runner and runner.reuse.cache else CacheStats(),
        waiting_for=waiting_for,
        faults=guard.counts,
        memory=stepper.keeper.stats() if runner and stepper else MemoryStats(),
        **counts,
    )
