"""A frozen snapshot of the engine, for people and dashboards."""

from __future__ import annotations

from dataclasses import dataclass


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
    waiting_for: str = ""  # why the first waiting request isn't admitted
