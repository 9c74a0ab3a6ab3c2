"""The quickstart as `make demo` runs it, and as nbconvert shows it without a kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]


def test_demo_leaves_a_notebook_and_a_page_that_need_no_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(ROOT / "artifacts" / "quickstart.ipynb", as_version=4)
    cells = [c for c in notebook.cells if c.source.startswith(("%ocr", "%%vlm"))]
    assert len(cells) == 2
    page = (ROOT / "artifacts" / "quickstart.html").read_text(encoding="utf-8")
    for cell in cells:
        (output,) = cell.outputs
        assert output.output_type == "display_data"
        text = output.data["text/plain"]
        assert "first token" in text
        assert "first token" in done.stdout
        answer = text.split("\n[")[0].splitlines()
        assert answer
        assert all(line in page for line in answer)
    assert "widget-view" not in page
