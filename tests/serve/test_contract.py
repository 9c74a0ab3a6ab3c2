"""The same calls over the kernel's own engine and over a server in another process: the same answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from omlx_jupyter import ImagePart, Message, SamplingParams, connect
from omlx_jupyter.chat.pages import read_picture
from omlx_jupyter.errors import EngineClosedError, ImageError, RequestError
from omlx_jupyter.images.source import open_images

from ..chat.test_tool_choice import SMALL, tool
from ..conftest import draw_text, noise_image
from ..engine.test_grammar import BOUNDED
from .conftest import Served

Engines = Callable[[str], tuple[Any, Any]]
F = tool("f", a=SMALL)
COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "images")


def same(mine: Any, theirs: Any) -> None:
    """All but times, what the two caches had, and logprobs.

    Lines that come a step later change their last digits, in one engine asked twice too.
    """
    for field in fields(mine):
        if field.name not in ("usage", "logprobs", "lines"):
            assert getattr(mine, field.name) == getattr(theirs, field.name), field.name
    for name in COUNTS:
        assert getattr(mine.usage, name) == getattr(theirs.usage, name), name


def both(pair: tuple[Any, Any], *args: Any, **options: Any) -> tuple[Any, Any]:
    mine, theirs = (engine.submit(*args, **options).result(60) for engine in pair)
    same(mine, theirs)
    return mine, theirs


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("Tell me more", {"sampling": SamplingParams(max_tokens=24)}),
    ("Seeds", {"sampling": SamplingParams(max_tokens=24, temperature=1.3, seed=2**63 + 5, top_p=0.9, min_p=0.01)}),
    ("Penalties", {"sampling": SamplingParams(max_tokens=24, repetition_penalty=1.4, presence_penalty=0.5)}),
    ("Bias", {"sampling": SamplingParams(max_tokens=8, logit_bias={65: 50.0, 3: -100.0})}),
    ("JSON", {"sampling": SamplingParams(max_tokens=200, json_schema=BOUNDED)}),
    ("Grammar", {"sampling": SamplingParams(max_tokens=20, lark='start: "yes" | "no"')}),
    ("Stops", {"sampling": SamplingParams(max_tokens=40, stop=("e", "t"), temperature=1.0, seed=3)}),
    ("A system prompt", {"system": "Be brief: ünïcödé 🙂", "sampling": SamplingParams(max_tokens=12)}),
    ("A beginning", {"begin": "It begins", "sampling": SamplingParams(max_tokens=12)}),
    ("A hint", {"hint": "what may be said", "sampling": SamplingParams(max_tokens=12)}),
    ("No drafts", {"draft": False, "sampling": SamplingParams(max_tokens=12)}),
]


@pytest.mark.parametrize(("prompt", "options"), ASKED, ids=[prompt for prompt, _ in ASKED])
def test_text(engines: Engines, prompt: str, options: dict[str, Any]) -> None:
    mine, _ = both(engines("any"), prompt, **options)
    assert mine.usage.completion_tokens


def test_pictures_and_conversations(engines: Engines, tmp_path: Path) -> None:
    draw_text("A file").save(tmp_path / "a.png")
    pictures = [noise_image(120, 90), str(tmp_path / "a.png"), noise_image(64, 64, 1)]
    both(engines("any"), "What is in them?", pictures, SamplingParams(max_tokens=16))
    told = [
        Message("user", ["First ", ImagePart(pictures[0]), " then ", ImagePart(pictures[2])]),
        Message("assistant", ["Two."]),
        Message("user", ["And?"]),
    ]
    both(engines("any"), told, sampling=SamplingParams(max_tokens=16))


def test_a_large_picture_is_shrunk_and_the_answer_says_so(engines: Engines) -> None:
    _, theirs = both(engines("any"), "?", [noise_image(2600, 1700)], SamplingParams(max_tokens=2))
    assert "shrunk" in theirs.notes[0]


def test_logprobs_are_the_same_numbers(engines: Engines) -> None:
    mine, theirs = both(engines("any"), "Numbers", sampling=SamplingParams(max_tokens=10, logprobs=3))
    for one, other in zip(mine.logprobs, theirs.logprobs, strict=True):
        assert one.token_id == other.token_id
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
        assert [token for token, _ in one.top] == [token for token, _ in other.top]
    assert len(theirs.logprobs[0].top) == 3


def test_a_stream(engines: Engines) -> None:
    pieces = []
    for engine in engines("any"):
        handle = engine.submit("Stream", sampling=SamplingParams(max_tokens=30))
        made = list(handle)
        assert "".join(p.text for p in made) == handle.result().text
        pieces.append([token for p in made for token in p.token_ids])
        assert handle.progress.tokens == len(pieces[-1])
        assert handle.progress.phase == "done"
        assert handle.usage == handle.result().usage
    assert pieces[0] == pieces[1]

    async def read(engine: Any) -> list[str]:
        return [p.text async for p in engine.submit("Stream", sampling=SamplingParams(max_tokens=30))]

    mine, theirs = ("".join(anyio.run(read, engine)) for engine in engines("any"))
    assert mine == theirs


def test_thoughts(engines: Engines) -> None:
    pair = engines("talks")
    assert [engine.thinks for engine in pair] == [True, True]
    _, theirs = both(pair, "Think", sampling=SamplingParams(max_tokens=40))
    assert (theirs.thinking, theirs.text) == ("Hm", "Four.")
    assert theirs.usage.reasoning_tokens
    handle = pair[1].submit("Think", sampling=SamplingParams(max_tokens=40))
    assert "".join(piece.thinking for piece in handle) == "Hm"
    assert any(piece.reasoning for piece in pair[1].submit("Think", sampling=SamplingParams(max_tokens=40)))


def test_tools(engines: Engines) -> None:
    for engine in engines("talks"):
        found = engine.submit("Call f", sampling=SamplingParams(max_tokens=40), tools=[F]).result(60)
        parsed = engine.parse_tools(found, [F])
        assert [(call.name, json.loads(call.arguments)) for call in parsed.calls] == [("f", {"a": 1})]
    grammars = [engine.tool_parser.grammar([F], False) for engine in engines("talks")]
    assert grammars[0] == grammars[1]
    assert grammars[0]


@pytest.mark.parametrize("stream", [False, True])
def test_openai_types_with_a_tool(engines: Engines, stream: bool) -> None:
    made = []
    for engine in engines("talks"):
        options: dict[str, Any] = {"tools": [F], "max_tokens": 60, "temperature": 0}
        found = engine.chat.completions.create(messages=[{"role": "user", "content": "x"}], stream=stream, **options)
        if not stream:
            made.append([c.function.model_dump() for c in found.choices[0].message.tool_calls])
            continue
        pieces = [c.function for chunk in found for c in chunk.choices[0].delta.tool_calls or ()]
        made.append([pieces[0].name, "".join(piece.arguments or "" for piece in pieces)])
    assert made[0] == made[1]


def test_responses(engines: Engines) -> None:
    mine, theirs = (engine.responses.create(input="Say", max_output_tokens=12) for engine in engines("any"))
    assert mine.output_text == theirs.output_text
    assert mine.usage == theirs.usage.model_copy(update={"input_tokens_details": mine.usage.input_tokens_details})


def test_what_an_engine_says_of_itself(engines: Engines) -> None:
    for what in ("any", "talks", "reads"):
        mine, theirs = engines(what)
        for name in (
            "name",
            "family",
            "is_ocr",
            "sees",
            "thinks",
            "drafter",
            "warnings",
            "context",
            "recipe",
            "grounding",
        ):
            assert getattr(mine, name) == getattr(theirs, name), name
        able = replace(theirs.capabilities, cached=mine.capabilities.cached, why=mine.capabilities.why)
        assert able == mine.capabilities
        assert theirs.decode([5, 6, 7]) == mine.decode([5, 6, 7])
        assert theirs.token_ends([5, 6, 7]) == mine.token_ends([5, 6, 7]) == [1, 2, 3]
        assert theirs.stats().model == mine.stats().model


def test_a_page_by_lines(engines: Engines) -> None:
    page = open_images(draw_text("Hello world 42\nSecond line\nTotal 17.50"))
    mine, theirs = (read_picture(engine, page).result() for engine in engines("reads"))
    same(mine, theirs)
    assert [(line.text, line.box) for line in theirs.lines] == [(line.text, line.box) for line in mine.lines]
    assert [line.logprob for line in theirs.lines] == pytest.approx([line.logprob for line in mine.lines], abs=1e-4)
    assert len(theirs.lines) == 3


def test_errors_of_pictures_and_prompts_come_where_they_come_in_the_kernel(engines: Engines, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    for engine in engines("any"):
        handles = [engine.submit("?", [str(tmp_path / name)]) for name in ("none.png", "no.png")]
        for handle in handles:
            with pytest.raises(ImageError):
                handle.result(30)
        with pytest.raises(RequestError, match="empty"):
            engine.submit("")
        with pytest.raises(RequestError, match="exclude"):
            engine.submit("?", begin="a", sampling=SamplingParams(json_schema={}))
        with pytest.raises(RequestError, match="template"):
            engine.submit("?", chat_template_kwargs={"no_such_word": 1}).result(30)
        with pytest.raises(RequestError, match="characters"):
            engine.submit("x" * 40_000_000)


def test_cancelling_keeps_what_was_said(engines: Engines) -> None:
    mine, theirs = engines("any")
    forbidden = dict.fromkeys(mine._loop.model.end_tokens, -1e9)
    endless = SamplingParams(max_tokens=100_000, logit_bias=forbidden)
    handle = theirs.submit("On and on", sampling=endless)
    said, _ = handle.poll(None)
    assert said
    handle.cancel()
    made = handle.result(30)
    assert made.finish_reason == "cancelled"
    assert len(made.token_ids) >= len([t for piece in said for t in piece.token_ids])
    assert theirs.generate("It goes on", sampling=SamplingParams(max_tokens=3)).token_ids
    with pytest.raises(TimeoutError):
        theirs.generate("Too long", sampling=endless, timeout=0.05)
    left = theirs.submit("Left", sampling=endless)
    left.poll(None)
    del left  # nobody holds it
    for _ in range(600):
        if not theirs.requests():
            break
        threading.Event().wait(0.05)
    assert not theirs.requests()


def test_eight_clients_at_once(engines: Engines, served: Served, folders: dict[str, str]) -> None:
    mine, _ = engines("any")
    prompts = [f"Question {number} of client" for number in range(8)]
    sampling = SamplingParams(max_tokens=40)
    expected = [mine.generate(prompt, sampling=sampling).token_ids for prompt in prompts]

    def client(_: int) -> list[list[int]]:
        with connect(served.name, folders["any"]) as engine:
            handles = [engine.submit(prompt, sampling=sampling) for prompt in prompts]
            return [handle.result(120).token_ids for handle in handles]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client, range(8))) == [expected] * 8


def test_a_closed_engine_and_one_that_nobody_holds(served: Served, folders: dict[str, str]) -> None:
    engine = connect(served.name, folders["any"])
    handle = engine.submit("Bye", sampling=SamplingParams(max_tokens=100_000))
    engine.close()
    engine.close()
    assert handle.result(10).finish_reason == "cancelled" or handle.result(10).token_ids
    with pytest.raises(EngineClosedError, match="closed"):
        engine.submit("?")


def test_unknown_names() -> None:
    with pytest.raises(EngineClosedError, match="there is no server nobody"):
        connect("nobody")
    with pytest.raises(EngineClosedError):
        connect("http://127.0.0.1:9")


def test_a_model_that_the_server_doesnt_have(served: Served) -> None:
    with pytest.raises(RequestError, match="has no model"):
        connect(served.name, "/etc")
