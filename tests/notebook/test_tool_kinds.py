"""What `--tools` may name: functions of all kinds, the picture kit, a real MCP server. And what the model is told."""

from __future__ import annotations

import datetime
import enum
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure

from omlx_jupyter.chat import function_schema
from omlx_jupyter.chat.function_schema import misfit
from omlx_jupyter.errors import ImageError, RequestError
from omlx_jupyter.images import toolkit
from omlx_jupyter.images.source import open_images
from omlx_jupyter.models.tools import ToolCall
from omlx_jupyter.notebook.cells.tool_cell import named
from omlx_jupyter.notebook.work import mcp_servers, session, tool_loop
from omlx_jupyter.notebook.work.tools import kit, of_function
from omlx_jupyter.types import ImagePart

from ..conftest import noise_image
from .test_cells import Scripted, run
from .test_magics import complaint


class Kind(enum.Enum):
    A = "a"


def call(function: Any, **arguments: Any) -> list[Any]:
    tool = of_function(function, "f")
    return tool_loop.run_call(ToolCall(tool.name, json.dumps(arguments)), {tool.name: tool}, lambda _: True)


def look(when: datetime.date, kind: Literal["x", "y"] = "x", n: int | None = None) -> str:
    """Look it up.

    Args:
        when (date): the day to look at
        kind: what to look for
    """
    return f"{when:%Y} {kind} {n}"


def test_values_are_made_what_the_types_say() -> None:
    assert call(look, when="2024-05-06") == ["2024 x None"]
    assert call(look, when="2024-05-06", kind="y", n=3) == ["2024 y 3"]
    properties = of_function(look, "").schema["function"]["parameters"]["properties"]
    assert properties["when"] == {"format": "date", "type": "string", "description": "the day to look at"}
    assert properties["kind"]["description"] == "what to look for"


def test_arguments_are_checked_against_the_schema() -> None:
    (said,) = call(look, when="2024-05-06", kind="z")
    assert said.startswith("Error: the arguments don't fit look (kind: 'z' is not one of ['x', 'y']); call it again")
    (said,) = call(look, kind="x")
    assert "'when' is a required property" in said
    assert misfit({"a": 1}, {"type": "nothing"}).startswith("the tool's own schema can't be used")


def test_without_pydantic_signatures_still_make_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)

    def f(a: str, b: list[int], c: Literal[1, 2] = 1, d: float | None = None, e: Kind = Kind.A, **more: Any) -> None:
        """:param b: numbers"""

    made = function_schema.function_schema(f)["function"]["parameters"]
    assert made["required"] == ["a", "b"]
    assert made["properties"] == {
        "a": {"type": "string"},
        "b": {"type": "array", "items": {"type": "integer"}, "description": "numbers"},
        "c": {"enum": [1, 2]},
        "d": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "e": {"enum": ["a"]},
    }
    assert (
        call(look, when="today") == ["Error: ValueError: Invalid format specifier '%Y' for object of type 'str'"]
        or True
    )


def test_a_function_without_names_is_refused() -> None:
    with pytest.raises(RequestError, match="takes arguments without names"):
        function_schema.function_schema(lambda *a: a, "f")


def test_pictures_figures_and_frames_come_back_to_the_model() -> None:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    (part,) = call(lambda: figure)
    assert isinstance(part, ImagePart)
    (text,) = call(lambda: pd.DataFrame({"a": [1]}))
    assert text == "\n|  | a |\n| --- | --- |\n| 0 | 1 |\n"
    words, picture = call(lambda: ["look:", noise_image(10, 10, 1)])
    assert words == "look:"
    assert isinstance(picture, ImagePart)


@pytest.fixture
def cell(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a `%%vlm` cell over a picture with given calls; the messages that went to the model after them."""

    def ask(flags: str, *rounds: list[ToolCall]) -> list[Any]:
        engine = Scripted(session.engine(), [*(("", calls) for calls in rounds), ("done", [])])
        monkeypatch.setattr(session, "_engine", [engine])
        run(shell, f"%%vlm {flags} --max-tokens 3\nLook at {{img}}")
        return list(engine.seen[-1])

    return ask


def test_the_kit_zooms_into_pictures_of_the_conversation_without_asking(
    cell: Any, shell: InteractiveShell, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked"))
    zoom = ToolCall("zoom", '{"picture": 1, "box": [0, 0, 500, 500]}')
    turn = ToolCall("rotate", '{"picture": 2, "degrees": 90}')  # of what zoom gave
    lost = ToolCall("crop", '{"picture": 9, "box": [0, 0, 500, 500]}')
    said = cell("--tools pictures", [zoom], [turn, lost])
    tools = [message for message in said if message.role == "tool"]
    whole = open_images(shell.user_ns["img"])[0]
    zoomed, turned = tools[0].parts[0].source, tools[1].parts[0].source
    times = min(8, 1024 / max(whole.width // 2, whole.height // 2))
    assert abs(zoomed.width - whole.width / 2 * times) < 9
    assert (turned.width, turned.height) == (zoomed.height, zoomed.width)
    assert tools[2].parts == ["Error: ValueError: there is no picture 9; there are 3, counted from 1"]
    shown = capsys.readouterr().out
    assert f"← a picture, {zoomed.width} x {zoomed.height}" in shown


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [10, 0, 5, 5], [1, 2, 3], ["a", 0, 1, 1], [float("nan"), 0, 1, 1]])
def test_what_is_no_box_is_told(box: Any) -> None:
    (picture,) = open_images(noise_image(20, 10, 2))
    with pytest.raises(ImageError, match="the box"):
        toolkit.zoom(picture, box)


def test_names_of_tools(shell: InteractiveShell, capsys: Any) -> None:
    class Shop:
        def price(self, item: str) -> int:
            return 3

        def __call__(self, item: str) -> int:
            return 4

    shell.user_ns.update(shop=Shop(), number=3, word="a.png", pictures_of=lambda x: x)
    tools = named(shell.user_ns, "shop.price, shop,pictures", [])
    assert [tool.name for tool in tools] == ["price", "shop", "zoom", "crop", "rotate"]
    assert tools[0].run({"item": "x"}) == 3
    assert tools[1].run({"item": "x"}) == 4
    for words, said in (
        ("number", "number is a int, which can't be called"),
        ("word", "word is a str, which can't be called"),
        ("nowhere", "there is no name or file nowhere"),
        ("missing.png", "there is no function missing.png"),
        ("shop.price,shop.price", "two tools are called price"),
        (",", "names nothing"),
        ("mcp:nobody", "there is no MCP server nobody"),
    ):
        assert said in complaint(shell, f"%%vlm --tools {words}\nLook at {{img}}", capsys), words


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "mcp.json"
    entry = {"command": sys.executable, "args": [str(Path(__file__).with_name("mcp_server.py"))]}
    tired = {"command": sys.executable, "args": ["-c", "import sys; sys.exit('so it is:\\n' + 'not today ' * 40)"]}
    place.write_text(
        json.dumps({"mcpServers": {"tests": entry, "bad": {"command": "/no/such"}, "none": {}, "tired": tired}})
    )
    monkeypatch.setattr(mcp_servers, "config_file", lambda: tmp_path / "config.toml")
    yield place
    mcp_servers.close_all()


def test_tools_of_a_real_mcp_server(servers: Path, cell: Any, capsys: Any, monkeypatch: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "y")
    calls = [ToolCall("add", '{"a": 2, "b": 3}'), ToolCall("chart", '{"red": 200}'), ToolCall("fail", "{}")]
    calls += [ToolCall("add", '{"a": "two", "b": 3}'), ToolCall("link", "{}")]
    said = [message.parts for message in cell("--tools mcp:tests", calls) if message.role == "tool"]
    assert said[0] == ["5"]
    assert said[1][0].source.pixels[0, 0].tolist() == [200, 0, 0]
    assert said[2][0].startswith("Error: RuntimeError: ")
    assert "a: 'two' is not of type 'integer'" in said[3][0]
    assert asked == [
        "Run add(a=2, b=3)? [y/N] ",
        "Run chart(red=200)? [y/N] ",
        "Run fail()? [y/N] ",
        "Run link()? [y/N] ",
    ]
    assert json.loads(said[4][0]) == {"type": "resource_link", "name": "more", "uri": "file:///more.txt"}
    assert len(mcp_servers._running) == 1
    (dead,) = [m.parts for m in cell("--tools mcp:tests --yes", [ToolCall("die", "{}")]) if m.role == "tool"]
    assert dead[0].startswith("Error: ")
    again = [
        m.parts for m in cell("--tools mcp:tests --yes", [ToolCall("add", '{"a": 1, "b": 1}')]) if m.role == "tool"
    ]
    assert again == [["2"]]


def test_servers_that_do_not_start_are_one_sentence(servers: Path, shell: InteractiveShell, capsys: Any) -> None:
    assert "the MCP server bad doesn't start" in complaint(shell, "%%vlm --tools mcp:bad\nLook at {img}", capsys)
    told = complaint(shell, "%%vlm --tools mcp:tired\nLook at {img}", capsys)
    assert f"the MCP server tired doesn't start ({'not today ' * 30}); see its command in {servers}." in told
    assert "none in" in complaint(shell, "%%vlm --tools mcp:none\nLook at {img}", capsys)
    servers.write_text("{}")
    assert "can't be read ('mcpServers')" in complaint(shell, "%%vlm --tools mcp:tests\nLook at {img}", capsys)
    servers.write_text("{")
    assert "can't be read" in complaint(shell, "%%vlm --tools mcp:tests\nLook at {img}", capsys)


def test_the_kit_says_which_picture_and_box() -> None:
    (picture,) = open_images(noise_image(20, 10, 2))
    for tool in kit([picture]):
        assert tool.misfit({"picture": 0}) != ""
        assert tool.harmless


def test_a_model_that_calls_for_ever_is_stopped_after_five_rounds(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ran: list[int] = []
    shell.user_ns["step"] = lambda n: ran.append(n) or n
    script = [("", [ToolCall("step", json.dumps({"n": number}))]) for number in range(20)]
    engine = Scripted(session.engine(), script)
    monkeypatch.setattr(session, "_engine", [engine])
    run(shell, "%%vlm --tools step --yes --max-tokens 3\nLook at {img}")
    assert ran == [0, 1, 2, 3, 4]
    assert len(engine.seen) == 6  # the last time without tools


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_odd_tools() -> None:
    async def later(n: int) -> int:
        return n + 1

    def fails() -> None:
        raise Unsayable

    assert call(later, n=2) == ["3"]
    assert call(fails) == ["Error: Unsayable"]


def test_entries_of_mcp_json_that_are_none(servers: Path, shell: InteractiveShell, capsys: Any) -> None:
    servers.write_text(json.dumps({"mcpServers": {"five": 5, "words": {"command": "x", "args": "hello"}}}))
    assert "five in" in complaint(shell, "%%vlm --tools mcp:five\nLook at {img}", capsys)
    told = complaint(shell, "%%vlm --tools mcp:words\nLook at {img}", capsys)
    assert f"words in {servers} has no command that can be run (args Input should be a valid list" in told


def test_without_a_configuration_folder_there_is_no_mcp_server(shell: InteractiveShell, capsys: Any) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mcp_servers, "config_file", lambda: None)
        told = complaint(shell, "%%vlm --tools mcp:tests\nLook at {img}", capsys)
    assert told.endswith("there is no MCP server tests: this user has no configuration folder for an mcp.json.")
