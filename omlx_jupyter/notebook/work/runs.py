"""`save=` and `--save`: runs over many sources in the notebook, with a progress line and the kernel's settings."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runs.passing import Figures
from ...runs.question import Question
from ...runs.run import AHEAD, Run
from ...runs.table import Table
from ...types import SamplingParams
from ..answers.sheet import LiveSheet, sheet_html
from ..answers.stream_view import make_view
from ..answers.view import Unfailing, is_static, shows_updates
from ..plain import bar, tell
from ..settings.config import settings
from ..settings.per_model import for_model
from . import session
from .layouts import chosen
from .run import Interrupted

if TYPE_CHECKING:
    from ...engine.front import Front
    from ..shell import Shell


class _Reviewed:
    """What a run has in a notebook beside."""

    def review(self) -> Any:
        """A widget with what the model was least sure of, beside its picture: Enter saves (and corrects), Alt and an
        arrow goes on. What is saved is a new line in the run's file, and truth for `evaluate(run)`."""
        from ..answers.review import review

        return review(self)  # type: ignore[arg-type]


class SavedRun(_Reviewed, Run):
    __doc__ = Run.__doc__


class SavedTable(_Reviewed, Table):
    __doc__ = Table.__doc__
    _filled_in: tuple[int, int] | None = None  # the execution that has displayed it already

    def _ipython_display_(self) -> None:
        """The sheet; nothing right after the cell has filled it."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        shell = get_ipython()
        if shell is not None and self._filled_in == (id(shell), shell.execution_count):
            return
        display({"text/html": str(sheet_html(self)), "text/plain": repr(self)}, raw=True)


def question(
    prompt: str | None,
    sampling: SamplingParams,
    *,
    json: object = None,
    system: str | None = None,
    whole: bool = False,
    layout: bool | str = False,
    twice: bool = False,
    documents: bool = False,
    draft: bool | None = None,
) -> Question:
    """What a run asks, under the notebook's settings.

    :raises RequestError: `json` is no schema.
    """

    def fill(asked: SamplingParams, engine: Front) -> SamplingParams:
        return for_model(settings(), settings().filled(asked), engine.name, engine.thinks)

    drafts = settings().drafts if draft is None else draft
    reading: dict[str, Any] = {
        "whole": settings().reads_whole(whole),
        "layout": chosen(layout),
        "twice": twice,
        "documents": documents,
    }
    return Question(prompt, sampling, json, system, draft=drafts, fill=fill, **reading)


def passing_place() -> Path:
    """A file for a run that isn't kept: it goes with the kernel."""
    folder = tempfile.mkdtemp(prefix="omlx-")
    atexit.register(shutil.rmtree, folder, True)
    return Path(folder) / "run.jsonl"


def begin(
    sources: object,
    asked: Question | Mapping[str, Question],
    save: str | Path,
    engine: Front | None = None,
    ahead: int = AHEAD,
) -> Run:
    """A run that has begun, in the background: a table where there are several questions. `engine` None is the
    kernel's.

    :raises RunError: the file is being written by somebody else, or can't be.
    :raises ModelError: the model can't be loaded.
    """
    answers: Callable[[], Front] = session.engine if engine is None else lambda: engine
    answers()  # a model that can't be loaded is told here, not by the run
    kind = SavedRun if isinstance(asked, Question) else SavedTable
    return kind(sources, asked, save, answers, settings().image_limits(), ahead).start()  # type: ignore[arg-type]


def _live_sheet(run: Run, shell: Shell | None) -> LiveSheet | None:
    """For a table, where somebody looks at the page."""
    kernel = getattr(shell, "kernel", None)
    looks = kernel is not None and not is_static(kernel) and shows_updates(kernel)
    return LiveSheet(run) if looks and isinstance(run, SavedTable) else None


def follow(run: Run, shell: Shell | None = None) -> Run:
    """Show how far a run is until it has ended.

    :raises Interrupted: it was paused; the same call goes on.
    :raises RunError: it could not go on.
    """
    view = Unfailing(make_view(shell)) if shell is not None else None
    sheet = _live_sheet(run, shell)
    said: list[str] = [""]
    when = [0.0]

    def show(figures: Figures) -> None:
        line = figures.line()
        if figures.total:
            line = f"{bar(figures.done / figures.total)} {line}"
        if sheet is not None:
            sheet.show(figures.done)
        if view is not None and line != said[0] and time.monotonic() - when[0] > 0.2:
            said[0], when[0] = line, time.monotonic()
            view.status(line)

    try:
        run.wait(show)
    except BaseException as error:
        if view is not None:
            view.fail()
        if isinstance(error, KeyboardInterrupt):
            told = f"Paused: {run.figures().line()} are in {run.path}; run it again to go on."
            raise Interrupted(None, told) from None
        raise
    if sheet is not None and shell is not None:
        sheet.show(run.figures().done, last=True)
        run._filled_in = (id(shell), shell.execution_count)  # type: ignore[attr-defined]
    if view is not None:
        view.fail()
        tell(f"{run.figures().line()} · saved in {run.path}")
        for note in run.notes:
            tell(f"Note: {note}.")
    return run
