"""Servers that speak OpenAI's shapes: our own by its address alone, and one that says what a test wants."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter import ImagePart, Message, SamplingParams, connect
from omlx_jupyter.errors import EngineClosedError, ModelError, OmlxError, RequestError
from omlx_jupyter.remote import flight
from omlx_jupyter.remote.foreign import ForeignEngine
from omlx_jupyter.remote.shapes import READ, messages_of
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.run import Run

from ..conftest import draw_text
from .conftest import Served, end, start
from .test_contract import F

KEY = "sk-of-nobody-1234567890"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from ..chat.test_responses import CHAINS, TEMPLATE
    from ..checkpoints import scripted

    talks = scripted.write(tmp_path_factory.mktemp("talks"), CHAINS, TEMPLATE)
    made = start(f"o{os.getpid()}", ["tiny-ocr", str(talks)], "--port", "0")
    yield made
    end(made)


def foreign(served: Served, model: str | None = None) -> ForeignEngine:
    return ForeignEngine(f"{served.record.url}/v1", model, key=served.record.token)


def test_pictures_schemas_and_streams(ours: Served) -> None:
    with foreign(ours) as engine, connect(ours.name) as native:
        assert engine.name == "tiny-ocr"
        sampling = SamplingParams(max_tokens=40)
        told = [Message("user", [ImagePart(draw_text("Hello 42"))])]
        handle = engine.submit(told, sampling=sampling)
        assert "".join(piece.text for piece in handle) == handle.result().text == "Hello 42"
        assert handle.result().usage.prompt_tokens > 20
        assert handle.result().usage.images == 1
        schema = SamplingParams(max_tokens=60, json_schema={"enum": [17]}, seed=3, top_k=5, logprobs=2)
        found, mine = engine.submit("?", sampling=schema).result(60), native.submit("?", sampling=schema).result(60)
        assert (found.text, json.loads(found.text)) == (mine.text, 17)
        assert not engine.lacks
        assert not found.notes
        told, own = found.logprobs or [], mine.logprobs or []
        assert [(t.logprob, [p for _, p in t.top]) for t in told] == [(t.logprob, [p for _, p in t.top]) for t in own]
        assert len(told) >= 3
        assert engine.stats().finished == 2


def test_thoughts_and_tools(ours: Served) -> None:
    with foreign(ours, ours.models[1]) as engine:
        assert not engine.thinks
        found = engine.submit("Think", sampling=SamplingParams(max_tokens=40)).result(60)
        assert (found.thinking, found.text, engine.thinks) == ("Hm", "Four.", True)
        found = engine.submit("f!", tools=[F], sampling=SamplingParams(max_tokens=40)).result(60)
        assert [(c.name, json.loads(c.arguments)) for c in engine.parse_tools(found, [F]).calls] == [("f", {"a": 1})]


def test_a_wrong_key_and_no_server(ours: Served) -> None:
    with pytest.raises(RequestError, match="wants a key") as told:
        ForeignEngine(f"{ours.record.url}/v1", key=KEY)
    assert KEY not in str(told.value)
    engine = ForeignEngine(f"{ours.record.url}/v1", "tiny-ocr", key=KEY)
    with pytest.raises(RequestError, match="refuses the key") as told:
        engine.generate("?")
    assert KEY not in str(told.value)
    engine.close()
    with pytest.raises(EngineClosedError, match="closed"):
        engine.submit("?")
    with pytest.raises(EngineClosedError, match="nobody answers"):
        ForeignEngine("http://127.0.0.1:9/v1")


def test_messages_as_openai_has_them() -> None:
    calls = {"tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}]}
    told = [
        Message("user", ["x"]),
        Message("assistant", [], calls),
        Message("tool", [ImagePart(draw_text("A"))], {"tool_call_id": "c1"}),
    ]
    made, _, count = messages_of(told, None, 10**6)
    assert [item["role"] for item in made] == ["user", "assistant", "tool", "user"]
    assert made[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert made[3]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert made[3]["content"][1]["text"] == READ
    assert count == 1


class Script(BaseHTTPRequestHandler):
    """Answers by `plan`, a function of (number of the request, its body) -> (status, body or pieces)."""

    protocol_version = "HTTP/1.1"
    plan: Any = None
    seen: list[dict[str, Any]]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(404, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).seen.append(body)
        status, said = type(self).plan(len(type(self).seen), body)
        if isinstance(said, list):
            chunks = [{"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", **c} for c in said]
            data = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            self._send(status, data.encode(), "text/event-stream")
        else:
            body = said if isinstance(said, dict) else {"error": {"message": said}}
            self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if status == 429:
            self.send_header("retry-after", "0.01")
        self.end_headers()
        self.wfile.write(body)


def text(*pieces: str) -> list[dict[str, Any]]:
    return [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]


@pytest.fixture
def scripted() -> Iterator[Callable[[Any], tuple[ForeignEngine, list[dict[str, Any]]]]]:
    Script.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    engines: list[ForeignEngine] = []

    def make(plan: Any) -> tuple[ForeignEngine, list[dict[str, Any]]]:
        Script.plan = staticmethod(plan)
        engines.append(ForeignEngine(f"http://127.0.0.1:{server.server_port}/v1", "m", key=KEY))
        return engines[0], Script.seen

    yield make
    for engine in engines:
        engine.close()
        if engine._client is not None:
            engine._client.close()
    server.shutdown()
    server.server_close()


def test_a_busy_server_is_waited_for(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "_doubled", lambda attempt: 0.01)
    statuses = {1: 429, 2: 503, 3: 500}
    engine, seen = scripted(lambda n, _: (statuses.get(n, 200), "busy" if n in statuses else text("Well", " then")))
    width = engine.flight.width
    assert engine.generate("?").text == "Well then"
    assert len(seen) == 4
    assert engine.flight.width == width // 2  # one 429


def test_more_are_sent_at_once_while_all_goes_well() -> None:
    gate, never = flight.Flight(2), threading.Event()
    for _ in range(6):
        assert gate.enter(never)
        gate.leave(True)
    assert gate.width > 3
    gate.too_much()
    assert gate.width == 2
    for _ in range(2):
        assert gate.enter(never)
    never.set()
    assert not gate.enter(never)


def test_what_a_server_cant_do_is_told_once_from_its_answers(scripted: Any) -> None:
    def plan(_: int, body: dict[str, Any]) -> tuple[int, Any]:
        for word in ("seed", "stream_options"):
            if word in body:
                return 400, f"Extra inputs are not permitted: {word}, key {KEY}"
        return 200, text("no JSON")

    engine, seen = scripted(plan)
    asked = SamplingParams(seed=4, logprobs=1, json_schema={"type": "object"}, max_tokens=5)
    first = engine.generate("?", sampling=asked)
    assert first.text == "no JSON"
    assert set(engine.lacks) == {"seed", "stream_options", "logprobs", "usage", "json_schema"}
    assert len(first.notes) == 5
    assert KEY not in repr((first.notes, engine.lacks))
    before = len(seen)
    assert engine.generate("?", sampling=asked).notes == ()
    assert len(seen) == before + 1  # at once without what it refused
    assert "seed" in engine.capabilities.why


def test_a_run_says_how_sure_a_server_was_though_it_tells_no_tokens(scripted: Any, tmp_path: Path) -> None:
    def plan(_: int, body: dict[str, Any]) -> tuple[int, Any]:
        tokens = [
            {"token": t, "logprob": p, "bytes": None, "top_logprobs": []} for t, p in (('{"a":', 0.0), ("1}", -1.0))
        ]
        (chunk,) = text('{"a":1}')
        chunk["choices"][0]["logprobs"] = {"content": tokens, "refusal": None}
        return 200, [chunk]

    engine, _ = scripted(plan)
    source = np.zeros((8, 8, 3), np.uint8)
    question = Question("How many?", schema={"type": "object"}, whole=True)
    run = Run([source], question, tmp_path / "run.jsonl", lambda: engine)
    run.start().wait()
    (record,) = run.records()
    assert (record.error, record.value, record.sure) == ("", {"a": 1}, {})
    assert record.confidence == pytest.approx(math.exp(-1), abs=1e-4)


def test_an_error_never_shows_the_key(scripted: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    engine, _ = scripted(lambda *_: (400, f"what is {KEY}?"))
    with pytest.raises(RequestError, match="answered 400") as told:
        engine.generate("?")
    assert KEY not in str(told.value)
    assert KEY not in caplog.text
    assert KEY not in repr(engine) + repr(engine.address)


def test_what_no_such_server_takes_is_refused_here(scripted: Any) -> None:
    engine, seen = scripted(lambda *_: (200, text("x")))
    for sampling in (SamplingParams(lark='start: "a"'), SamplingParams(stop_token_ids=(3,))):
        with pytest.raises(OmlxError, match="can't be given"):
            engine.submit("?", sampling=sampling)
    assert seen == []


def test_a_server_without_a_list_of_models(scripted: Any) -> None:
    engine, _ = scripted(lambda *_: (200, text("x")))
    with pytest.raises(ModelError, match="--model"):
        ForeignEngine(engine.url)


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None, **more}]}


VLLM_USAGE = {
    "prompt_tokens": 20, "total_tokens": 26, "completion_tokens": 6, "prompt_tokens_details": None,
    "completion_tokens_details": None,
}  # fmt: skip
# As vLLM's OpenAI server writes a stream: an opening delta, thoughts as `reasoning` (before 0.12 `reasoning_content`),
# `stop_reason` and `token_ids` beside each choice, and a last chunk without choices that has the usage
VLLM = [
    chunk({"role": "assistant", "content": "", "reasoning_content": None}, stop_reason=None, token_ids=None),
    chunk({"reasoning": "Two and two", "content": None}),
    chunk({"reasoning_content": " make four.", "content": None}),
    chunk({"content": "Four"}, token_ids=None),
    chunk({"content": "."}, "stop", stop_reason=151645, token_ids=None),
    {"choices": [], "usage": VLLM_USAGE, "system_fingerprint": None},
]
# SGLang's: `matched_stop`, nulls in every delta, usage with cached tokens, calls that come name first
CALL = {"index": 0, "id": "call_9", "type": "function", "function": {"name": "f", "arguments": ""}}
MORE = [{"index": 0, "id": None, "type": "function", "function": {"name": None, "arguments": part}}
        for part in ('{"a"', ": 1}")]  # fmt: skip
SGLANG_USAGE = {
    "prompt_tokens": 30, "total_tokens": 34, "completion_tokens": 4, "reasoning_tokens": 0,
    "prompt_tokens_details": {"cached_tokens": 16},
}  # fmt: skip
NULLS = {"role": None, "content": None, "reasoning_content": None}
SGLANG = [
    chunk({"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": None}, matched_stop=None),
    chunk({**NULLS, "tool_calls": [CALL]}, matched_stop=None),
    *[chunk({**NULLS, "tool_calls": [part]}, matched_stop=None) for part in MORE],
    chunk({**NULLS, "tool_calls": None}, "tool_calls", matched_stop=None),
    {"choices": [], "usage": SGLANG_USAGE, "metadata": {"weight_version": "default"}},
]


def test_vllms_forms(scripted: Any) -> None:
    engine, seen = scripted(lambda *_: (200, VLLM))
    found = engine.generate("2 + 2?", sampling=SamplingParams(max_tokens=9, think=True))
    assert (found.text, found.thinking, found.finish_reason) == ("Four.", "Two and two make four.", "stop")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.cached_tokens) == (20, 6, 0)
    assert engine.thinks
    assert not engine.lacks
    assert seen[0]["stream_options"] == {"include_usage": True}


def test_sglangs_forms(scripted: Any) -> None:
    engine, _ = scripted(lambda *_: (200, SGLANG))
    found = engine.submit("f!", tools=[F], sampling=SamplingParams(max_tokens=9)).result(30)
    assert [(c.name, c.arguments) for c in engine.parse_tools(found, [F]).calls] == [("f", '{"a": 1}')]
    assert (found.usage.prompt_tokens, found.usage.cached_tokens) == (30, 16)
    assert not engine.lacks


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "At most 1 image(s) may be provided", "type": "BadRequestError", "code": 400},
        {
            "error": {
                "message": "At most 1 image(s) may be provided",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
        {"detail": [{"type": "value_error", "loc": ["body"], "msg": "At most 1 image(s) may be provided"}]},
    ],
)
def test_errors_in_each_form_are_told(scripted: Any, body: dict[str, Any]) -> None:
    engine, _ = scripted(lambda *_: (400, body))
    with pytest.raises(RequestError, match=r"answered 400: .*At most 1 image"):
        engine.generate("?")


def test_an_error_inside_a_stream_is_told(scripted: Any) -> None:
    engine, _ = scripted(lambda *_: (200, [*text("So"), {"error": {"message": "out of memory", "code": 500}}]))
    with pytest.raises(RequestError, match="ended the answer: out of memory"):
        engine.generate("?")
