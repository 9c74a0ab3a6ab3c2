"""Running a request for a cell: watch it, show it, stop it on an interrupt, keep what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..chat.pages import read_picture
from ..errors import OmlxError
from ..types import ImagePart, Message, SamplingParams
from . import session
from .config import settings
from .result import Result
from .stream_view import View, make_view

TICK_S = 0.05


class Interrupted(KeyboardInterrupt):
    """An interrupt, told in one line instead of a traceback."""

    def __init__(self, result: Result | None, told: str = "") -> None:
        super().__init__()
        self.result, self._told = result, told

    def _render_traceback_(self) -> list[str]:
        if self._told:
            return [self._told]
        kept = len(self.result.generation.token_ids) if self.result else 0
        return [f"Interrupted: {kept} tokens are kept in _" if kept else "Interrupted."]


def sampling_from(args: Any) -> SamplingParams:
    """Flags win over settings; what neither sets is left to the model."""
    config = settings()
    temperature = getattr(args, "temperature", None)
    if temperature is None and config.temperature >= 0:
        temperature = config.temperature
    return SamplingParams(
        temperature=temperature,
        max_tokens=getattr(args, "max_tokens", None) or config.max_tokens or None,
        top_p=getattr(args, "top_p", None),
        seed=getattr(args, "seed", None),
        stop=tuple(getattr(args, "stop", None) or ()) or None,
    )


@dataclass
class Ask:
    """One request of a cell: all messages, the pictures of this turn and its words."""

    messages: list[Message]
    sampling: SamplingParams
    images: Sequence[Any] = ()
    prompt: str = ""
    tools: Any = None
    stoppable: bool = True
    by_lines: bool = False  # a page is read, as the model's checkpoint wants it


def message_of(parts: Sequence[Any]) -> Message:
    """A user turn of text and decoded pictures in order."""
    return Message("user", [part if isinstance(part, str) else ImagePart(part) for part in parts])


def start(request: Ask, view: View | None = None) -> Any:
    """Queue it; its handle.

    :raises OmlxError: no engine could be loaded, or nothing was asked.
    """
    say = view.status if view is not None else None
    if request.by_lines:
        return session.submit(lambda e: read_picture(e, request.images, request.prompt, request.sampling), say)
    return session.submit(lambda e: e.submit(request.messages, sampling=request.sampling, tools=request.tools), say)


def open_view(shell: Any, request: Ask) -> tuple[Any, View]:
    """A running request and the view in the cell that asked.

    :raises OmlxError: as `start`.
    """
    view = make_view(shell, request.images, request.stoppable)
    try:
        return start(request, view), view
    except BaseException:
        view.fail()
        raise


def ask(shell: Any, request: Ask) -> Result:
    """Send one request and show it while it runs.

    :raises OmlxError: it failed.
    :raises Interrupted: the kernel was interrupted; the exception holds what was said.
    """
    handle, view = open_view(shell, request)
    return watch(handle, view, request)


def watch(handle: Any, view: View, request: Ask) -> Result:
    """Show a running request until it ends. Raises as `ask` does."""
    text, ended = "", False
    try:
        while not ended:
            items, ended = handle.poll(TICK_S)
            text += "".join(item.text for item in items)
            view.update(text, handle.progress, handle.usage)
        result = result_of(handle, request)
    except KeyboardInterrupt:
        handle.cancel()
        partial = _partial(handle, request)
        if partial is not None:
            view.finish(partial)
        else:
            view.fail()
        raise Interrupted(partial) from None
    except OmlxError:
        view.fail()
        raise
    view.finish(result)
    return result


def result_of(handle: Any, request: Ask) -> Result:
    """:raises OmlxError: the request failed."""
    running = session.current_engine()
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
    )


def _partial(handle: Any, request: Ask) -> Result | None:
    """What was said until the interrupt; the engine ends a request within one step. Where nothing was said yet,
    nothing is waited for: a large picture may take seconds to encode, and ends by itself."""
    try:
        handle.result(timeout=10 if handle.progress.tokens else 0.1)
        return result_of(handle, request)
    except (OmlxError, TimeoutError):
        return None


def keep(shell: Any, value: Any, name: str | None) -> None:
    """Bind a result to the -o name."""
    if name:
        shell.user_ns[name] = value


def keep_as_last(shell: Any, value: Any, name: str | None) -> None:
    """Bind to `_` and the -o name where the cell ends with an error and its value is lost."""
    keep(shell, value, name)
    shell.displayhook.update_user_ns(value)
