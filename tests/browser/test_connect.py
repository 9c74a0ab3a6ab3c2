"""In a real browser: a notebook goes over to a server, shows where its answers come from, and comes back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..checkpoints import scripted
from ..conftest import draw_text
from ..notebook.test_compare import GO
from ..serve.conftest import Served, end, start
from . import lab_page as ui

SAYS = ["Thirty ", "euros ", "in ", "all.", scripted.END]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    model = scripted.write(tmp_path / "model", [["<go>", *SAYS]], GO)
    made = start(f"b{os.getpid()}", [str(model), "tiny-ocr"])
    yield made
    end(made)


def test_a_notebook_goes_over_to_a_server_and_comes_back(served: Served, lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    draw_text("Total 30.00", 24).save(folder / "bill.png")
    cells = [
        "%load_ext omlx_jupyter",
        f"%omlx connect {served.name} --model {served.models[0]}",
        "%%vlm -i bill.png --temperature 0\nHow much is it?",
        f"%omlx connect {served.name} --model tiny-ocr",
        "%ocr bill.png",
        "import sys; 'mlx.core' in sys.modules",
        "%%vlm -i bill.png --temperature 0\nHow much is it?",
        "%omlx disconnect",
        "%ocr bill.png",
    ]
    ui.notebook(folder, "connect.ipynb", cells)
    ui.open_notebook(page, address, "connect.ipynb")
    for cell in (0, 1, 2):
        ui.run_cell(page, cell)
    assert served.name in ui.output(page, 1).inner_text()
    assert "Thirty euros in all." in ui.output(page, 2).inner_text()
    status = page.locator(".omlx-status")
    status.wait_for(timeout=20_000)
    _said(page, served.name)
    page.screenshot(path=shots / "connected.png")
    ui.run_cell(page, 3)
    ui.run_cell(page, 4)
    assert "Total 30.00" in ui.output(page, 4).inner_text()
    drawn = "cell => [...cell.querySelectorAll('img')].map(image => image.naturalWidth)"
    (wide,) = ui.output(page, 4).evaluate(drawn)  # the picture beside its answer, also where Markdown is cleaned
    assert 0 < wide <= 160
    ui.run_cell(page, 5)
    assert "False" in ui.output(page, 5).inner_text()  # nothing was loaded here

    served.kill()
    ui.run_cell(page, 6)
    told = ui.output(page, 6).inner_text()
    assert "Traceback" not in told
    assert re.search(r"%omlx (disconnect|serve|connect)", told), told
    ui.run_cell(page, 7)
    ui.run_cell(page, 8)
    assert "Total 30.00" in ui.output(page, 8).inner_text()
    page.wait_for_function(
        "name => !document.querySelector('.omlx-status').textContent.includes(name)", arg=served.name, timeout=20_000
    )


def _said(page: Any, name: str) -> None:
    """The status bar names the server."""
    shown = (
        "name => { const s = document.querySelector('.omlx-status'); return (s.textContent + s.title).includes(name) }"
    )
    page.wait_for_function(shown, arg=name, timeout=20_000)
