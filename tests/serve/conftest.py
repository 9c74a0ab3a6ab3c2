"""A server in a real process, one a module, and the kernel's own engine over the same checkpoints."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, connect
from omlx_jupyter.remote import place

from ..chat.test_responses import CHAINS, TEMPLATE
from ..checkpoints import scripted
from ..conftest import no_cache

ROOT = Path(__file__).resolve().parents[2]
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="omlx-rt-", dir="/tmp")  # short: it has sockets


@dataclass
class Served:
    """A server's process and where it is found."""

    name: str
    process: subprocess.Popen[bytes]
    models: list[str]

    @property
    def record(self) -> place.Record:
        found = place.read(self.name)
        assert found is not None
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


def start(name: str, models: list[str], *arguments: str) -> Served:
    """Start a server and wait until it can be found."""
    flags = [word for model in models for word in ("--model", model)]
    command = [sys.executable, "-m", "omlx_jupyter", "serve", "--name", name, *flags, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while (found := place.read(name)) is None or found.pid != process.pid:
        if process.poll() is not None:
            raise AssertionError(process.stderr.read().decode())  # type: ignore[union-attr]
        time.sleep(0.02)
    return Served(name, process, models)


def end(served: Served) -> None:
    if served.process.poll() is None:
        served.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            served.process.wait(20)
        served.process.kill()
    served.process.wait(20)
    if served.process.stderr is not None:
        served.process.stderr.close()


@pytest.fixture(scope="module")
def folders(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models by what they are for: any prompt, thoughts and tools, pages."""
    talks = scripted.write(tmp_path_factory.mktemp("talks"), CHAINS, TEMPLATE)
    return {"any": str(checkpoint("qwen2_vl")), "talks": str(talks), "reads": "tiny-ocr"}


@pytest.fixture(scope="module")
def served(folders: dict[str, str]) -> Iterator[Served]:
    made = start(f"t{os.getpid()}", list(folders.values()), "--port", "0")
    yield made
    end(made)


@pytest.fixture(scope="module")
def engines(folders: dict[str, str], served: Served) -> Iterator[Callable[[str], tuple[Any, Any]]]:
    """(the kernel's own engine, the server's) for one of `folders`."""
    made: dict[str, tuple[Any, Any]] = {}

    def get(what: str) -> tuple[Any, Any]:
        if what not in made:
            made[what] = Engine.load(folders[what], cache=no_cache()), connect(served.name, folders[what])
        return made[what]

    yield get
    for pair in made.values():
        for engine in pair:
            engine.close()


def until(true: Callable[[], Any], timeout: float = 30.0) -> None:
    """Wait for what has to come. It doesn't pass again."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it didn't come"
        time.sleep(0.02)
