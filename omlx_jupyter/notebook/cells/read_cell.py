"""What an `%ocr` line asks for, carried out: one picture, or many through the batch."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError

from ...images.decoded import DecodedImage
from ...images.source import expand, open_images
from ...types import SamplingParams
from ..answers.boxes import show_boxes
from ..answers.result import Result, ResultList
from ..answers.stream_view import make_view, tell_many
from ..settings.config import settings
from ..work import run
from ..work.hints import hints_for
from ..work.many import finished_of, read_many
from .arguments import drafting_from, resolve_source


def read_cell(shell: Any, args: Any) -> Result | ResultList:
    """The line's value, bound to its name.

    :raises UsageError: a source that is nothing.
    :raises OmlxError: it can't be read.
    :raises Interrupted: stopped; what was read is kept.
    """
    sampling = run.sampling_from(args)
    draft, hint = drafting_from(shell, args)
    items = _items(shell.user_ns, args.source, args.all_frames)
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


def _items(names: dict[str, Any], words: list[str], all_frames: bool) -> list[Any]:
    """Sources of single pictures, not opened yet."""
    items: list[Any] = []
    limits = settings().image_limits()
    for word in words:
        value = resolve_source(word, names)
        if value is None:
            raise UsageError(f"{word} is None; it holds no picture.")
        if all_frames or not isinstance(value, str):
            items += opened(names, [word], all_frames) if not isinstance(value, list | tuple) else expand(value, limits)
        else:
            items += expand(value, limits)
    return items


def _read_one(shell: Any, item: Any, args: Any, sampling: SamplingParams, draft: bool, hint: str) -> Result:
    images = open_images(item, settings().image_limits())
    message = run.message_of([*images, *([args.prompt] if args.prompt else [])])
    by_lines = not settings().reads_whole(args.whole)
    request = run.Ask([message], sampling, images, args.prompt or "", by_lines=by_lines, draft=draft, hint=hint)
    try:
        return run.ask(shell, request)
    except run.Interrupted as stopped:
        if stopped.result is not None:
            run.keep_as_last(shell, stopped.result, args.out)
        raise


def _read_many(
    shell: Any, items: list[Any], args: Any, sampling: SamplingParams, draft: bool, hints: list[str]
) -> ResultList:
    view = make_view(shell)
    try:
        made = read_many(items, args.prompt, sampling, tell_many(view), whole=args.whole, draft=draft, hints=hints)
    except KeyboardInterrupt:
        done = finished_of(items, args.prompt, sampling, args.whole)
        run.keep_as_last(shell, done, args.out)
        view.finish(done)
        told = f"Interrupted: {len(done)} of {len(items)} are kept in _; run it again to go on."
        raise run.Interrupted(None, told) from None
    except BaseException:
        view.fail()
        raise
    view.finish(made)
    return made


def opened(names: dict[str, Any], sources: list[str], all_frames: bool) -> list[DecodedImage]:
    """The pictures of sources that a line names, decoded."""
    limits, frames = settings().image_limits(), "all" if all_frames else "first"
    images: list[DecodedImage] = []
    for word in sources:
        value = resolve_source(word, names)
        label = word if not isinstance(value, str) else ""
        if value is None:
            raise UsageError(f"{word} is None; it holds no picture.")
        images += open_images(value, limits, frames, label)  # type: ignore[arg-type]
    return images
