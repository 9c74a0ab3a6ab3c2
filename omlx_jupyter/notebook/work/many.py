"""Many pictures through the batch: one progress line, results in order, errors beside them, resumable."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...chat.pages import Reading, read_picture
from ...errors import OmlxError
from ...images.pdf import PdfPage
from ...images.source import open_images
from ...types import Generation, SamplingParams
from ..answers.result import Failure, Result, ResultList
from ..settings import per_model
from ..settings.config import settings
from ..settings.per_model import for_model
from . import session
from .layouts import chosen
from .run import Interrupted

if TYPE_CHECKING:
    from ...images.decoded import DecodedImage
    from ...models.layout_model import LayoutModel

AHEAD = 16  # pictures that are read, queued or running at a time
_TICK_S = 0.02
# Finished items of runs that were interrupted, so that the same run goes on where it stopped.
_finished: dict[Any, Result] = {}

Tell = Callable[[int, int, int, float], None]  # done, all, failed, seconds


def read_many(
    items: Sequence[object],
    prompt: str | None,
    sampling: SamplingParams,
    tell: Tell | None = None,
    ahead: int = AHEAD,
    whole: bool = False,
    draft: bool = True,
    hints: Sequence[str] = (),
    layout: bool | str = False,
) -> ResultList:
    """One result per item, in order; an item that fails is a `Failure` in its place. `hints` has one for each.

    :raises KeyboardInterrupt: what is finished is kept, and is not done again by the same call.
    """
    made: dict[int, Result | Failure] = {}
    running: dict[int, _Opening] = {}
    waiting = list(enumerate(items))
    session.engine(say=None)  # what is kept is of one model
    keys = _keys(items, prompt, sampling, whole, layout)
    detector = chosen(layout)
    began = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                index, item = waiting.pop(0)
                known = _finished.get(keys[index])
                if known is not None:
                    made[index] = known
                else:
                    hint = hints[index] if hints else ""
                    running[index] = _Opening(item, prompt, sampling, whole, draft, hint, detector)
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


def finished_of(
    items: Sequence[object],
    prompt: str | None,
    sampling: SamplingParams,
    whole: bool = False,
    layout: bool | str = False,
) -> ResultList:
    """What an interrupted run of these items has."""
    keys = _keys(items, prompt, sampling, whole, layout)
    return ResultList(_finished[key] for key in keys if key in _finished)


def many_kept(done: int, count: int) -> Interrupted:
    """What is said where a run of many pictures was interrupted."""
    return Interrupted(None, f"Interrupted: {done} of {count} are kept in _; run it again to go on.")


def _keys(
    items: Sequence[object], prompt: str | None, sampling: SamplingParams, whole: bool, layout: bool | str = False
) -> list[Any]:
    """What makes each request the same in a second run: its model and all that is set for it, too."""
    engine, config = session.current_engine(), settings()
    model = engine.name if engine else per_model.resolve(config.model) or "tiny-ocr"
    said = repr(for_model(config, sampling, model, bool(engine and engine.thinks)))
    regions = (layout, config.layout_model if layout is True else "")
    read = (config.reads_whole(whole), regions, config.pixel_budget)
    asked = (str(engine.path) if engine else model, prompt, said, *read)
    return [(_identity(item), *asked) for item in items]


class _Opening:
    """A picture that is opened, cut and queued on a thread of its own, and then read; used as a handle is."""

    def __init__(
        self,
        item: object,
        prompt: str | None,
        sampling: SamplingParams,
        whole: bool,
        draft: bool,
        hint: str,
        layout: LayoutModel | bool,
    ) -> None:
        self._cancelled = False
        limits = settings().image_limits()
        whole = settings().reads_whole(whole)

        def begin(engine: Any, opened: list[DecodedImage]) -> Reading:
            filled = for_model(settings(), sampling, engine.name, engine.thinks)
            return read_picture(engine, opened, prompt, filled, whole, draft=draft, hint=hint, layout=layout)

        def start() -> Reading:
            opened = open_images(item, limits)
            handle = session.submit(lambda e: begin(e, opened))
            if self._cancelled:
                handle.cancel()
            return handle

        self._started = _openers().submit(start)

    @property
    def done(self) -> bool:
        if not self._started.done():
            return False
        return self._started.exception() is not None or self._started.result().done

    def cancel(self) -> None:
        self._cancelled = True
        if not self._started.cancel() and self._started.done() and self._started.exception() is None:
            self._started.result().cancel()

    def result(self) -> Generation:
        """:raises OmlxError: the picture can't be opened, or its request failed."""
        return self._started.result().result()


@cache
def _openers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, "omlx-open")


def _collect(handle: _Opening, item: object, prompt: str | None) -> Result | Failure:
    engine = session.current_engine()
    try:
        return Result(
            handle.result(),
            [item],
            prompt or "",
            engine.name if engine else "",
            source=name_of(item),
            grounding=engine.grounding if engine else None,
        )
    except OmlxError as error:
        return Failure(error, name_of(item))


def name_of(item: object) -> str:
    if isinstance(item, str | Path | PdfPage):
        return str(item) if len(str(item)) <= 120 else str(item)[:117] + "…"
    return str(getattr(item, "source", "") or f"a {type(item).__name__}")


def _identity(item: object) -> Any:
    """What makes an item the same in a second run: a file by its path, size and time, all else by its content."""
    path = item.path if isinstance(item, PdfPage) else item
    if isinstance(path, str | Path):
        try:
            status = Path(path).expanduser().stat()
            return (os.path.abspath(path), str(item), status.st_mtime_ns, status.st_size)
        except (OSError, ValueError):
            return str(item)
    if isinstance(item, bytes | bytearray):
        return hashlib.blake2b(item).digest()
    if digest := getattr(item, "digest", None):
        return digest
    try:
        return open_images(item, settings().image_limits())[0].digest
    except OmlxError:
        return object()  # never the same: it fails again, or is another thing by then
