"""The extension in other front ends: Voila, Notebook 7 under a base URL, JupyterLab with jupyter-collaboration.

`make fronts` makes an environment that has them and runs these against it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import draw_text
from . import lab_page as ui

pytestmark = pytest.mark.fronts
PYTHON = os.environ.get("OMLX_FRONTS_PYTHON", sys.executable)
NONE = ["--ServerApp.token=", "--ServerApp.password=", "--allow-root", "--no-browser", "--ip=127.0.0.1"]


@contextmanager
def serving(folder: Path, path: str, command: Callable[[int], list[str]]) -> Iterator[str]:
    """The address of a front end that runs in `folder`; `path` is asked for until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([PYTHON, "-m", *command(port)], cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read()
                    break
                except (OSError, urllib.error.URLError):
                    assert server.poll() is None, (folder / "log").read_text()[-2000:]
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()  # a front end that has kernels may ask before it ends
            server.wait(20)


@pytest.fixture
def errors(page: Any) -> list[str]:
    """What the page's console says of us."""
    found: list[str] = []
    page.on("console", lambda m: found.append(m.text) if m.type in ("error", "warning") and "omlx" in m.text else None)
    page.on("pageerror", lambda error: found.append(str(error)) if "omlx" in (error.stack or "") else None)
    return found


def test_voila(page: Any, errors: list[str], tmp_path: Path) -> None:
    draw_text("Hello 42").save(tmp_path / "hello.png")
    ui.notebook(tmp_path, "app.ipynb", ["%load_ext omlx_jupyter", "%ocr hello.png", "%omlx dashboard"])
    command = ["voila", "app.ipynb", "--no-browser", "--enable_nbextensions=False"]
    with serving(tmp_path, "/static/voila.js", lambda port: [*command, f"--port={port}"]) as address:
        page.goto(address)
        page.locator("text=Hello 42").first.wait_for(timeout=90_000)
        page.locator("text=No request is running.").first.wait_for(timeout=30_000)
        page.wait_for_timeout(1000)
    assert errors == []


def test_notebook_7_under_a_base_url(page: Any, errors: list[str], tmp_path: Path) -> None:
    draw_text("Hello 42").save(tmp_path / "hello.png")
    ui.notebook(tmp_path, "app.ipynb", ["%load_ext omlx_jupyter", "%ocr hello.png"])
    command = ["notebook", *NONE, "--ServerApp.base_url=/base/"]
    with serving(tmp_path, "/base/api/status", lambda port: [*command, f"--port={port}"]) as address:
        page.goto(f"{address}/base/notebooks/app.ipynb")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_timeout(3000)
        ui.run_cell(page, 0)
        ui.run_cell(page, 1)
        ui.output(page, 1).locator("text=tokens/s").wait_for(timeout=60_000)
        assert "Hello 42" in ui.output(page, 1).inner_text()
    assert errors == []


def test_a_vlm_cell_with_collaboration(page: Any, errors: list[str], tmp_path: Path) -> None:
    ui.notebook(tmp_path, "app.ipynb", ["%%vlm --max-tokens 5\nIt's {len('a')} here", "for x in y: pass"])
    command = ["jupyterlab", *NONE, "--LabApp.expose_app_in_browser=True"]
    with serving(tmp_path, "/api/status", lambda port: [*command, f"--port={port}"]) as address:
        ui.open_notebook(page, address, "app.ipynb")
        tokens = (
            "index => [...document.querySelectorAll('.jp-Notebook .jp-Cell')[index].querySelectorAll('.cm-line span')]"
        )
        page.wait_for_function(
            f"index => ({tokens})(index).some(s => s.textContent === '%%vlm')", arg=0, timeout=20_000
        )
        said = page.evaluate(f"index => ({tokens})(index).map(s => s.textContent)", 0)
        assert "'a'" in said
        assert not any("It's" in token for token in said)
        assert "for" in page.evaluate(f"index => ({tokens})(index).map(s => s.textContent)", 1)
    assert errors == []
