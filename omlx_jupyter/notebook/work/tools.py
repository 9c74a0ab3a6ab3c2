"""What `--tools` names: functions of the notebook, the picture kit, tools of MCP servers. One shape for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from ...chat.function_schema import call_with, function_schema, misfit
from ...chat.messages import tool_schemas
from ...images.decoded import DecodedImage
from ...images.grounding import THOUSANDTHS, Grounding

KIT = "pictures"
SERVER = "mcp:"
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    """`schema` is OpenAI's; `run` takes the arguments. `harmless`: it touches the conversation's pictures only, and
    needs no question."""

    name: str
    schema: Schema
    run: Callable[[Mapping[str, Any]], Any]
    harmless: bool = False

    def misfit(self, arguments: object) -> str:
        """What is wrong with arguments, for the model; "" where they fit."""
        return misfit(arguments, self.schema["function"].get("parameters") or {"type": "object"})


def of_function(function: Callable[..., object], name: str) -> Tool:
    """:raises UsageError: it can't be called.
    :raises RequestError: it has no name, or arguments without names."""
    if not callable(function):
        raise UsageError(f"--tools: {name} is a {type(function).__name__}, which can't be called; name functions.")
    schema = function_schema(function, name.rpartition(".")[2])
    return Tool(schema["function"]["name"], schema, lambda arguments: call_with(function, arguments))


def kit(pictures: Sequence[DecodedImage], grounding: Grounding = THOUSANDTHS) -> list[Tool]:
    """zoom, crop and rotate over a conversation's `pictures`, which may grow; boxes as the model counts them."""
    from ...images import toolkit

    def chosen(number: int) -> DecodedImage:
        if not 1 <= number <= len(pictures):
            raise ValueError(f"there is no picture {number}; there are {len(pictures)}, counted from 1")
        return pictures[number - 1]

    box = {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 4,
        "maxItems": 4,
        "description": grounding.words(),
    }
    number = {"type": "integer", "minimum": 1, "description": "which picture of the conversation, counted from 1"}
    degrees = {"type": "number", "description": "clockwise"}
    return [
        _of_kit("zoom", "Look closer at a part of a picture: it comes back enlarged.", {"picture": number, "box": box},
                lambda a: toolkit.zoom(chosen(a["picture"]), a["box"], grounding)),
        _of_kit("crop", "Cut a part out of a picture, at its own size.", {"picture": number, "box": box},
                lambda a: toolkit.crop(chosen(a["picture"]), a["box"], grounding)),
        _of_kit("rotate", "Turn a picture.", {"picture": number, "degrees": degrees},
                lambda a: toolkit.rotate(chosen(a["picture"]), a["degrees"])),
    ]  # fmt: skip


def _of_kit(name: str, said: str, properties: Schema, run: Callable[[Mapping[str, Any]], Any]) -> Tool:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": said, "parameters": parameters}
    return Tool(name, {"type": "function", "function": function}, run, harmless=True)


def schemas(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """:raises UsageError: two of them have one name."""
    names = [tool.name for tool in tools]
    if double := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--tools: two tools are called {double[0]}; leave one out or rename it.")
    return tool_schemas([dict(tool.schema) for tool in tools]) or []
