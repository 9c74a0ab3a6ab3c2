"""The parser of tool calls that a server's model has, asked over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..types import Generation
from . import wire
from .line import Line


@dataclass(frozen=True)
class Call:
    """One call; `arguments` is a JSON object as text. `whole` is told of calls that are still written."""

    name: str
    arguments: str
    whole: bool = True


@dataclass(frozen=True)
class Taken:
    """An answer taken apart, as `models.tools.Parsed`."""

    text: str
    calls: tuple[Call, ...] = ()
    note: str = ""


class RemoteParser:
    """As `ToolParser`, as far as chat uses it."""

    def __init__(self, line: Line, hello: wire.Hello) -> None:
        self._line, self._model = line, hello.name
        self.starts, self.begins = hello.tool_starts, hello.tool_begins
        self.start_id, self.style = hello.tool_start_id, hello.tool_style

    def parsed(self, result: Generation, tools: Sequence[object] | None = None) -> Taken:
        """An answer's text and calls."""
        asked = {
            "text": result.text,
            "token_ids": result.token_ids,
            "reasoning": result.usage.reasoning_tokens,
            "tools": _schemas(tools),
        }
        said = self._ask("parse", asked)
        return Taken(said["text"], tuple(Call(*call) for call in said["calls"]), said["note"])

    def begun(self, token_ids: Sequence[int], tools: Sequence[object] | None = None) -> list[Call]:
        """The calls of an answer that goes on."""
        said = self._ask("begun", {"token_ids": list(token_ids), "tools": _schemas(tools)})
        return [Call(*call) for call in said["calls"]]

    def grammar(self, tools: Sequence[Mapping[str, object]], several: bool) -> str | None:
        """A grammar of a call of one of `tools`; None where the model's format can't be bound to one."""
        made = self._ask("grammar", {"tools": _schemas(tools), "several": several})["grammar"]
        return None if made is None else str(made)

    def _ask(self, what: str, body: wire.Item) -> Any:
        path = f"{wire.ROOT}/tools/{what}"
        return self._line.told(self._line.ask("POST", path, {"model": self._model, **body}))


def _schemas(tools: Sequence[object] | None) -> list[dict[str, Any]] | None:
    from ..chat.messages import tool_schemas

    return tool_schemas(tools)
