"""`%omlx cache`: what the prefix cache holds, and the means to empty and to check it."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError

from ...cache import check
from ...visible import size
from ..plain import name, tell
from ..settings.config import cache_folder
from ..work import session


def command(rest: list[str]) -> None:
    """%omlx cache | cache clear [MODEL] | cache verify"""
    action, *more = rest or ["show"]
    if action == "show" and not more:
        _show()
    elif action == "clear" and len(more) <= 1:
        _clear(more[0] if more else None)
    elif action == "verify" and not more:
        _verify()
    else:
        raise UsageError("%omlx cache shows it; %omlx cache clear [MODEL] empties it; %omlx cache verify checks it.")


def _show() -> None:
    place = cache_folder()
    found = check.entries(place)
    tell(name(place))
    for entry in found:
        tell(f"  {name(entry.name)}: {entry.blocks:,} blocks, {entry.tokens:,} tokens, {size(entry.bytes)}")
    if not found:
        tell("  nothing is stored yet")
    engine = session.current_engine()
    if engine is None:
        return
    stats = engine.stats().cache
    tell(f"RAM {size(stats.ram_bytes)} of {size(stats.ram_budget)} · SSD {size(stats.ssd_bytes)} of "
          f"{size(stats.ssd_budget)}{f' · off: {stats.ssd_paused}' if stats.ssd_paused else ''}")  # fmt: skip
    tell(
        f"this kernel: {stats.tokens_asked:,} prompt tokens, {stats.ram_hit_rate:.0%} from RAM, "
        f"{stats.ssd_hit_rate:.0%} from SSD, about {stats.saved_s:.1f} s saved · "
        f"evicted {stats.ram_evictions} from RAM, {stats.ssd_evictions} from SSD · {stats.ssd_damaged} damaged"
    )


def _clear(model: str | None) -> None:
    engine = session.current_engine()
    if engine is not None and model in (None, engine.name):
        engine.forget()
    freed = check.clear(cache_folder(), model)
    tell(f"{size(freed)} freed." if freed or model is None else f"Nothing is stored of {name(model)}.")


def _verify() -> None:
    report = check.verify(cache_folder(), _progress)
    tell(f"{report.blocks:,} blocks and {report.extras:,} states and features in {report.segments:,} files: "
          f"{'all sound' if report.ok else f'{len(report.problems)} damaged'}.")  # fmt: skip
    for problem in report.problems:
        tell(f"  {problem} (it is dropped when it is met)")


def _progress(done: int, total: int) -> Any:
    if total > 200 and done and done % 200 == 0:
        tell(f"{done:,} of {total:,} files …")
