"""`vlm(...)` and `ocr(...)`: the magics as plain functions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from ...chat.pages import Reading, read_picture
from ...errors import RequestError
from ...images.source import open_images
from ...runs.question import Question
from ...runs.run import Run
from ...types import Generation, ImagePart, Message, SamplingParams, SamplingWords
from ..answers.result import Result, ResultList
from ..answers.stream_view import make_view, tell_many
from ..answers.view import Unfailing
from ..settings.config import settings
from ..settings.per_model import for_model
from ..work import run, runs, session
from ..work.hints import hint_text, hints_for
from ..work.layouts import chosen
from ..work.many import finished_of, many_kept, read_many
from . import structured
from .compared import compare_rows

if TYPE_CHECKING:
    from pathlib import Path

    from ...engine.front import Front
    from ...images.grounding import Grounding


def vlm(
    prompt: str,
    *images: object,
    system: str | None = None,
    json: object = None,
    hint: object = None,
    draft: bool | None = None,
    begin: str = "",
    **sampling: Unpack[SamplingWords],
) -> Any:
    """Ask about pictures: `vlm("What is this?", img)`. Keyword arguments are SamplingParams' fields, such as
    `think=False` or `think_budget=500`; the settings about thoughts hold here as well.

    With `json` (a pydantic model or a JSON schema) the answer is an instance of it. `hint` is text, or an answer, that
    this one may repeat; `draft=False` puts nothing that is known already before the model (None: as set). `begin` is
    what the answer begins with. In async code `await vlm.aio(...)` is the same and keeps the event loop going.

    :raises OmlxError: one sentence that names the mend.
    """
    if json is None:
        return _ask(prompt, images, sampling, draft, hint, system=system, begin=begin)
    sampling["json_schema"] = structured.schema_of(json)
    made = _ask(prompt, images, sampling, draft, hint, system=system, begin=begin)
    return structured.instance_of(json, made)


def ocr(
    *images: object,
    prompt: str | None = None,
    whole: bool = False,
    layout: bool | str = False,
    hint: object = None,
    draft: bool | None = None,
    **sampling: Unpack[SamplingWords],
) -> Result:
    """Read the text in pictures: `ocr("receipt.png").text`. `ocr.map(paths)` reads many.

    One picture without a prompt is read by lines where the model's checkpoint has a recipe for that
    (`reading.json`), and `.lines` has their boxes; `whole=True` hands it over as it is. With `layout=True` the page's
    regions are found by white space, or by the layout model that is set or named here, each is read for what it is,
    and the text is Markdown; `.regions` has them. `hint` and `draft` are as in `vlm`.

    :raises OmlxError: one sentence that names the mend.
    """
    return _ask(prompt, images, sampling, draft, hint, by_lines=not whole, layout=layout)


def _map(
    pictures: Iterable[object],
    concurrency: int = 16,
    prompt: str | None = None,
    whole: bool = False,
    layout: bool | str = False,
    hint: object = None,
    draft: bool | None = None,
    save: str | Path | None = None,
    twice: bool = False,
    wait: bool = True,
    engine: Front | None = None,
    **sampling: Unpack[SamplingWords],
) -> Any:
    """Read many pictures through the batch, `concurrency` of them under way at a time.

    One result per picture, in order; a picture that fails is a `Failure` in its place. `hint` is text that all of
    them may say, or a list or column with one for each.

    With `save` (a file that ends in .jsonl, .sqlite or .parquet) it is a `Run`: sources may be a folder, a glob, a
    generator, `file.parquet::column`, or more pages than fit in memory; each answer is in the file as soon as it is
    there, and after a kill or an interrupt the same call goes on. `wait=False` lets it run in the background. With
    `twice` each source is read a second time, sampled, and `record.agreement` says how far both readings agree.
    `ocr.map("scans/", save="scans.jsonl").df` is a table of all of them.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise RequestError(f"concurrency is {concurrency!r}; it must be a whole number above 0.")
    if save is not None and hint is not None:
        raise RequestError("a saved run takes no hint; leave hint or save out.")
    if twice and save is None:
        raise RequestError("twice compares the readings of a saved run; name a file with save, or leave twice out.")
    if save is None:
        return read_pictures(pictures, concurrency, prompt, whole, hint, draft, sampling, layout)
    asked = runs.question(prompt, params_of(sampling), whole=whole, layout=layout, twice=twice, draft=draft)
    return _run(pictures, asked, save, wait, engine, concurrency)


def _vlm_map(
    prompt: str,
    sources: object,
    *,
    save: str | Path,
    json: object = None,
    system: str | None = None,
    concurrency: int = 16,
    draft: bool | None = None,
    twice: bool = False,
    documents: bool = False,
    wait: bool = True,
    engine: Front | None = None,
    **sampling: Unpack[SamplingWords],
) -> Any:
    """Ask the same of many sources, as a `Run` (see `ocr.map`): `vlm.map("What is the total?", "receipts/",
    json=Receipt, save="receipts.jsonl").df`. An answer that the schema's validators refuse is asked for once more, with
    the reason. With `twice` each source is asked a second time, sampled; `run.review()` begins with the fields in which
    the answers differ. With `documents` all pages of a PDF or TIFF, and the pictures of a list, are asked about
    together, so that fields may come from several of them."""
    reading: dict[str, Any] = {"whole": True, "twice": twice, "documents": documents}
    asked = runs.question(prompt, params_of(sampling), json=json, system=system, draft=draft, **reading)
    return _run(sources, asked, save, wait, engine, concurrency)


def _table(
    pictures: object,
    questions: Mapping[str, object],
    *,
    save: str | Path | None = None,
    system: str | None = None,
    concurrency: int = 16,
    draft: bool | None = None,
    wait: bool = True,
    engine: Front | None = None,
    **sampling: Unpack[SamplingWords],
) -> Any:
    """A sheet of answers: rows are pictures, columns questions.

    `vlm.table("receipts/", {"shop": "Which shop?", "total": ("What is the total?", float)}).df`: a question is text, or
    (text, a type, pydantic model or JSON schema). A picture is read once for all of its questions. With `save` it
    survives: the same call goes on, and a new column or picture computes only what is new. `table.confidences` says how
    sure the model was of each cell, `table["a.png", "total"]` is the record behind one.
    """
    asked: dict[str, Question] = {}
    if not isinstance(questions, Mapping):
        raise RequestError(
            f'questions are a {type(questions).__name__}; give a dict like {{"total": "What is the total?"}}.'
        )
    for name, question in questions.items():
        prompt, kind = question if isinstance(question, tuple) and len(question) == 2 else (question, None)
        if not isinstance(prompt, str) or not prompt.strip():
            raise RequestError(f"the question {name} is {question!r}; give text, or (text, a type or schema).")
        asked[name] = runs.question(prompt, params_of(sampling), json=kind, system=system, whole=True, draft=draft)
    table = runs.begin(pictures, asked, save or runs.passing_place(), engine, concurrency)
    return _followed(table, wait)


def _run(sources: object, asked: Question, save: str | Path, wait: bool, engine: Front | None, ahead: int) -> Run:
    return _followed(runs.begin(sources, asked, save, engine, ahead), wait)


def _followed(run: Run, wait: bool) -> Run:
    from IPython.core.getipython import get_ipython

    return runs.follow(run, get_ipython()) if wait else run


def read_pictures(
    pictures: Iterable[object],
    concurrency: int,
    prompt: str | None,
    whole: bool,
    hint: object,
    draft: bool | None,
    sampling: Mapping[str, object],
    layout: bool | str = False,
) -> ResultList:
    """`ocr.map`."""
    from IPython.core.getipython import get_ipython

    items, filled, shell = list(pictures), settings().filled(params_of(sampling)), get_ipython()
    view = Unfailing(make_view(shell)) if shell is not None else None
    try:
        return read_many(
            items,
            prompt,
            filled,
            tell_many(view) if view is not None else None,
            ahead=max(1, concurrency),
            whole=whole,
            draft=settings().drafts if draft is None else draft,
            hints=hints_for(hint, len(items)),
            layout=layout,
        )
    except KeyboardInterrupt:
        done = finished_of(items, prompt, filled, whole, layout)
        if shell is not None:
            run.keep_as_last(shell, done, None)
        raise many_kept(len(done), len(items)) from None
    finally:
        if view is not None:
            view.fail()


def _compare(
    rows: Iterable[object],
    models: str | Sequence[str],
    *,
    json: object = None,
    system: str | None = None,
    draft: bool | None = None,
    **sampling: Unpack[SamplingWords],
) -> Any:
    """Ask several models the same: `vlm.compare(["What is the total?"], ["tiny-ocr", "org/name"])` is a DataFrame.

    `rows` are prompts, (prompt, pictures), dicts with `prompt` and `images` (what else they hold becomes a column), or
    a DataFrame of such. `models` are what `%omlx load` or `%omlx connect` takes. Columns have two levels: each model's
    `text`, `tokens`, `tokens_per_s` (and `error` where one failed) under its name, and `agree`: whether all that
    answered said the same, with `json` the same values. Where memory has no room for all models at once, they answer
    one after another. An interrupt keeps what came in `_`.

    :raises OmlxError: the rows or the models can't be taken. A model that fails has its error in its column.
    """
    if json is not None:
        sampling["json_schema"] = structured.schema_of(json)
    drafts = settings().drafts if draft is None else draft
    return compare_rows(rows, models, settings().filled(params_of(sampling)), system, drafts)


ocr.map = _map  # type: ignore[attr-defined]
vlm.map = _vlm_map  # type: ignore[attr-defined]
vlm.table = _table  # type: ignore[attr-defined]
vlm.compare = _compare  # type: ignore[attr-defined]


async def _vlm_aio(prompt: str, *images: object, json: object = None, **options: Unpack[_Awaited]) -> Any:
    """`vlm` for async code: the event loop goes on while the model writes; cancelling the task ends the request."""
    if json is not None:
        options["json_schema"] = structured.schema_of(json)
    made = await _awaited(prompt, images, dict(options))
    return made if json is None else structured.instance_of(json, made)


async def _ocr_aio(
    *images: object,
    prompt: str | None = None,
    whole: bool = False,
    layout: bool | str = False,
    **options: Unpack[_Awaited],
) -> Result:
    """`ocr` for async code."""
    return await _awaited(prompt, images, dict(options), by_lines=not whole, layout=layout)


async def _awaited(
    prompt: str | None,
    images: Sequence[object],
    options: dict[str, Any],
    by_lines: bool = False,
    layout: bool | str = False,
) -> Result:
    import anyio.to_thread

    ours = {key: options.pop(key, usual) for key, usual in _OURS.items()}
    begin = partial(_begin, prompt, images, options, **ours, by_lines=by_lines, layout=layout)
    handle, result = await anyio.to_thread.run_sync(begin)  # loading a model and opening pictures take their time
    try:
        return result(await handle.aresult())
    except BaseException:
        handle.cancel()
        raise


class _Awaited(SamplingWords, total=False):
    draft: bool | None
    hint: object
    system: str | None
    begin: str


_OURS: dict[str, Any] = {"draft": None, "hint": None, "system": None, "begin": ""}
vlm.aio = _vlm_aio  # type: ignore[attr-defined]
ocr.aio = _ocr_aio  # type: ignore[attr-defined]


def params_of(sampling: Mapping[str, Any]) -> SamplingParams:
    """Keyword arguments as SamplingParams.

    :raises RequestError: a name that isn't one of its fields.
    """
    known = [field.name for field in fields(SamplingParams)]
    for name in sampling:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
            raise RequestError(f"there is no setting {name}; {hint}")
    return SamplingParams(**sampling)


def _ask(
    prompt: str | None,
    images: Sequence[object],
    sampling: Mapping[str, object],
    draft: bool | None,
    hint: object,
    system: str | None = None,
    by_lines: bool = False,
    begin: str = "",
    layout: bool | str = False,
) -> Result:
    handle, result = _begin(prompt, images, sampling, draft, hint, system, by_lines, begin, layout)
    try:
        return result(handle.result())
    except BaseException:
        handle.cancel()
        raise


def _begin(
    prompt: str | None,
    images: Sequence[object],
    sampling: Mapping[str, object],
    draft: bool | None,
    hint: object,
    system: str | None,
    by_lines: bool,
    begin: str,
    layout: bool | str = False,
) -> tuple[Reading, Callable[[Generation], Result]]:
    """(what reads the pictures, what makes a result of its answer)."""
    limits = settings().image_limits()
    opened = [image for source in images for image in open_images(source, limits)]
    params = settings().filled(params_of(sampling))
    whole = settings().reads_whole(not by_lines)
    drafts = settings().drafts if draft is None else draft
    known: dict[str, Any] = {"draft": drafts, "hint": hint_text(hint), "begin": begin}

    detector = chosen(layout)
    used: list[Grounding] = []

    def start(engine: Any) -> Reading:
        used[:] = [engine.grounding]
        filled = for_model(settings(), params, engine.name, engine.thinks)
        return read_picture(engine, opened, prompt, filled, whole, system, layout=detector, **known)

    parts: list[Any] = [*(ImagePart(image) for image in opened), *([prompt] if prompt else [])]
    asked = [Message("user", parts)]
    return session.submit(start), lambda generation: Result(
        generation, opened, prompt or "", messages=asked, grounding=used[0]
    )
