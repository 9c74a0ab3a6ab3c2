"""Running a request for a cell: watch it, show it, stop it on an interrupt, keep what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ...chat.pages import read_picture
from ...errors import OmlxError
from ...types import Generation, ImagePart, Message, SamplingParams
from ..answers.result import Result
from ..answers.stream_view import hear, make_view
from ..answers.thoughts import Heard
from ..answers.view import Unfailing, View
from ..settings.config import settings
from ..settings.per_model import for_model
from . import latest, session
from .layouts import chosen

if TYPE_CHECKING:
    from argparse import Namespace

    from ...engine.front import Front
    from ...engine.readable import Readable
    from ..shell import Shell


class Interrupted(KeyboardInterrupt):
    """An interrupt, told in one line instead of a traceback."""

    def __init__(self, result: object, told: str = "") -> None:
        """`result` is what came until then, None where nothing did; `told` is needed where it is no `Result`."""
        super().__init__(*([told] if told else []))
        self.result: Any = result
        self._told = told

    def _render_traceback_(self) -> list[str]:
        if self._told:
            return [self._told]
        kept = len(self.result.generation.token_ids) if self.result else 0
        return [f"Interrupted: {kept} tokens are kept in _" if kept else "Interrupted."]


def sampling_from(args: Namespace) -> SamplingParams:
    """Flags win over settings; what neither sets is left to the model."""
    asked = SamplingParams(
        temperature=getattr(args, "temperature", None),
        max_tokens=getattr(args, "max_tokens", None),
        top_p=getattr(args, "top_p", None),
        seed=getattr(args, "seed", None),
        stop=tuple(getattr(args, "stop", None) or ()) or None,
        think=getattr(args, "think", None),
        think_budget=getattr(args, "think_budget", None),
    )
    return settings().filled(asked)


@dataclass
class Ask:
    """One request of a cell: all messages, the pictures of this turn and its words."""

    messages: list[Message]
    sampling: SamplingParams
    images: Sequence[Any] = ()  # decoded where they are shown, else as `omlx_jupyter.images` takes them
    prompt: str = ""
    tools: Any = None
    stoppable: bool = True
    layout: bool | str = False
    by_lines: bool = False  # a page is read, as the model's checkpoint wants it
    draft: bool = True
    hint: str = ""
    begin: str = ""  # text that the answer begins with


def message_of(parts: Sequence[object]) -> Message:
    """A user turn of text and decoded pictures in order."""
    return Message("user", [part if isinstance(part, str) else ImagePart(part) for part in parts])


def start(request: Ask, view: View | None = None) -> Readable[Generation]:
    """Queue it; its handle.

    :raises OmlxError: no engine could be loaded, or nothing was asked.
    """
    return session.submit(partial(begin, request), view.status if view is not None else None)


def begin(request: Ask, engine: Any) -> Readable[Generation]:
    """Ask this engine, under the settings that are kept for its model. Raises as its `submit`."""
    sampling = for_model(settings(), request.sampling, engine.name, engine.thinks)
    known: dict[str, Any] = {"draft": request.draft, "hint": request.hint}
    if request.by_lines or request.layout is not False:
        layout = chosen(request.layout)
        return read_picture(engine, request.images, request.prompt, sampling, layout=layout, **known)
    known["begin"] = request.begin
    handle: Readable[Generation] = engine.submit(request.messages, sampling=sampling, tools=request.tools, **known)
    return handle


def open_view(shell: Shell, request: Ask) -> tuple[Readable[Generation], View]:
    """A running request and the view in the cell that asked.

    :raises OmlxError: as `start`.
    """
    view = Unfailing(make_view(shell, request.images, request.stoppable))
    try:
        handle = start(request, view)
        if not request.stoppable and (engine := session.current_engine()) is not None and engine.thinks:
            view.keep_place()
        return handle, view
    except BaseException:
        view.fail()
        raise


def ask(shell: Shell, request: Ask) -> Result:
    """Send one request and show it while it runs.

    :raises OmlxError: it failed.
    :raises Interrupted: the kernel was interrupted; the exception holds what was said.
    """
    handle, view = open_view(shell, request)
    return watch(handle, view, request)


def watch(handle: Readable[Generation], view: View, request: Ask) -> Result:
    """Show a running request until it ends. Raises as `ask` does."""
    heard, ended = Heard(), False
    try:
        while not ended:
            ended = hear(handle, view, heard)
        result = result_of(handle, request, heard.thought_s)
    except KeyboardInterrupt:
        handle.cancel()
        said = partial_of(handle, request, heard.thought_s)
        if said is not None:
            view.finish(said)
        else:
            view.fail()
        raise Interrupted(said) from None
    except OmlxError:
        view.fail()
        raise
    view.finish(result)
    return result


def result_of(
    handle: Readable[Generation], request: Ask, thought_s: float = 0.0, engine: Front | None = None
) -> Result:
    """`engine` is who was asked; None is the kernel's. :raises OmlxError: the request failed."""
    running = session.current_engine() if engine is None else engine
    generation = handle.result()
    calls: Sequence[Any] = ()
    if request.tools and running is not None:
        calls = running.parse_tools(generation, request.tools).calls
    return Result(
        generation,
        request.images,
        request.prompt,
        running.name if running else "",
        messages=request.messages,
        tool_calls=calls,
        thought_s=thought_s,
        grounding=running.grounding if running else None,
    )


def partial_of(
    handle: Readable[Generation], request: Ask, thought_s: float, engine: Front | None = None
) -> Result | None:
    """What was said until the interrupt; the engine ends a request within one step. Where nothing was said yet,
    nothing is waited for: a large picture may take seconds to encode, and ends by itself."""
    try:
        handle.result(timeout=10 if handle.progress.tokens else 0.1)
        return result_of(handle, request, thought_s, engine)
    except (OmlxError, TimeoutError):
        return None


def keep(shell: Shell, value: object, name: str | None) -> None:
    """Bind a result to the -o name, and remember it for `%vlm last`."""
    latest.add(value)
    if name:
        shell.user_ns[name] = value


def keep_as_last(shell: Shell, value: object, name: str | None) -> None:
    """Bind to `_` and the -o name where the cell ends with an error and its value is lost."""
    keep(shell, value, name)
    shell.displayhook.update_user_ns(value)
