"""Many pictures through the batch: one progress line, results in order, errors beside them, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import OmlxError
from ..images.pdf import PdfPage
from ..types import ImagePart, Message, SamplingParams
from . import session
from .result import Failure, Result, ResultList

AHEAD = 16  # pictures that are read, queued or running at a time
_TICK_S = 0.02
# Finished items of runs that were interrupted, so that the same run goes on where it stopped.
_finished: dict[Any, Result] = {}

Tell = Callable[[int, int, int, float], None]  # done, all, failed, seconds


def read_many(
    items: Sequence[Any],
    prompt: str | None,
    sampling: SamplingParams,
    tell: Tell | None = None,
    ahead: int = AHEAD,
) -> ResultList:
    """One result per item, in order; an item that fails is a `Failure` in its place.

    :raises KeyboardInterrupt: what is finished is kept, and is not done again by the same call.
    """
    made: dict[int, Result | Failure] = {}
    running: dict[int, Any] = {}
    waiting = list(enumerate(items))
    keys = _keys(items, prompt, sampling)
    began = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                index, item = waiting.pop(0)
                known = _finished.get(keys[index])
                if known is not None:
                    made[index] = known
                else:
                    running[index] = _submit(item, prompt, sampling)
            for index in [i for i, handle in running.items() if handle.done]:
                made[index] = _collect(running.pop(index), items[index], prompt)
            if tell is not None:
                failed = sum(isinstance(result, Failure) for result in made.values())
                tell(len(made), len(items), failed, time.monotonic() - began)
            time.sleep(_TICK_S if running else 0)
    except BaseException:
        for handle in running.values():
            handle.cancel()
        for index, result in made.items():
            if isinstance(result, Result):
                _finished[keys[index]] = result
        raise
    for key in keys:
        _finished.pop(key, None)
    return ResultList(made[index] for index in range(len(items)))


def finished_of(items: Sequence[Any], prompt: str | None, sampling: SamplingParams) -> ResultList:
    """What an interrupted run of these items has."""
    keys = _keys(items, prompt, sampling)
    return ResultList(_finished[key] for key in keys if key in _finished)


def _keys(items: Sequence[Any], prompt: str | None, sampling: SamplingParams) -> list[Any]:
    """What makes each request the same in a second run."""
    return [(_identity(item), prompt, repr(sampling)) for item in items]


def _submit(item: Any, prompt: str | None, sampling: SamplingParams) -> Any:
    parts: list[Any] = [ImagePart(item), *([prompt] if prompt else [])]
    return session.submit(lambda e: e.submit([Message("user", parts)], sampling=sampling))


def _collect(handle: Any, item: Any, prompt: str | None) -> Result | Failure:
    engine = session.current_engine()
    try:
        return Result(handle.result(), [item], prompt or "", engine.name if engine else "", source=name_of(item))
    except OmlxError as error:
        return Failure(error, name_of(item))


def name_of(item: Any) -> str:
    if isinstance(item, str | Path | PdfPage):
        return str(item) if len(str(item)) <= 120 else str(item)[:117] + "…"
    return str(getattr(item, "source", "") or f"a {type(item).__name__}")


def _identity(item: Any) -> Any:
    """What makes an item the same in a second run: a file by its path and time, a picture by its pixels."""
    path = item.path if isinstance(item, PdfPage) else item
    if isinstance(path, str | Path):
        try:
            status = Path(path).expanduser().stat()
            return (str(item), status.st_mtime_ns, status.st_size)
        except (OSError, ValueError):
            return str(item)
    return getattr(item, "digest", None) or id(item)
