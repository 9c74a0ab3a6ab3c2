"""Running a request for a cell: watch it, show it, stop it on an interrupt, keep what was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from IPython.core.error import UsageError

from ..errors import OmlxError
from ..types import ImagePart, Message, SamplingParams
from . import session
from .config import settings
from .result import Result
from .stream_view import View, make_view

TICK_S = 0.05


class Interrupted(KeyboardInterrupt):
    """An interrupt, told in one line instead of a traceback."""

    def __init__(self, result: Result | None) -> None:
        super().__init__()
        self.result = result

    def _render_traceback_(self) -> list[str]:
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


def start(
    prompt: str | None,
    images: Sequence[Any],
    sampling: SamplingParams,
    system: str | None = None,
    view: View | None = None,
) -> Any:
    """Queue one request; its handle. `images` are decoded pictures.

    :raises OmlxError: no engine could be loaded, or nothing was asked.
    """
    parts: list[Any] = [ImagePart(image) for image in images]
    if prompt:
        parts.append(prompt)
    messages = [Message("user", parts)]
    return session.submit(
        lambda e: e.submit(messages, sampling=sampling, system=system), view.status if view is not None else None
    )


def ask(
    shell: Any, prompt: str | None, images: Sequence[Any], sampling: SamplingParams, system: str | None = None
) -> Result:
    """Send one request and show it while it runs.

    :raises OmlxError: it failed.
    :raises Interrupted: the kernel was interrupted; the exception holds what was said.
    """
    view = make_view(shell)
    try:
        handle = start(prompt, images, sampling, system, view)
    except BaseException:
        view.fail()
        raise
    return watch(handle, view, images, prompt)


def watch(handle: Any, view: View, images: Sequence[Any], prompt: str | None) -> Result:
    """Show a running request until it ends. Raises as `ask` does."""
    text, ended = "", False
    try:
        while not ended:
            items, ended = handle.poll(TICK_S)
            text += "".join(item.text for item in items)
            view.update(text, handle.progress, handle.usage)
        result = _result(handle, images, prompt)
    except KeyboardInterrupt:
        handle.cancel()
        partial = _partial(handle, images, prompt)
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


def _result(handle: Any, images: Sequence[Any], prompt: str | None) -> Result:
    running = session.current_engine()
    return Result(handle.result(), images, prompt or "", running.name if running else "")


def _partial(handle: Any, images: Sequence[Any], prompt: str | None) -> Result | None:
    """What was said until the interrupt; the engine ends a request within one step."""
    try:
        handle.result(timeout=10)
        return _result(handle, images, prompt)
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


def one_line(error: Exception) -> UsageError:
    """An error of ours, shown as one line without a traceback."""
    return UsageError(str(error))
