"""`--tools mcp:NAME`: tools of MCP servers, through the official `mcp` package.

Servers are named in `mcp.json` of the user's configuration folder, in the shape that other programs use:
{"mcpServers": {"NAME": {"command": "...", "args": [...], "env": {...}}}}, or {"url": "..."} for one that runs. A server
is started at its first use and ends with the extension.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from IPython.core.error import UsageError

from ...types import ImagePart
from ..settings.config import config_file
from .tools import Tool

if TYPE_CHECKING:
    from mcp import Client, StdioServerParameters
    from mcp.types import Tool as McpTool

START_S, CALL_S = 30.0, 120.0  # seconds that a server may take to start, and a call
_running: dict[str, _Server] = {}
_lock = threading.Lock()


class _Server:
    """A connection to one server, on an event loop in a thread of its own."""

    def __init__(self, name: str, target: str | StdioServerParameters) -> None:
        from mcp import Client

        self._name = name
        self._stack = contextlib.ExitStack()
        enter = self._stack.enter_context
        log: IO[str] = enter(tempfile.TemporaryFile("w+", errors="replace"))  # noqa: SIM115 (a kernel's stderr is no file)
        try:
            self._portal: BlockingPortal = enter(start_blocking_portal())
            self._client = enter(self._portal.wrap_async_context_manager(_opened(Client, target, log)))
        except BaseException as error:
            said = _last_line(log)
            self._stack.close()
            if not isinstance(error, Exception):
                raise
            raise UsageError(
                f"the MCP server {name} doesn't start ({said or _told(error)}); see its command in {servers_file()}."
            ) from None

    def tools(self) -> list[Tool]:
        """All of its tools, called `name` as the server has it."""
        found: list[Any] = []
        cursor: str | None = None
        while True:
            page = self._portal.call(partial(self._client.list_tools, cursor=cursor))
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return [self._tool(tool) for tool in found]

    def _tool(self, tool: McpTool) -> Tool:
        function = {"name": tool.name, "description": tool.description or "", "parameters": dict(tool.input_schema)}
        return Tool(tool.name, {"type": "function", "function": function}, lambda a: self._call(tool.name, a))

    def _call(self, name: str, arguments: Mapping[str, object]) -> str | list[Any]:
        """Its answer as text, or as parts of a message where there are pictures.

        :raises RuntimeError: the server says that it failed.
        """
        answer = self._portal.call(partial(self._client.call_tool, name, dict(arguments), read_timeout_seconds=CALL_S))
        parts: list[Any] = []
        for held in answer.content:
            if held.type == "image":
                parts.append(ImagePart(base64.b64decode(held.data)))
            else:
                parts.append(held.text if held.type == "text" else held.model_dump_json(exclude_none=True))
        if answer.is_error:
            raise RuntimeError(" ".join(part for part in parts if isinstance(part, str)) or "the server gave no reason")
        return "\n".join(parts) if all(isinstance(part, str) for part in parts) else parts

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._stack.close()


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = log.read()[-2000:].strip().splitlines()
    return lines[-1][:300] if lines else ""


@contextlib.asynccontextmanager
async def _opened(client: type[Client], target: str | StdioServerParameters, log: IO[str]) -> Any:
    from mcp import StdioServerParameters, stdio_client

    if isinstance(target, StdioServerParameters):
        target = stdio_client(target, errlog=log)
    with anyio.fail_after(START_S) as scope:
        async with client(target) as opened:
            scope.deadline = float("inf")  # it has started
            yield opened


def _told(error: BaseException) -> str:
    """A group's first error says more than the group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def servers_file() -> Path | None:
    place = config_file()
    return None if place is None else place.with_name("mcp.json")


def tools_of(name: str) -> list[Tool]:
    """The tools of a server of `mcp.json`, which is started where it doesn't run.

    :raises UsageError: it isn't named there, `mcp` isn't installed, or it doesn't start.
    """
    with _lock:
        if name in _running:
            with contextlib.suppress(Exception):  # it went away meanwhile: another is started
                return _running[name].tools()
            _running.pop(name).close()
        server = _running[name] = _Server(name, _target(name))
        try:
            return server.tools()
        except Exception as error:
            _running.pop(name).close()
            raise UsageError(f"the MCP server {name} doesn't tell its tools ({_told(error)}).") from None


def close_all() -> None:
    """End the servers that were started."""
    with _lock:
        for server in _running.values():
            server.close()
        _running.clear()


def _target(name: str) -> str | StdioServerParameters:
    place = servers_file()
    if place is None:
        raise UsageError(f"there is no MCP server {name}: this user has no configuration folder for an mcp.json.")
    try:
        known = json.loads(place.read_text(encoding="utf-8"))["mcpServers"]
        entry = known.get(name)
    except FileNotFoundError:
        known, entry = {}, None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{place} can\'t be read ({error}); it is {{"mcpServers": {{"NAME": {{...}}}}}}.') from None
    if entry is not None and not isinstance(entry, dict):
        raise UsageError(f'the MCP server {name} in {place} is no object; it is {{"command": "...", "args": [...]}}.')
    if entry is None:
        names = ", ".join(known) or "none"
        raise UsageError(f"there is no MCP server {name} in {place}; there are: {names}.")
    try:
        from mcp import StdioServerParameters
    except ImportError:
        raise UsageError("tools of MCP servers need the mcp package: pip install 'omlx_jupyter[mcp]'.") from None
    try:
        if "url" in entry:
            return str(entry["url"])
        return StdioServerParameters(command=entry["command"], args=entry.get("args", []), env=entry.get("env"))
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"the MCP server {name} in {place} has no command that can be run ({_first(error)})."
        ) from None


def _first(error: Exception) -> str:
    """The part of pydantic's words that says what is wrong, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3]) if len(lines) > 2 else " ".join(lines)
