"""In a real browser: two models answer side by side, and a saved notebook shows it again without a kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..checkpoints import scripted
from ..conftest import draw_text
from ..notebook.test_compare import GO
from . import lab_page as ui

LONG = ["one ", "two ", "three ", "one "]  # and round again, until its tokens are used up
HOSTILE = ["The ", "dog ", "<img src=x onerror='window.pwned = 1'>", " **sits**", ".", scripted.END]


def test_columns_stream_and_are_saved(lab: Any, page: Any, browser: Any, shots: Path, tmp_path: Path) -> None:
    address, folder = lab
    draw_text("Total 12.50", 24).save(folder / "receipt.png")
    slow = scripted.write(tmp_path / "long", [["<go>", *LONG]], GO)
    quick = scripted.write(tmp_path / "quick", [["<go>", *HOSTILE]], GO)
    flags = "-i receipt.png --temperature 0 --no-draft --max-tokens 1500"
    ask = f"%%vlm --compare {slow},{quick} {flags} -o both\nWhat is this?"
    ui.notebook(folder, "compare.ipynb", ["%load_ext omlx_jupyter", ask, "both.agree"])
    ui.open_notebook(page, address, "compare.ipynb")
    ui.run_cell(page, 0)
    ui.run_cell(page, 1, wait=False)
    grown = (
        "() => { const t = [...document.querySelectorAll('.omlx-live .omlx-text')].map(e => e.textContent);"
        " return t.length === 2 && t[0].length > 100 && t[1].includes('sits'); }"
    )
    page.wait_for_function(grown, timeout=60_000)
    left, right = (ui.output(page, 1).locator(".omlx-live").nth(place).bounding_box() for place in (0, 1))
    assert right["x"] >= left["x"] + left["width"] - 1  # side by side
    assert abs(left["y"] - right["y"]) < 2
    assert ui.output(page, 1).locator(".omlx-live img").count() == 1
    page.screenshot(path=shots / "compare-streaming.png")
    _look(ui.output(page, 1), slow, quick)
    assert ui.output(page, 1).locator(".omlx-live").count() == 0
    page.screenshot(path=shots / "compare.png")
    ui.run_cell(page, 2)
    assert "False" in ui.output(page, 2).inner_text()
    ui.save(page)
    saved = json.loads((folder / "compare.ipynb").read_text())
    bundles = [output["data"] for output in saved["cells"][1]["outputs"] if "data" in output]
    assert [set(bundle) for bundle in bundles] == [{"text/html", "text/markdown", "text/plain"}]
    saved["metadata"].pop("kernelspec", None)
    (folder / "compare-cold.ipynb").write_text(json.dumps(saved))
    again = browser.new_page()
    again.goto(f"{address}/lab/tree/compare-cold.ipynb?reset")
    _look(ui.output(again, 1), slow, quick)
    again.screenshot(path=shots / "compare-saved.png")
    assert not again.evaluate("() => window.pwned")
    assert not page.evaluate("() => window.pwned")
    again.close()


def _look(cell: Any, slow: Path, quick: Path) -> None:
    """Two columns with their names, texts and figures, and the words that differ."""
    columns = cell.locator("table").first
    columns.wait_for(timeout=120_000)
    assert columns.locator("th").all_inner_texts() == [str(slow), str(quick)]
    texts = columns.locator("td").all_inner_texts()
    assert texts[0].startswith("one two three one two")
    assert texts[1].strip() == "The dog <img src=x onerror='window.pwned = 1'> sits."
    assert columns.locator("td").nth(1).locator("strong").inner_text() == "sits"
    assert all("tokens/s" in below for below in texts[2:])
    first, second = (columns.locator("td").nth(place).bounding_box() for place in (0, 1))
    assert second["x"] >= first["x"] + first["width"] - 1
    assert abs(first["width"] - second["width"]) < 0.1 * first["width"]
    assert cell.locator("del").first.inner_text().startswith("one two three")
    assert "dog" in cell.locator("ins").first.inner_text()
    assert cell.locator("img").count() == 0
