"""`--tools f,g`: the model calls functions of the notebook, after asking."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from ..images.source import is_image_source
from ..types import ImagePart, Message

MOST_ROUNDS = 5


def run_call(call: Any, functions: dict[str, Callable[..., Any]], confirm: Callable[[str], bool]) -> list[Any]:
    """Parts of the tool message: the function's value, or why there is none. Exceptions become text."""
    function = functions.get(call.name)
    if function is None:
        return [f"Error: there is no tool {call.name}; there are {', '.join(functions)}."]
    try:
        arguments = json.loads(call.arguments)
        inspect.signature(function).bind(**arguments)
    except (ValueError, TypeError) as error:
        return [f"Error: the arguments don't fit {call.name} ({error})."]
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    if not confirm(f"{call.name}({shown})"):
        return ["The user refused this call."]
    try:
        return _parts(function(**arguments))
    except Exception as error:
        return [f"Error: {type(error).__name__}: {error}"]


def _parts(value: Any) -> list[Any]:
    if not isinstance(value, str) and is_image_source(value):
        return [ImagePart(value)]
    if isinstance(value, str):
        return [value]
    try:
        return [json.dumps(value, ensure_ascii=False)]
    except (TypeError, ValueError):
        return [str(value)]


def call_message(text: str, calls: Sequence[Any]) -> Message:
    """The assistant's turn that made the calls, as templates want it."""
    made = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments)},
        }
        for number, call in enumerate(calls)
    ]
    return Message("assistant", [text] if text else [], {"tool_calls": made})


def answer_message(number: int, call: Any, parts: list[Any]) -> Message:
    return Message("tool", parts, {"tool_call_id": f"call_{number}", "name": call.name})


def ask_user(text: str) -> bool:
    """:returns: whether the person at the keyboard allows the call."""
    try:
        return input(f"Run {text}? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, RuntimeError, NotImplementedError):  # nobody to ask: nbconvert, papermill
        tell(f"{text} was not run: nobody to ask; --yes allows calls.")
        return False
