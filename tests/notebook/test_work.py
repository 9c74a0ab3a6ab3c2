"""Conversations, tools, hints, kept answers and items of a run, by their rooms' doors."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError

from omlx_jupyter import ImagePart, Message, SamplingParams
from omlx_jupyter.errors import OmlxError, RequestError
from omlx_jupyter.images.source import open_images
from omlx_jupyter.models.tools import ToolCall
from omlx_jupyter.notebook.settings import per_model
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.work import chats, hints, jobs, latest, many, session, tool_loop
from omlx_jupyter.notebook.work.tools import KIT, SERVER, kit, of_function, schemas

from ..conftest import draw_text, endless
from .test_jobs import until


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    chats.clear()
    latest.forget()
    yield
    chats.clear()
    latest.forget()


def turn(chat: str, cell: str, words: str, *more: Any) -> str:
    return chats.add(chat, cell, Message("user", [words, *more]), f"to {words}", f"thought of {words}")


def said(messages: list[Message]) -> list[tuple[str, Any]]:
    return [(message.role, message.parts[0]) for message in messages]


def test_a_cell_that_asks_again_goes_on_from_what_was_before_it() -> None:
    assert chats.before("c", "1") == []
    assert turn("c", "1", "a") == turn("c", "2", "b") == turn("c", "3", "d") == ""
    assert said(chats.before("c", "")) == said(chats.find("c").messages)
    assert said(chats.before("c", "3"))[-1] == ("assistant", "to b")
    assert said(chats.before("c", "2")) == [("user", "a"), ("assistant", "to a")]
    assert turn("c", "3", "e") == ""  # the last one: nothing came after it
    assert turn("c", "2", "f") == "c~1"
    assert [t.user.parts[0] for t in chats.find("c").turns] == ["a", "f"]
    assert [t.user.parts[0] for t in chats.find("c~1").turns] == ["a", "b", "e"]
    assert turn("c", "1", "g") == "c~2"
    assert chats.names() == [chat.name for chat in chats.listing()] == ["c", "c~1", "c~2"]


def test_cells_without_an_id_are_turns_of_their_own() -> None:
    assert [turn("c", "", word) for word in "ab"] == ["", ""]
    assert len(chats.find("c").turns) == 2
    assert said(chats.before("c", "")) == said(chats.find("c").messages)
    assert chats.find("c").turns[0].thinking == "thought of a"


def test_chats_are_forked_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    picture = ImagePart(open_images(draw_text("1"))[0])
    chats.command([])
    assert capsys.readouterr().out == "No chats yet; %%vlm --chat NAME begins one.\n"
    with pytest.raises(UsageError, match=r"^there is no chat c; known: none yet.$"):
        chats.find("c")
    turn("c", "1", "a", picture, picture)
    chats.command(["fork", "c", "b"])
    turn("b", "2", "more", picture)
    chats.command([])
    assert capsys.readouterr().out.splitlines() == [
        *("b goes on from c (1 turns).", "b: 2 turns, 3 pictures", "c: 1 turns, 2 pictures"),
    ]
    with pytest.raises(UsageError, match=r"^there is a chat b already; %omlx chats clear b removes it.$"):
        chats.fork("c", "b")
    with pytest.raises(UsageError, match=r"^there is no chat x; known: b, c.$"):
        chats.clear("x")
    chats.command(["clear", "b"])
    assert chats.names() == ["c"]
    chats.command(["clear"])
    assert chats.names() == []
    for wrong in (["fork", "c"], ["clear", "a", "b"], ["export"], ["x"]):
        with pytest.raises(UsageError, match=r"chats fork NAME NEW"):
            chats.command(wrong)


def test_a_chat_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = open_images(draw_text("1"))[0]
    turn("c", "1", "é", ImagePart(picture))
    monkeypatch.setattr(settings(), "save_thoughts", True)
    chats.command(["export", "c", str(tmp_path / "c.json")])
    text = (tmp_path / "c.json").read_text(encoding="utf-8")
    first, second = json.loads(text)
    assert "é" in text
    assert first["content"][0] == {"type": "text", "text": "é"}
    assert first["content"][1]["type"] == "image_url"
    assert first["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert second == {
        "role": "assistant",
        "content": [{"type": "text", "text": "to é"}],
        "reasoning_content": "thought of é",
    }
    assert first["role"] == "user"
    assert "reasoning_content" not in first
    chats.export("c", tmp_path / "c.md")
    blocks = (tmp_path / "c.md").read_text(encoding="utf-8").split("\n\n")
    assert blocks[:2] == ["**user**", "é"]
    assert blocks[2].startswith("![picture](data:image/png;base64,")
    assert blocks[3:] == ["**assistant, thinking**", "> thought of é", "**assistant**", "to é\n"]
    monkeypatch.setattr(settings(), "save_thoughts", False)
    chats.export("c", tmp_path / "c.json")
    assert "reasoning_content" not in (tmp_path / "c.json").read_text(encoding="utf-8")
    chats.export("c", tmp_path / "c.md")
    assert "thinking" not in (tmp_path / "c.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match=r"exported as .md or .json"):
        chats.export("c", tmp_path / "c.txt")
    with pytest.raises(UsageError, match=r"can't be written .*No such file"):
        chats.export("c", tmp_path / "no" / "c.md")


def test_answers_of_this_kernel() -> None:
    with pytest.raises(UsageError, match=r"^there are 0 answers of this kernel; .* restarted has none.$"):
        latest.last("last")
    held = [f"answer {n}" for n in range(21)]
    for value in [*held, held[20]]:
        latest.add(value)
    assert (latest.last("last"), latest.last(" last 2 "), latest.last("last 20")) == (held[20], held[19], held[1])
    for words in ("last 21", "last 0"):
        with pytest.raises(UsageError, match=r"^there are 20 answers"):
            latest.last(words)
    for words in ("first", "last x", "last -1", ""):
        with pytest.raises(UsageError, match=r"^%vlm last \[N\]"):
            latest.last(words)
    latest.forget()
    latest.add("one")
    with pytest.raises(UsageError, match=r"^there is 1 answer of"):
        latest.last("last 2")


def test_hints_are_text() -> None:
    assert [hints.hint_text(v) for v in (None, float("nan"), "a", SimpleNamespace(text="b"))] == ["", "", "a", "b"]
    for wrong in (1, 1.5, ["a"]):
        with pytest.raises(RequestError, match=r"^the hint is a (int|float|list); give text, or an answer\.$"):
            hints.hint_text(wrong)
    assert hints.hints_for("ab", 2) == ["ab", "ab"]
    assert hints.hints_for(None, 1) == [""]
    assert hints.hints_for(["a", None], 2) == ["a", ""]
    assert hints.hints_for(SimpleNamespace(text="t"), 2) == ["t", "t"]
    with pytest.raises(RequestError, match=r"^there are 1 hints for 2 pictures"):
        hints.hints_for(["a"], 2)
    with pytest.raises(RequestError, match=r"the hint is a dict"):
        hints.hints_for({"a": 1}, 1)


def add(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


ADD = {"add": of_function(add, "m.add")}


def call(arguments: str, name: str = "add", agree: bool = True, tools: Any = ADD) -> tuple[list[Any], list[str]]:
    asked: list[str] = []

    def confirm(text: str) -> bool:
        asked.append(text)
        return agree

    return tool_loop.run_call(ToolCall(name, arguments), tools, confirm), asked


def test_a_call_and_why_it_does_not_run() -> None:
    assert call('{"x": 1}') == (["3"], ["add(x=1)"])
    assert call('{"x": 1, "y": 5}') == (["6"], ["add(x=1, y=5)"])
    assert call('{"x": 1}', agree=False) == (["The user refused this call."], ["add(x=1)"])
    assert call("{}", "sub") == (["Error: there is no tool sub; there are add."], [])
    for wrong in ("{", "[]", '{"x": "one"}', '{"y": 1}'):
        (told,), asked = call(wrong)
        assert told.startswith("Error: the arguments don't fit add (")
        assert told.endswith("); call it again with ones that do.")
        assert not asked
    fits = '{"x": 1}' + " " * (10_000 - 8)
    assert call(fits)[0] == ["3"]
    assert call(fits + " ")[0] == ["Error: the arguments are longer than 10,000 characters; the call did not run."]
    (told,), _ = call("{}", "n" * 300)
    assert told == f"Error: there is no tool {'n' * 200}; there are add."


def test_what_a_tool_gives_back() -> None:
    picture = draw_text("1")

    def value_of(value: Any) -> list[Any]:
        def give() -> Any:
            if isinstance(value, BaseException):
                raise value
            return value

        return call("{}", "give", tools={"give": of_function(give, "give")})[0]

    assert value_of("text") == ["text"]
    assert value_of({"é": [1, None]}) == ['{"é": [1, null]}']
    assert value_of({1}) == ["{1}"]
    assert value_of(ValueError("no")) == ["Error: ValueError: no"]
    assert value_of(SystemExit(3)) == ["Error: SystemExit: 3"]
    assert value_of("\ud800") == ["?"]
    assert value_of("a" * 20_000) == ["a" * 20_000]
    cut = "\n… cut: the result has 20,001 characters, 20,000 are given."
    assert value_of("a" * 20_001) == ["a" * 20_000 + cut]
    assert [type(part) for part in value_of(picture)] == [ImagePart]
    assert [type(part) for part in value_of(["see", ImagePart(picture), picture])] == [str, ImagePart, ImagePart]
    assert value_of(["a", "b"]) == ['["a", "b"]']


def test_messages_of_a_call() -> None:
    made = tool_loop.call_message("so", [ToolCall("add", '{"x": 1}'), ToolCall("add", "{")])
    assert (made.role, made.parts) == ("assistant", ["so"])
    assert made.extra["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": {"x": 1}}},
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{"}},
    ]
    assert tool_loop.call_message("", []).parts == []
    answer = tool_loop.answer_message(1, ToolCall("add", ""), ["3"])
    assert (answer.role, answer.parts, answer.extra) == ("tool", ["3"], {"tool_call_id": "call_1", "name": "add"})


def test_who_may_be_called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = iter(["y", " YES ", "n", "", "yess"])
    monkeypatch.setattr("builtins.input", lambda text: next(said))
    assert [tool_loop.ask_user("f()") for _ in range(5)] == [True, True, False, False, False]
    monkeypatch.setattr("builtins.input", lambda text: (_ for _ in ()).throw(EOFError))
    assert tool_loop.confirmer({"f"})("f(x=1)")
    assert not tool_loop.confirmer({"f"})("g(x=1)")
    assert "g(x=1) was not run: nobody to ask here" in capsys.readouterr().out
    assert tool_loop.MOST_ROUNDS == 5


def test_the_picture_kit_counts_from_one() -> None:
    picture = open_images(draw_text("Hello"))[0]
    tools = {tool.name: tool for tool in kit([picture])}
    assert (list(tools), KIT, SERVER) == (["zoom", "crop", "rotate"], "pictures", "mcp:")
    assert all(tool.harmless for tool in tools.values())
    assert not ADD["add"].harmless
    with pytest.raises(AttributeError):
        ADD["add"].harmless = True  # type: ignore[misc]
    box = {"picture": 1, "box": [0, 0, 500, 1000]}
    (part,), asked = call(json.dumps(box), "crop", tools=tools)
    assert not asked
    cropped = open_images(part.source)[0]
    assert (cropped.height, abs(cropped.width - picture.width // 2) <= 1) == (picture.height, True)
    (part,), _ = call('{"picture": 1, "degrees": 90}', "rotate", tools=tools)
    assert open_images(part.source)[0].width == picture.height
    assert call(json.dumps({**box, "picture": 2}), "zoom", tools=tools)[0] == [
        "Error: ValueError: there is no picture 2; there are 1, counted from 1"
    ]
    for wrong in ({"picture": 0}, {"box": [1, 2, 3]}, {"box": [1, 2, 3, 4, 5]}, {"more": 1}):
        assert "don't fit zoom" in call(json.dumps({**box, **wrong}), "zoom", tools=tools)[0][0]
    assert "don't fit rotate" in call('{"picture": 1}', "rotate", tools=tools)[0][0]
    with pytest.raises(UsageError, match=r"^--tools: two tools are called crop; leave one out or rename it.$"):
        schemas([*tools.values(), tools["crop"]])
    assert [s["function"]["name"] for s in schemas(list(tools.values()))] == list(tools)
    with pytest.raises(UsageError, match=r"^--tools: x is a int, which can't be called; name functions.$"):
        of_function(3, "x")  # type: ignore[arg-type]


def test_names_of_items() -> None:
    assert many.name_of("a" * 120) == "a" * 120
    assert many.name_of("a" * 121) == "a" * 117 + "…"
    assert many.name_of(Path("b.png")) == "b.png"
    assert many.name_of(SimpleNamespace(source="s")) == "s"
    assert many.name_of(b"x") == "a bytes"
    assert str(many.many_kept(2, 5)) == "Interrupted: 2 of 5 are kept in _; run it again to go on."


def test_an_item_is_the_same_while_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.png"
    draw_text("1").save(path)
    before = many._identity("a.png")
    assert before == many._identity("a.png")
    assert before[0] == str(path)
    os.utime(path, ns=(1, 1))
    assert many._identity("a.png") != before
    assert many._identity("none.png") == "none.png"
    assert many._identity(b"abc") == many._identity(bytearray(b"abc")) != many._identity(b"abd")
    assert many._identity(draw_text("1")) == many._identity(draw_text("1")) != many._identity(draw_text("2"))
    assert many._identity(SimpleNamespace(digest="d")) == "d"
    assert many._identity(object()) != many._identity(object())


def test_jobs_by_number(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("0", "x", "-1", "999999"):
        with pytest.raises(UsageError, match=f"^there is no job {text}; known: "):
            jobs.find(text)
    for wrong in (["x"], ["wait", "1", "2"], ["clear", "1"]):
        with pytest.raises(UsageError, match=r"jobs wait \[N\]"):
            jobs.command(wrong)


def test_many_pictures_are_read_told_of_and_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = SamplingParams(max_tokens=2)
    items: list[Any] = [draw_text("one"), b"no picture", draw_text("two"), draw_text("three")]
    told: list[tuple[int, int, int]] = []

    def tell(done: int, count: int, failed: int, seconds: float) -> None:
        told.append((done, count, failed))
        assert 0 <= seconds < 300
        if done == stop_at:
            raise KeyboardInterrupt

    stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        many.read_many(items, None, sampling, tell, ahead=1)
    assert [(done, failed) for done, _, failed in told if done][-1] == (2, 1)
    kept = many.finished_of(items, None, sampling)
    assert [result.model for result in kept] == ["tiny-ocr"]
    assert many.finished_of(items, "other words", sampling) == []
    assert many.finished_of(items, None, SamplingParams(max_tokens=3)) == []
    told.clear()
    stop_at = -1
    made = many.read_many(items, None, sampling, tell, ahead=2)
    assert told[-1] == (4, 4, 1)
    assert made[0] is kept[0]
    assert [type(result).__name__ for result in made] == ["Result", "Failure", "Result", "Result"]
    assert (made[1].source, made[2].model) == ("a bytes", "tiny-ocr")
    assert many.finished_of(items, None, sampling) == []


def test_what_is_kept_of_an_interrupted_run_is_of_its_models_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(per_model, "models_file", lambda: tmp_path / "models.toml")
    sampling, items = SamplingParams(seed=1), [draw_text("one"), draw_text("two")]
    there = session.engine("tiny-ocr", say=None)
    monkeypatch.setattr(session, "_engine", [Renamed(there)])

    def tell(done: int, *_: Any) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        many.read_many(items, None, sampling, tell, ahead=1)
    assert [made.model for made in many.finished_of(items, None, sampling)] == ["mine"]
    per_model.change("mine", {"temperature": "0.5"})
    assert many.finished_of(items, None, sampling) == []
    per_model.change("mine", {"temperature": ""})
    assert len(many.read_many(items, None, sampling)) == 2


class Renamed:
    """The embedded model under another name."""

    name = "mine"

    def __init__(self, engine: Any) -> None:
        self._real = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_picture_that_is_opened_can_be_ended_before_and_after_it_is_read() -> None:
    engine = session.engine("tiny-ocr", say=None)
    opening = many._Opening(draw_text("one\ntwo"), None, SamplingParams(max_tokens=500), True, False, "", False)
    opening.cancel()
    deadline = time.monotonic() + 20

    def busy() -> int:
        now = engine.stats()
        return now.preparing + now.waiting + now.prefilling + now.decoding

    while (busy() or not opening._started.done()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert busy() == 0
    endless_one = many._Opening(draw_text("three"), None, endless(engine), True, False, "", False)
    until(lambda: endless_one._started.done() and engine.stats().decoding == 1)
    assert not endless_one.done
    endless_one.cancel()
    until(lambda: busy() == 0)
    assert endless_one.done
    broken = many._Opening(b"no picture", None, SamplingParams(), True, False, "", False)
    with pytest.raises(OmlxError):
        broken.result()
    assert broken.done
    broken.cancel()  # what has failed needs no end
