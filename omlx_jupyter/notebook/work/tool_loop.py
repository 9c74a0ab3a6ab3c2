"""`--tools f,g`: the model calls functions of the notebook, after asking."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...chat.tables import is_table, table
from ...images.source import is_image_source
from ...types import ImagePart, Message
from ..plain import name as on_one_line
from ..plain import tell
from .tools import Tool

if TYPE_CHECKING:
    from ...engine.front import FoundCall
    from ...models.tools import ToolCall

MOST_ROUNDS = 5
MOST_ARGUMENTS = 10_000  # characters: all of them are shown before a call runs
MOST_RESULT = 20_000  # characters that go back to the model


def run_call(call: ToolCall, tools: Mapping[str, Tool], confirm: Callable[[str], bool]) -> list[Any]:
    """Parts of the tool message: the tool's value, or why there is none. Exceptions become text."""
    tool = tools.get(call.name)
    if tool is None:
        return [f"Error: there is no tool {call.name[:200]}; there are {', '.join(tools)}."]
    if len(call.arguments) > MOST_ARGUMENTS:
        return [f"Error: the arguments are longer than {MOST_ARGUMENTS:,} characters; the call did not run."]
    try:
        arguments = json.loads(call.arguments)
        problem = tool.misfit(arguments)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    if problem:
        return [_cut(f"Error: the arguments don't fit {call.name} ({problem}); call it again with ones that do.")]
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    if not (tool.harmless or confirm(f"{call.name}({shown})")):
        return ["The user refused this call."]
    try:
        return _parts(tool.run(arguments))
    except (Exception, SystemExit) as error:
        return [_cut(f"Error: {_told(error)}")]


def confirmer(allowed: Collection[str]) -> Callable[[str], bool]:
    """Asks before each call, but for functions that are allowed by name."""
    return lambda text: text.partition("(")[0] in allowed or ask_user(text)


def _parts(value: object) -> list[Any]:
    if isinstance(value, ImagePart):
        return [value]
    if _is_picture(value):
        return [ImagePart(value)]
    if is_table(value):
        return [_cut(table(value))]
    if isinstance(value, list | tuple) and any(isinstance(v, ImagePart) or _is_picture(v) for v in value):
        return [part for item in value for part in _parts(item)]
    if isinstance(value, str):
        return [_cut(value)]
    try:
        return [_cut(json.dumps(value, ensure_ascii=False))]
    except (TypeError, ValueError):
        return [_cut(str(value))]


def _told(error: BaseException) -> str:
    """Its kind and words; some have none that can be written."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _is_picture(value: object) -> bool:
    return not isinstance(value, str) and is_image_source(value)


def _cut(text: str) -> str:
    """A result is data of a limited size, and text that can be written."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= MOST_RESULT:
        return text
    return f"{text[:MOST_RESULT]}\n… cut: the result has {len(text):,} characters, {MOST_RESULT:,} are given."


def call_message(text: str, calls: Sequence[FoundCall]) -> Message:
    """The assistant's turn that made the calls, as templates want it."""
    made = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": _arguments(call)},
        }
        for number, call in enumerate(calls)
    ]
    return Message("assistant", [text] if text else [], {"tool_calls": made})


def _arguments(call: FoundCall) -> Any:
    """The arguments as templates want them; what is no JSON goes back to the model as it came."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments


def answer_message(number: int, call: FoundCall, parts: Sequence[object]) -> Message:
    return Message("tool", parts, {"tool_call_id": f"call_{number}", "name": call.name})


def ask_user(text: str) -> bool:
    """:returns: whether the person at the keyboard allows the call."""
    try:
        return input(f"Run {on_one_line(text)}? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, RuntimeError, NotImplementedError):  # nobody to ask: nbconvert, papermill
        function = on_one_line(text.partition("(")[0])
        tell(
            f"{on_one_line(text)} was not run: nobody to ask here; --yes allows the functions of --tools, and "
            f"%config Omlx.allowed_tools = '{function}' this one."
        )
        return False
