"""The quickstart as `make demo` runs it, and as nbconvert shows it without a kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

from tools.make_pictures import SCREENSHOT_TEXT

ROOT = Path(__file__).resolve().parents[2]


def test_demo_leaves_a_notebook_and_a_page_that_need_no_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(ROOT / "artifacts" / "quickstart.ipynb", as_version=4)
    cells = [c for c in notebook.cells if "%ocr" in c.source or "%%vlm" in c.source]
    assert len(cells) == 2
    assert cells[0] is next(c for c in notebook.cells if c.cell_type == "code")
    page = (ROOT / "artifacts" / "quickstart.html").read_text(encoding="utf-8")
    for cell in cells:
        output, *boxes = cell.outputs
        assert all("<svg" in box.data["text/html"] for box in boxes)
        assert output.output_type == "display_data"
        text = output.data["text/plain"]
        assert "first token" in text
        assert "first token" in done.stdout
        answer = text.split("\n[")[0].splitlines()
        assert answer
        assert all(line.strip() in page for line in answer)
    shown = cells[0].outputs[0].data["text/plain"].split("\n[")[0]
    assert shown == SCREENSHOT_TEXT
    assert len(cells[0].outputs) == 2
    assert "widget-view" not in page
