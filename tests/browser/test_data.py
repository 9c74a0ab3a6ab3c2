"""A run's review by keyboard, a sheet of questions, and boxes that point at each other, in a real page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..conftest import draw_text
from . import lab_page as ui

SCHEMA = (
    "schema = {'type': 'object', 'properties': {'total': {'type': 'object', 'properties': "
    "{'value': {'enum': ['42']}, 'bbox_2d': {'const': [500, 0, 1000, 500]}}, 'required': ['value', 'bbox_2d'], "
    "'additionalProperties': False}, 'open': {'type': 'integer', 'minimum': 0, 'maximum': 99}}, "
    "'required': ['total', 'open'], 'additionalProperties': False}"
)


def test_review_and_sheet(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    (folder / "bills").mkdir()
    for n in range(2):
        draw_text(f"Bill {n}").save(folder / "bills" / f"{n}.png")
    cells = [
        "%load_ext omlx_jupyter\nfrom omlx_jupyter import ocr, vlm",
        SCHEMA,
        "run = vlm.map('Read.', 'bills/', json=schema, save='bills.jsonl', max_tokens=200)\nrun.review()",
        "print([(r.value['open'], r.kind) for r in run.records()])",
        "vlm.table('bills/', {'says': 'What does it say?', 'how many': ('How many?', bool)}, save='sheet.jsonl',"
        " max_tokens=40)",
    ]
    ui.notebook(folder, "bills.ipynb", cells)
    ui.open_notebook(page, address, "bills.ipynb")
    for index in (0, 1, 2):
        ui.run_cell(page, index)
    review = ui.output(page, 2).locator(".omlx-review")
    review.wait_for(timeout=60_000)
    box = review.locator("textarea")
    places = []
    review.locator("text=1 of ").wait_for(timeout=20_000)
    count = int(review.locator(".omlx-review-head").inner_text().split(" of ")[1].split(" ")[0])
    for number in range(1, count + 1):
        review.locator(f"text={number} of {count}").wait_for(timeout=20_000)
        places.append(review.locator("label").inner_text().split(" ")[0])
        if number == 1:
            assert review.locator("img").evaluate("i => i.naturalWidth") > 0
            page.screenshot(path=shots / "review.png")
        if places[-1] == "open":
            box.fill("7")
        box.press("Enter")
    review.locator("text=Nothing is left to look at.").wait_for(timeout=20_000)
    assert sorted(places) == ["open", "open", "total.value", "total.value"]
    ui.run_cell(page, 3)
    said = ui.output(page, 3).inner_text()
    assert "(7, 'correction')" in said
    lines = [json.loads(line) for line in (folder / "bills.jsonl").read_text().splitlines()]
    last = {line["source"]: line["value"]["open"] for line in lines if line.get("kind") == "correction"}
    assert sorted(last.values()) == [7, 7]
    ui.run_cell(page, 4)
    sheet = ui.output(page, 4)
    sheet.locator("table").wait_for(timeout=60_000)
    header = [cell.strip() for cell in sheet.locator("thead th").all_inner_texts()]
    assert "says" in header
    assert "how many" in header
    assert sheet.locator("tbody tr").count() == 2
    page.screenshot(path=shots / "sheet.png")


def test_a_field_and_its_place_point_at_each_other(lab: Any, page: Any, browser: Any, shots: Path) -> None:
    address, folder = lab
    draw_text("Sum 42").save(folder / "sum.png")
    cells = ["%load_ext omlx_jupyter", SCHEMA, "%%vlm -i sum.png --json schema --boxes --max-tokens 200\nWhere?"]
    ui.notebook(folder, "places.ipynb", cells)
    ui.open_notebook(page, address, "places.ipynb")
    for index in (0, 1, 2):
        ui.run_cell(page, index)
    ui.save(page)
    points_at_each_other(ui.output(page, 2), page)
    page.screenshot(path=shots / "places.png")
    saved = browser.new_page()  # without a kernel, and not trusted: what JupyterLab leaves of the file
    ui.open_cold(saved, address, folder, "places.ipynb")
    output = ui.output(saved, 2)
    output.locator("img").wait_for(timeout=30_000)
    assert output.locator("li").all_inner_texts() == ["total"]
    blue = """image => {
      const canvas = Object.assign(document.createElement('canvas'), {width: image.naturalWidth, height: 1});
      canvas.getContext('2d').drawImage(image, 0, 0);
      return Array.from(canvas.getContext('2d').getImageData(image.naturalWidth / 2 + 5, 0, 1, 1).data);
    }"""
    assert output.locator("img").evaluate(blue) == [30, 120, 255, 255]  # the box's upper edge
    saved.close()


def points_at_each_other(output: Any, page: Any) -> None:
    output.locator("svg polygon").first.wait_for(timeout=30_000)
    polygon, item = output.locator("svg polygon").first, output.locator("li", has_text="total").first
    width = "p => getComputedStyle(p).strokeWidth"
    outline = "p => getComputedStyle(p).outlineStyle"
    page.mouse.move(0, 0)
    assert (polygon.evaluate(width), item.evaluate(outline)) == ("1px", "none")
    item.hover()
    assert polygon.evaluate(width) == "3px"
    polygon.hover()
    assert item.evaluate(outline) == "solid"
    page.mouse.move(0, 0)
    item.focus()  # by keyboard
    assert polygon.evaluate(width) == "3px"
