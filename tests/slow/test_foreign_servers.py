"""A real `mlx_vlm.server` with the embedded model, and a real `mlx_lm.server` with a text model, as engines of the
notebook."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from omlx_jupyter import Engine, SamplingParams, connect
from omlx_jupyter.errors import EngineClosedError, OmlxError
from omlx_jupyter.models.hub import embedded_path

from ..checkpoints.text import text
from ..conftest import draw_text


def served(module: str, model: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(port), "--model", str(model)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                connect(address, str(model)).close()
                urllib.request.urlopen(f"{address}/v1/models", timeout=5).read()
                break
            except (EngineClosedError, OSError):
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield from served("mlx_vlm.server", embedded_path())


@pytest.mark.slow
def test_pictures_streams_and_what_it_cant_do(url: str) -> None:
    with connect(url, str(embedded_path())) as engine:
        handle = engine.submit(images=[draw_text("Hello 42")], sampling=SamplingParams(max_tokens=20))
        assert "".join(piece.text for piece in handle) == "Hello 42"
        assert handle.result().usage.completion_tokens == 9
        with pytest.raises(OmlxError):  # its grammar needs Metal; elsewhere the answer's stream ends with an error
            engine.generate("?", sampling=SamplingParams(max_tokens=20, json_schema={"type": "object"}))
        found = engine.generate("Hi", sampling=SamplingParams(max_tokens=8, seed=3, logprobs=0))
        assert found.logprobs


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    text(folder, model_type="qwen2")
    return folder


@pytest.fixture(scope="module")
def text_url(words: Path) -> Iterator[str]:
    yield from served("mlx_lm.server", words)


@pytest.mark.slow
def test_a_text_server_writes_what_the_own_engine_writes(text_url: str, words: Path) -> None:
    asked = SamplingParams(max_tokens=8, temperature=0)
    with connect(text_url, str(words)) as engine, Engine.load(words) as own:
        handle = engine.submit("Tell me more.", sampling=asked)
        streamed = "".join(piece.text for piece in handle)
        found = handle.result()
        # mlx-lm shows special tokens, which this random model writes
        assert streamed == found.text == own.decode(own.generate("Tell me more.", sampling=asked).token_ids)
        assert found.usage.completion_tokens == 8
        assert found.usage.prompt_tokens > 5
        again = engine.generate("Tell me more.", sampling=SamplingParams(max_tokens=8, seed=3, temperature=1.0))
        assert again.text
        sure = engine.generate("Hi", sampling=SamplingParams(max_tokens=4, temperature=0, logprobs=2))
        assert sure.logprobs or "logprobs" in engine.lacks
        endless = engine.submit("Go on", sampling=SamplingParams(max_tokens=100_000, temperature=0))
        endless.poll(20)
        endless.cancel()
        assert endless.result(30).finish_reason in ("cancelled", "stop")


@pytest.mark.slow
def test_a_text_server_refuses_pictures_in_its_words(text_url: str, words: Path) -> None:
    with connect(text_url, str(words)) as engine, pytest.raises(OmlxError) as told:
        engine.generate("What?", images=[draw_text("Hello")], sampling=SamplingParams(max_tokens=4))
    assert text_url in str(told.value)
