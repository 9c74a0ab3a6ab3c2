"""What the kernel's engine is doing, as one plain dictionary: for the dashboard and for JupyterLab's panel."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..work import servers, session

if TYPE_CHECKING:
    from .protocol import Snapshot


class Watcher:
    """Snapshots with a history of tokens per second; one per viewer."""

    def __init__(self, points: int = 60) -> None:
        self._history: deque[float] = deque(maxlen=points)
        self._last: tuple[int, float] | None = None

    def snapshot(self) -> Snapshot:
        """JSON values only; `{"model": ""}` where no model is loaded."""
        engine = session.current_engine()
        if engine is None:
            self._last = None
            return {"model": ""}
        stats = engine.stats()
        lanes = [asdict(lane) for lane in engine.requests()]
        written = stats.completion_tokens + sum(lane["tokens"] for lane in lanes)
        now = time.monotonic()
        rate = 0.0
        if self._last is not None and now > self._last[1]:
            rate = max(0.0, (written - self._last[0]) / (now - self._last[1]))
        self._last = (written, now)
        self._history.append(round(rate, 1))
        made: Snapshot = {
            "model": stats.model,
            "state": stats.state,
            "tokens_per_s": round(rate, 1),
            "history": list(self._history),
            "lanes": lanes,
            "waiting_for": stats.waiting_for,
            "recent": [asdict(done) for done in engine.recent()],
            "cache": asdict(stats.cache),
            "kv_bytes": stats.kv_bytes,
            "images_encoded": stats.images_encoded,
            "images_reused": stats.images_reused,
            "prompt_tokens": stats.prompt_tokens,
            "finished": stats.finished,
            "failed": stats.failed,
        }
        if servers.is_remote(engine):
            made["where"], made["others"] = engine.address.shown, engine.others()
        return made


def same(new: object, old: object) -> bool:
    """Whether two snapshots, or messages that hold one, say the same: an idle engine's history is no news."""
    if isinstance(new, dict) and isinstance(old, dict):
        quiet = "history" in new and not any([*new["history"], *old.get("history", ())]) and not new.get("lanes")
        skipped = ("history", "tokens_per_s") if quiet else ()
        return set(new) == set(old) and all(same(new[k], old[k]) for k in new if k not in skipped)
    return bool(new == old)
