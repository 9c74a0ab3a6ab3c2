"""An MCP server for the tests: run over its standard input and output by the client under test."""

from __future__ import annotations

import io
import os
from typing import Any

from mcp.server.mcpserver import Image, MCPServer
from mcp.types import ResourceLink
from PIL import Image as Pillow

server = MCPServer("tests")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def chart(red: int) -> Image:
    """A picture."""
    made = io.BytesIO()
    Pillow.new("RGB", (30, 20), (red, 0, 0)).save(made, "PNG")
    return Image(data=made.getvalue(), format="png")


@server.tool()
def link() -> list[Any]:
    """Where more is."""
    return [ResourceLink(name="more", uri="file:///more.txt", type="resource_link")]


@server.tool()
def fail() -> str:
    """It fails."""
    raise ValueError("no such thing")


@server.tool()
def die() -> str:
    """The server ends."""
    os._exit(3)


if __name__ == "__main__":
    server.run()
