"""What an `%ocr` line asks for, carried out: one picture, or many through the batch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...images.decoded import DecodedImage
from ...images.source import expand, open_images
from ...runs.run import Run
from ...types import SamplingParams
from ..answers.boxes import show_boxes
from ..answers.result import Result, ResultList
from ..answers.stream_view import make_view, tell_many
from ..plain import tell
from ..settings.config import settings
from ..work import run, runs
from ..work.hints import hints_for
from ..work.many import finished_of, many_kept, read_many
from .arguments import drafting_from, resolve_source

if TYPE_CHECKING:
    from argparse import Namespace

    from ..shell import Shell


def read_cell(shell: Shell, args: Namespace, names: Mapping[str, object]) -> Result | ResultList | Run:
    """The line's value, bound to its name. `names` are those that its expressions see.

    :raises UsageError: a source that is nothing.
    :raises OmlxError: it can't be read.
    :raises Interrupted: stopped; what was read is kept.
    """
    if args.save:
        return _saved(shell, args, names)
    if args.background:
        raise UsageError("%ocr: --background needs --save FILE, which then has the answers.")
    sampling = run.sampling_from(args)
    draft, hint = drafting_from(names, args)
    items = _items(names, args.source, args.all_frames)
    hints = hints_for(hint, len(items))
    value: Result | ResultList
    if len(items) == 1:
        value = _read_one(shell, items[0], args, sampling, draft, hints[0])
    else:
        value = _read_many(shell, items, args, sampling, draft, hints)
    if args.boxes:
        show_boxes(value)
    value.shown(shell)
    run.keep(shell, value, args.out)
    return value


def _saved(shell: Shell, args: Namespace, names: Mapping[str, object]) -> Run:
    """`--save`: the line's sources as a run.

    :raises UsageError: flags that a run doesn't have.
    :raises RunError: the file is written by somebody else, or can't be.
    """
    if args.boxes or args.hint is not None:
        raise UsageError("%ocr: --save doesn't go together with --boxes or --hint; leave them out.")
    sources = [value for word in args.source for value in _listed(_value(names, word))]
    read: dict[str, Any] = {"whole": args.whole, "layout": args.layout, "draft": not args.no_draft and None}
    asked = runs.question(args.prompt, run.sampling_from(args), **read)
    made = runs.begin(sources[0] if len(sources) == 1 else sources, asked, args.save)
    run.keep(shell, made, args.out)
    if args.background:
        tell(f"It runs in the background; its answers come into {made.path}.")
        return made
    try:
        return runs.follow(made, shell)
    except run.Interrupted:
        run.keep_as_last(shell, made, args.out)
        raise


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _items(names: Mapping[str, object], words: list[str], all_frames: bool) -> list[Any]:
    """Sources of single pictures, not opened yet where they are files."""
    items: list[object] = []
    limits = settings().image_limits()
    for word in words:
        value = _value(names, word)
        label = word if not isinstance(value, str) else ""
        if all_frames:
            items += [image for item in expand(value, limits) for image in open_images(item, limits, "all", label)]
        elif isinstance(value, str | list | tuple | os.PathLike):
            items += expand(value, limits)
        else:
            items += open_images(value, limits, "first", label)
    return items


def _value(names: Mapping[str, object], word: str) -> Any:
    """:raises UsageError: it is nothing, or None."""
    value = resolve_source(word, names)
    if value is None:
        raise UsageError(f"{word} is None; it holds no picture.")
    return value


def _read_one(shell: Shell, item: object, args: Namespace, sampling: SamplingParams, draft: bool, hint: str) -> Result:
    images = open_images(item, settings().image_limits())
    message = run.message_of([*images, *([args.prompt] if args.prompt else [])])
    by_lines = not settings().reads_whole(args.whole)
    request = run.Ask(
        [message],
        sampling,
        images,
        args.prompt or "",
        by_lines=by_lines,
        layout=args.layout,
        draft=draft,
        hint=hint,
    )
    try:
        return run.ask(shell, request)
    except run.Interrupted as stopped:
        if stopped.result is not None:
            run.keep_as_last(shell, stopped.result, args.out)
        raise


def _read_many(
    shell: Shell, items: list[object], args: Namespace, sampling: SamplingParams, draft: bool, hints: list[str]
) -> ResultList:
    view = make_view(shell)
    try:
        known: dict[str, Any] = {"whole": args.whole, "layout": args.layout}
        made = read_many(items, args.prompt, sampling, tell_many(view), draft=draft, hints=hints, **known)
    except KeyboardInterrupt:
        done = finished_of(items, args.prompt, sampling, args.whole, args.layout)
        run.keep_as_last(shell, done, args.out)
        view.finish(done)
        raise many_kept(len(done), len(items)) from None
    except BaseException:
        view.fail()
        raise
    view.finish(made)
    return made


def opened(names: Mapping[str, object], sources: list[str], all_frames: bool) -> list[DecodedImage]:
    """The pictures of sources that a line names, decoded."""
    limits, frames = settings().image_limits(), "all" if all_frames else "first"
    images: list[DecodedImage] = []
    for word in sources:
        value = _value(names, word)
        label = word if not isinstance(value, str) else ""
        images += open_images(value, limits, frames, label)  # type: ignore[arg-type]
    return images
