"""What a `%%vlm` cell asks for, carried out: chats, background, structure, tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...types import Message
from ..answers.boxes import show_boxes
from ..answers.comparison import Comparison
from ..answers.result import Result
from ..plain import tell
from ..settings.config import settings
from ..work import chats, run
from ..work.hints import hint_text
from ..work.jobs import Job
from . import structured
from .arguments import drafting_from, resolve_source
from .compared import compare_cell
from .interpolate import interpolate
from .read_cell import opened
from .tool_cell import with_tools

if TYPE_CHECKING:
    from argparse import Namespace

    from ...images.decoded import DecodedImage
    from ..shell import Shell


def cell_id(shell: Shell) -> str:
    """The running cell's id, where the front end tells it (JupyterLab and Notebook 7 do)."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return ""
    try:
        metadata = kernel.get_parent("shell").get("metadata", {})
    except Exception:
        return ""
    return str(metadata.get("cellId", ""))


def vlm_cell(shell: Shell, args: Namespace, cell: str, names: Mapping[str, object]) -> Any:
    """The value of a `%%vlm` cell, bound to its name; `names` are those that its expressions see.
    Raises as `ask_cell` does."""
    try:
        images: list[Any] = list(opened(names, args.image, args.all_frames)) if args.image else []
        parts = [*images, *interpolate(cell.strip(), names, settings().image_limits())]
        if not any(not isinstance(part, str) or part.strip() for part in parts):
            raise UsageError("%%vlm: the cell is empty; write a question below the first line.")
        value = ask_cell(shell, args, parts, names)
    except run.Interrupted as stopped:
        if stopped.result is not None:
            run.keep_as_last(shell, stopped.result, args.out)
        raise
    except structured.NotWholeError as error:
        run.keep_as_last(shell, error.answer, args.out)
        raise UsageError(f"{error} What was said is kept in _{f' and {args.out}' if args.out else ''}.") from None
    if isinstance(value, Result | Comparison):
        value.shown(shell)
    if not isinstance(value, Job):
        run.keep(shell, value, args.out)
    return value


def ask_cell(
    shell: Shell, args: Namespace, parts: Sequence[str | DecodedImage], names: Mapping[str, object] | None = None
) -> Any:
    """The cell's value: a Result, a Job, an instance (`--json`), a DataFrame (`--table`) or a Comparison.

    :raises UsageError: flags that don't go together.
    :raises OmlxError: the request failed.
    :raises Interrupted: stopped; what was said is kept.
    """
    _check(args)
    names = shell.user_ns if names is None else names
    draft, hint = drafting_from(names, args)
    user = run.message_of(parts)
    earlier = chats.before(args.chat, cell_id(shell)) if args.chat else []
    system = [Message("system", [args.system])] if args.system else []
    request = run.Ask(
        [*system, *earlier, user],
        run.sampling_from(args),
        [part for part in parts if not isinstance(part, str)],
        "".join(part for part in parts if isinstance(part, str)).strip(),
        draft=draft,
        hint=hint_text(hint),
        begin=args.begin or "",
    )
    model = resolve_source(args.json, names) if args.json else None
    if model is not None:
        request.sampling = replace(request.sampling, json_schema=structured.schema_of(model))
    elif args.table:
        request.sampling = replace(request.sampling, json_schema=structured.TABLE_SCHEMA)
        request.messages[-1] = Message("user", [*user.parts, "\n" + structured.TABLE_HINT])
    if args.compare:
        return compare_cell(shell, args.compare, request)
    if args.background:
        return _in_background(shell, args, request, user)
    result = with_tools(shell, args, request, names) if args.tools else run.ask(shell, request)
    if args.chat:
        _keep_turn(args.chat, cell_id(shell), user, result)
    if args.boxes:
        show_boxes(result)
    if model is not None:
        return structured.instance_of(model, result)
    if args.table:
        return structured.frame_of(result)
    return result


def _keep_turn(chat: str, cell: str, user: Message, result: Result) -> None:
    forked = chats.add(chat, cell, user, result.text, result.thinking)
    if forked:
        tell(f"{chat} goes on from here; what came after is kept as {forked}.")


def _check(args: Namespace) -> None:
    flags = ("json", "table", "tools", "background")
    given = [f"--{name}" for name in flags if getattr(args, name)]
    if len(given) > 1:
        raise UsageError(f"%%vlm: {' and '.join(given)} don't go together; use one of them.")
    apart = [f"--{name}" for name in ("table", "tools", "background", "chat", "boxes") if getattr(args, name)]
    if args.compare and apart:
        raise UsageError(f"%%vlm: --compare and {apart[0]} don't go together; use one of them.")
    if args.begin and (args.json or args.table or args.tools):
        raise UsageError("%%vlm: --begin doesn't go together with --json, --table or --tools; leave it out.")
    if args.begin and args.think:
        raise UsageError("%%vlm: --begin starts the answer, so that no thought comes before it; leave --think out.")
    if args.boxes and args.background:
        raise UsageError("%%vlm: --boxes doesn't go together with --background; display(job.result().places) later.")
    if args.think is False and args.think_budget is not None:
        raise UsageError("%%vlm: --no-think and --think-budget don't go together; use one of them.")


def _in_background(shell: Shell, args: Namespace, request: run.Ask, user: Message) -> Job:
    request.stoppable = False
    handle, view = run.open_view(shell, request)
    cell = cell_id(shell)
    job = Job(
        handle,
        view,
        lambda held, seconds: run.result_of(held, request, seconds),
        request.prompt,
        again=lambda: run.start(request),
    )

    def finished(result: Result) -> None:
        run.keep(shell, result, args.out)
        if args.chat:
            _keep_turn(args.chat, cell, user, result)

    run.keep(shell, job, args.out)  # before its answer may come, which takes its place
    job.then(finished)
    return job
