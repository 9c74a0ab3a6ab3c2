"""`%%vlm --compare` and `vlm.compare`: the same asked of several models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import RequestError
from ...types import ImagePart, Message, SamplingParams
from ..answers.compare_view import make_compare_view
from ..answers.comparison import Comparison, frame
from ..answers.stream_view import make_view
from ..answers.view import Unfailing
from ..plain import bar, tell
from ..work import run
from ..work.compare import Answering, compare
from ..work.many import name_of
from ..work.sides import named, planned

if TYPE_CHECKING:
    import pandas

    from ..shell import Shell

_PICTURES = ("images", "pictures", "image", "picture")
_SHOWN_S = 0.2


def compare_cell(shell: Shell, models: str, request: run.Ask) -> Comparison:
    """Ask each of `models` (names with commas between) and show the answers side by side.

    :raises RequestError: fewer than two models.
    :raises Interrupted: stopped; the comparison of what came is kept.
    """
    plan = planned(named(models))
    if plan.told:
        tell(plan.told)
    view = make_compare_view(shell, [side.name for side in plan.sides], request.images)
    asked = {"prompt": request.prompt}
    try:
        (made,) = compare(plan, [request], lambda every: view.update([one.column for one in every]))
    except run.Interrupted as stopped:
        (made,) = stopped.result
        made.row = asked
        view.finish(made)
        raise run.Interrupted(made, "Interrupted: what came is kept in _") from None
    except BaseException:
        view.fail()
        raise
    made.row = asked
    view.finish(made)
    return made


def compare_rows(
    rows: Iterable[object], models: str | Sequence[str], sampling: SamplingParams, system: str | None, draft: bool
) -> pandas.DataFrame:
    """`vlm.compare`. `sampling` is filled from the settings already."""
    from IPython.core.getipython import get_ipython

    asked = [_row(row, place) for place, row in enumerate(_records(rows))]
    if not asked:
        raise RequestError("there are no rows; give prompts, (prompt, pictures) or dicts with a prompt.")
    said = [Message("system", [system])] if system else []
    asks = [
        run.Ask([*said, Message("user", [*map(ImagePart, pictures), prompt])], sampling, pictures, prompt, draft=draft)
        for prompt, pictures, _ in asked
    ]
    plan, shell = planned(named(models)), get_ipython()
    if plan.told:
        tell(plan.told)
    view = Unfailing(make_view(shell)) if shell is not None else None
    progress = _Progress(view)
    try:
        made = compare(plan, asks, progress.show)
    except run.Interrupted as stopped:
        came = _table(stopped.result, asked)
        if shell is not None:
            run.keep_as_last(shell, came, None)
        raise run.Interrupted(came, "Interrupted: what came is kept in _") from None
    finally:
        if view is not None:
            view.fail()
    return _table(made, asked)


class _Progress:
    """A line with how many answers each model has given."""

    def __init__(self, view: Unfailing | None) -> None:
        self._view, self._said, self._when = view, "", 0.0

    def show(self, every: Sequence[Answering]) -> None:
        done = [sum(made is not None for made in one.made) for one in every]
        total = sum(len(one.made) for one in every)
        counts = ", ".join(f"{one.side.name} {n}" for one, n in zip(every, done, strict=True))
        line = f"{bar(sum(done) / total)} {sum(done)}/{total} answers: {counts}"
        if self._view is not None and line != self._said and time.monotonic() - self._when > _SHOWN_S:
            self._said, self._when = line, time.monotonic()
            self._view.status(line)


_Row = tuple[str, list[Any], dict[str, Any]]  # prompt, pictures, columns of its own


def _table(made: Sequence[Comparison], asked: Sequence[_Row]) -> pandas.DataFrame:
    for one, (prompt, pictures, own) in zip(made, asked, strict=True):
        shown = {"pictures": ", ".join(map(name_of, pictures))} if any(row[1] for row in asked) else {}
        one.row = {"prompt": prompt, **shown, **own}
    return frame(made)


def _records(rows: object) -> list[Any]:
    """:raises RequestError: it isn't rows."""
    if hasattr(rows, "to_dict"):  # a DataFrame
        return list(rows.to_dict("records"))
    if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable):
        raise RequestError(f"rows are a {type(rows).__name__}; give a list of prompts, (prompt, pictures) or dicts.")
    return list(rows)


def _row(row: object, place: int) -> _Row:
    """:raises RequestError: it has no prompt."""
    own: dict[str, Any] = {}
    if isinstance(row, Mapping):
        own = {str(key): value for key, value in row.items() if key not in ("prompt", *_PICTURES)}
        given = next((row[key] for key in _PICTURES if key in row), ())
        prompt = row.get("prompt")
    elif isinstance(row, tuple | list) and len(row) == 2:
        prompt, given = row
    else:
        prompt, given = row, ()
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError(f"row {place} has no prompt; give text, (text, pictures), or a dict with a prompt.")
    many = isinstance(given, list | tuple)
    return prompt, list(given) if many else [] if given is None else [given], own
