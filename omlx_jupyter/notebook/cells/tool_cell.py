"""`%%vlm --tools`: what is named there, and the rounds in which the model calls it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...images.decoded import DecodedImage
from ...images.source import open_images
from ...types import ImagePart, Message
from ..answers.result import Result
from ..plain import name as on_one_line
from ..plain import tell
from ..settings.config import settings
from ..work import mcp_servers, run, session, tool_loop
from ..work.tools import KIT, SERVER, Tool, kit, of_function, schemas
from .arguments import resolve_source

if TYPE_CHECKING:
    from argparse import Namespace

    from ..shell import Shell


def with_tools(shell: Shell, args: Namespace, request: run.Ask, names: Mapping[str, object]) -> Result:
    """Ask, run the calls that the model makes, ask again: at most five rounds.

    :raises UsageError: a name that is no tool.
    """
    pictures = list(_pictures(request.messages))
    found = named(names, args.tools, pictures)
    request.tools, tools = schemas(found), {tool.name: tool for tool in found}
    by_setting = {name.strip() for name in settings().allowed_tools.split(",")}
    confirm = tool_loop.confirmer(set(tools) if args.yes else by_setting)
    for _ in range(tool_loop.MOST_ROUNDS):
        result = run.ask(shell, request)
        if not result.tool_calls:
            return result
        request.messages.append(tool_loop.call_message("", result.tool_calls))
        for number, call in enumerate(result.tool_calls):
            tell(on_one_line(f"→ {call.name}({call.arguments[: tool_loop.MOST_ARGUMENTS]})"))
            parts = _opened(tool_loop.run_call(call, tools, confirm))
            said = " ".join(part if isinstance(part, str) else _shown(part.source) for part in parts)
            tell(f"← {said if len(said) <= 500 else said[:499] + '…'}")
            answer = tool_loop.answer_message(number, call, parts)
            request.messages.append(answer)
            pictures += _pictures([answer])
    return run.ask(shell, replace(request, tools=None))


def named(names: Mapping[str, object], words: str, pictures: Sequence[DecodedImage]) -> list[Tool]:
    """The tools of `f,obj.method,pictures,mcp:NAME`.

    :raises UsageError: a name that is nothing, can't be called, or isn't there twice.
    """
    found: list[Tool] = []
    for word in (word.strip() for word in words.split(",")):
        if word == KIT and KIT not in names:
            found += kit(pictures, session.engine().grounding)
        elif word.startswith(SERVER):
            found += mcp_servers.tools_of(word.removeprefix(SERVER))
        elif word:
            found.append(of_function(_function(names, word), word))
    if not found:
        raise UsageError("--tools names nothing; give functions, pictures, or mcp:NAME.")
    return found


def _function(names: Mapping[str, object], word: str) -> Any:
    value = resolve_source(word, names)
    if isinstance(value, str) and value == word:
        raise UsageError(
            f"--tools: there is no function {word}; name functions of the notebook, pictures, or mcp:NAME."
        )
    return value


def _pictures(messages: Iterable[Message]) -> Iterable[DecodedImage]:
    """A conversation's pictures, in order."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, ImagePart):
                yield from open_images(part.source, settings().image_limits())


def _opened(parts: Sequence[object]) -> list[Any]:
    """Pictures of an answer are opened once; one that can't be is told to the model instead."""
    made: list[Any] = []
    for part in parts:
        if not isinstance(part, ImagePart):
            made.append(part)
            continue
        try:
            made += [ImagePart(image) for image in open_images(part.source, settings().image_limits())]
        except Exception as error:
            made.append(f"Error: the tool's picture can't be read ({error})")
    return made


def _shown(picture: DecodedImage) -> str:
    return f"a picture, {picture.width} x {picture.height}"
