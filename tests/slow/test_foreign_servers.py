"""A real `mlx_vlm.server` with the embedded model, as an engine of the notebook."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from omlx_jupyter import SamplingParams, connect
from omlx_jupyter.errors import EngineClosedError, OmlxError
from omlx_jupyter.models.hub import embedded_path

from ..conftest import draw_text


@pytest.fixture(scope="module")
def url() -> Any:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_vlm.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--model", str(embedded_path())], stdout=subprocess.DEVNULL, stderr=-3)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            connect(address).close()
            break
        except EngineClosedError:
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait(30)


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
