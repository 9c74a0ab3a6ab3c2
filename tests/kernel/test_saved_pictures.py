"""The pictures of a question in a saved notebook, which nobody runs."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from ..conftest import draw_text

DRAW = """
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
fig, axes = plt.subplots(figsize=(5, 3), dpi=100)
axes.plot([1, 3, 2])
"""


def ran(folder: Path, saved: str) -> Any:
    """Run by nbclient, as nbconvert and papermill do."""
    draw_text("Total 12.50", 24).resize((600, 400)).save(folder / "<b>.png")
    cells = [
        f"%load_ext omlx_jupyter\n%config Omlx.save_pictures = '{saved}'" + DRAW,
        "%%vlm --max-tokens 3 -o one\nWhat is {fig}?",
        "%%vlm -i *.png --max-tokens 3\nWhat is it?",
        "one",
        "%ocr *.png",
        "one.images[0].width, one.images[0].height",
    ]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(made, timeout=120, kernel_name="python3", resources=resources).execute()


def pictures(text: str) -> list[Image.Image]:
    found = re.findall(r'<img [^>]*src="data:image/(?:png|jpeg);base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def answer(cell: Any) -> dict[str, str]:
    (output,) = (output for output in cell.outputs if "data" in output)
    return dict(output.data)


def test_figures_are_saved_as_they_were_sent_and_files_as_thumbnails(tmp_path: Path) -> None:
    from nbconvert import HTMLExporter

    done = ran(tmp_path, "")
    for cell in (done.cells[1], done.cells[3]):
        (seen,) = pictures(answer(cell)["text/markdown"])
        assert seen.format == "PNG"
        assert seen.width > 300
        assert str(seen.size) == answer(done.cells[5])["text/plain"]
    for cell in (done.cells[2], done.cells[4]):
        (seen,) = pictures(answer(cell)["text/markdown"])
        assert (seen.format, seen.size) == ("JPEG", (160, 107))
        assert "&lt;b&gt;.png" in answer(cell)["text/markdown"]
        assert "base64" not in answer(cell)["text/plain"]
    assert "Total 12.50" in answer(done.cells[4])["text/markdown"]
    page, _ = HTMLExporter().from_notebook_node(done)
    assert len(pictures(page)) == 4
    assert "tokens" in page
    assert "model not found" not in page.lower()


@pytest.mark.parametrize(("saved", "count"), [("thumbnails", 1), ("none", 0)])
def test_a_setting_leaves_them_out(tmp_path: Path, saved: str, count: int) -> None:
    done = ran(tmp_path, saved)
    for cell in (done.cells[1], done.cells[2]):
        seen = pictures(answer(cell)["text/markdown"])
        assert len(seen) == count
        assert all(max(picture.size) == 160 for picture in seen)
