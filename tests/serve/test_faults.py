"""Servers and clients that are killed, restarted, put out: nobody hangs, and rows end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import SamplingParams, connect
from omlx_jupyter.errors import EngineClosedError
from omlx_jupyter.remote import place
from omlx_jupyter.serve import process

from ..conftest import noise_image
from .conftest import ROOT, Served, end, start, until
from .test_guard import ENDLESS

GO_ON = SamplingParams(max_tokens=100_000, logit_bias=ENDLESS)


@pytest.fixture(scope="module")
def model(checkpoint: Callable[..., Path]) -> str:
    return str(checkpoint("qwen2_vl"))


@pytest.fixture
def fresh(model: str) -> Any:
    made = start(f"f{os.getpid()}", [model])
    yield made
    end(made)


def test_a_killed_server_fails_all_at_once_and_a_new_one_takes_its_place(fresh: Served, model: str) -> None:
    engines = [connect(fresh.name) for _ in range(3)]
    handles = [engine.submit(f"{n}", sampling=GO_ON) for engine in engines for n in range(2)]
    for handle in handles:
        handle.poll(None)
    waiting = ThreadPoolExecutor(len(handles))
    answers = [waiting.submit(handle.result, 30) for handle in handles]
    fresh.kill()
    for answer in answers:
        with pytest.raises(EngineClosedError, match="has gone; %omlx connect"):
            answer.result(30)
    with pytest.raises(EngineClosedError, match="has gone"):
        engines[0].submit("?")
    assert engines[0].stats().state == "closed"
    assert engines[0].requests() == []
    assert process.alive(fresh.name) is None
    again = start(fresh.name, [model])  # over what the dead one left
    try:
        with connect(again.name) as engine:
            assert engine.generate("?", sampling=SamplingParams(max_tokens=3)).token_ids
        assert process.end(again.name)
        assert again.process.wait(20) == 0
        assert place.read(again.name) is None
        assert not Path(place.folder() / f"{again.name}.sock").exists()
        assert process.end(again.name) is False
    finally:
        end(again)
        for engine in engines:
            engine.close()
        waiting.shutdown()


CLIENT = """
import sys
from omlx_jupyter import SamplingParams, connect
engine = connect(sys.argv[1])
bias = dict.fromkeys(range(256, 320), -1e9)
handles = [engine.submit(str(n), sampling=SamplingParams(max_tokens=100_000, logit_bias=bias)) for n in range(3)]
for handle in handles:
    handle.poll(None)
print("mlx" in sys.modules, "openai" in sys.modules, flush=True)
handles[0].result()
"""


@pytest.fixture(scope="module")
def lasting(model: str) -> Any:
    made = start(f"l{os.getpid()}", [model])
    yield made
    end(made)


def test_a_killed_client_ends_its_rows_and_no_others(lasting: Served) -> None:
    with connect(lasting.name) as engine:
        mine = engine.submit("mine", sampling=GO_ON)
        mine.poll(None)
        client = subprocess.Popen([sys.executable, "-c", CLIENT, lasting.name], cwd=ROOT, stdout=subprocess.PIPE)
        assert client.stdout is not None
        assert client.stdout.readline().split() == [b"False", b"False"]
        assert len(engine.requests()) == 4
        assert len(engine.others()) == 1
        client.send_signal(signal.SIGKILL)
        client.wait(20)
        client.stdout.close()
        until(lambda: len(engine.requests()) == 1)
        assert mine.poll(None)[0]
        assert not engine.others()
        mine.cancel()
        assert mine.result(30).finish_reason == "cancelled"


def test_a_client_that_leaves_an_openai_answer_ends_its_row(lasting: Served) -> None:
    import httpx
    from openai import OpenAI

    for stream in (True, False):
        http = httpx.Client(transport=httpx.HTTPTransport(uds=lasting.record.socket))
        client = OpenAI(base_url="http://x/v1", api_key="none", http_client=http, max_retries=0, timeout=1.5)
        asked: Any = {"model": lasting.models[0], "messages": [{"role": "user", "content": "x"}], "stream": stream}
        asked |= {"max_tokens": 100_000, "logit_bias": {str(k): -100 for k in ENDLESS}, "temperature": 0}
        with connect(lasting.name) as engine:
            if stream:
                answer = client.chat.completions.create(**asked)
                next(iter(answer))
                answer.close()
            else:
                with pytest.raises(Exception, match="timed out"):
                    client.chat.completions.create(**asked)
            client.close()
            until(lambda e=engine: not e.requests())


def test_a_stopped_server_is_told_to_its_clients_and_waits_for_nobody(fresh: Served) -> None:
    engine = connect(fresh.name)
    handle = engine.submit("?", sampling=GO_ON)
    handle.poll(None)
    fresh.process.send_signal(signal.SIGTERM)
    with pytest.raises(EngineClosedError, match="gone"):
        handle.result(20)
    assert fresh.process.wait(20) == 0
    assert place.read(fresh.name) is None
    engine.close()


def test_models_are_loaded_by_need_and_put_out_by_least_use(checkpoint: Callable[..., Path]) -> None:
    """With room for the first alone: the second waits for its rows, and then takes its place."""
    names = [str(checkpoint("qwen2_vl")), str(checkpoint("qwen3_vl"))]
    served = start(f"m{os.getpid()}", names, "--memory-mib", "64")
    held: dict[str, Any] = {}
    try:
        first = connect(served.name)

        def loaded() -> list[str]:
            said = first._line.ask("GET", "/omlx/v1/status").json()["models"]
            return [name for name, stats in said.items() if stats]

        assert loaded() == names[:1]
        before = first.generate("x", [noise_image(56, 56)], SamplingParams(max_tokens=5)).token_ids
        going = first.submit("on", sampling=GO_ON)
        going.poll(None)
        need = process_room(first)
        thread = threading.Thread(target=lambda: held.update(engine=connect(served.name, names[1])))
        thread.start()
        if need:
            thread.join(1.0)
            assert loaded() == names[:1]  # never while rows run
        going.cancel()
        thread.join(60)
        assert held["engine"].generate("y", sampling=SamplingParams(max_tokens=2)).token_ids
        assert first.generate("x", [noise_image(56, 56)], SamplingParams(max_tokens=5)).token_ids == before
        held["engine"].close()
        first.close()
    finally:
        end(served)


def process_room(engine: Any) -> bool:
    """Whether the bound leaves no room for a second model."""
    memory = engine.stats().memory
    return memory.bound - memory.total < memory.accounts["weights"]


def test_an_idle_server_ends(model: str) -> None:
    served = start(f"i{os.getpid()}", [model], "--idle-exit", "0.5")
    try:
        assert served.process.wait(30) == 0
        assert place.read(served.name) is None
    finally:
        end(served)
