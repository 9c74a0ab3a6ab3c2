"""OpenAI-shaped messages -> ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import RequestError
from ..types import Message
from .function_schema import function_schema
from .parts import Part, checked_text, part

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def conversation(prompt: object) -> str | list[Message] | None:
    """What a caller asks, as the engine takes it: a prompt, or messages in any of their forms.

    A message is a `Message`, an OpenAI dict or type, or a string (a user turn); a part is text, an `ImagePart`,
    a picture as `omlx_jupyter.images` takes it, a data
    frame, or an OpenAI part.

    :raises RequestError: anything else, by its place.
    """
    if prompt is None:
        return None
    if isinstance(prompt, str):
        return checked_text(prompt, "the prompt")
    if isinstance(prompt, Message | Mapping) or hasattr(prompt, "model_dump"):
        prompt = [prompt]
    if not isinstance(prompt, Iterable) or isinstance(prompt, bytes):
        raise RequestError(f"the prompt is a {type(prompt).__name__}; give text, or a list of messages.")
    return [_message(value, place) for place, value in enumerate(prompt)]


def checked_system(system: object) -> str | None:
    """:raises RequestError: a system prompt that is no text."""
    if system is not None and not isinstance(system, str):
        raise RequestError(f"system is a {type(system).__name__}; give text.")
    return checked_text(system, "the system prompt") if system else None


def _message(value: object, place: int) -> Message:
    if isinstance(value, str):
        return Message("user", [checked_text(value, f"message {place}")])
    if isinstance(value, Message):
        parts = [value.parts] if isinstance(value.parts, str) else value.parts
        if value.role not in ROLES.values():
            raise RequestError(f"message {place} has the role {value.role!r}; use {', '.join(ROLES)}.")
        return Message(value.role, [part(item, place) for item in parts], value.extra)
    if isinstance(value, Mapping) or hasattr(value, "model_dump"):
        return from_openai([value], place)[0]
    raise RequestError(
        f"message {place} is a {type(value).__name__}; give a Message, a dict with role and content, or text. "
        "Pictures go into a message's parts, or into images=."
    )


def from_openai(messages: Iterable[object], first: int = 0) -> list[Message]:
    """Messages as the `openai` package has them: dicts or its own types, content as text or parts.

    :raises RequestError: a role or a part that can't be taken, by its place.
    """
    made = []
    for place, message in enumerate(messages, first):
        fields = _fields(message)
        role = ROLES.get(str(fields.get("role")))
        if role is None:
            raise RequestError(f"message {place} has the role {fields.get('role')!r}; use {', '.join(ROLES)}.")
        parts = _parts(fields.get("content"), place)
        extra: dict[str, Any] = {}
        if fields.get("tool_calls"):
            extra["tool_calls"] = [_tool_call(_fields(call)) for call in fields["tool_calls"]]
        for name in ("tool_call_id", "name"):
            if fields.get(name):
                extra[name] = fields[name]
        made.append(Message(role, parts, extra))  # type: ignore[arg-type]
    if not made:
        raise RequestError("messages is empty; give at least one user message.")
    return made


def _fields(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "model_dump"):
        return dict(value.model_dump(exclude_none=True))
    raise RequestError(f"a message is a {type(value).__name__}; give a dict or an openai message.")


def _parts(content: object, place: int) -> list[Any]:
    if content is None:
        return []
    if isinstance(content, str):
        return [checked_text(content, f"message {place}")]
    if isinstance(content, Mapping) or not isinstance(content, Iterable):
        raise RequestError(f"message {place} has a {type(content).__name__} as content; give text or a list of parts.")
    return [_part(item, place) for item in content]


def _part(item: object, place: int) -> Part:
    return part(item.model_dump(exclude_none=True) if hasattr(item, "model_dump") else item, place)


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """Templates want the arguments as an object; OpenAI sends them as text."""
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"] or "{}")
        except ValueError:
            raise RequestError(f"the arguments of tool call {call.get('id')!r} are no JSON.") from None
    return {"id": call.get("id"), "type": "function", "function": function}


def tool_schemas(tools: Sequence[object] | None) -> list[dict[str, Any]] | None:
    """JSON schemas as they are, Python functions by their signature and docstring.

    :raises RequestError: something that is neither.
    """
    if not tools:
        return None
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        raise RequestError(f"tools are a {type(tools).__name__}; give a list of functions or schemas.")
    return [function_schema(tool) if callable(tool) else _checked(tool) for tool in tools]


def _checked(tool: object) -> dict[str, Any]:
    fields = _fields(tool) if isinstance(tool, Mapping) or hasattr(tool, "model_dump") else {}
    if fields.get("type") != "function" or not fields.get("function", {}).get("name"):
        raise RequestError('a tool is a function or {"type": "function", "function": {"name": ..., ...}}.')
    return fields
