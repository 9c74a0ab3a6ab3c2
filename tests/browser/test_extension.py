"""The JupyterLab extension in a real browser: status, panel, pictures into cells, questions about outputs."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tools.make_pictures import FOLDER as PICTURES
from tools.make_pictures import SCREENSHOT_TEXT

from ..conftest import draw_text
from . import lab_page as ui

AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
GIVE = """([index, kind, data, x]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], 'shot.png', { type: 'image/png' }));
  const editor = document.querySelectorAll('.jp-Notebook .jp-Cell')[index].querySelector('.cm-content');
  const line = editor.querySelector('.cm-line:last-child').getBoundingClientRect();
  const place = { clientX: line.left + x, clientY: line.top + 4, bubbles: true, cancelable: true };
  const event = kind === 'paste'
    ? new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: transfer, ...place });
  (kind === 'paste' ? editor : editor.querySelector('.cm-line:last-child')).dispatchEvent(event);
  return event.defaultPrevented;
}"""


def png(text: str) -> str:
    held = io.BytesIO()
    draw_text(text, 24).save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


def source(page: Any, index: int) -> str:
    return str(page.evaluate(
        "i => [...document.querySelectorAll('.jp-Notebook .jp-Cell')[i].querySelectorAll('.cm-line')]"
        ".map(l => l.textContent).join('\\n')", index,
    ))  # fmt: skip


def drag(page: Any, start: dict[str, float], end: dict[str, float]) -> None:
    """With the mouse, slowly, from one box into another."""
    x, y, to_x, to_y = start["x"] + 40, start["y"] + 8, end["x"] + 200, end["y"] + 10
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 21):
        page.mouse.move(x + step * (to_x - x) / 20, y + step * (to_y - y) / 20)
        page.wait_for_timeout(30)
    page.wait_for_timeout(200)
    page.mouse.up()


def open_panel(page: Any) -> Any:
    page.locator(".omlx-status").click()
    panel = page.locator(".omlx-panel")
    panel.wait_for(timeout=10_000)
    return panel


ENDLESS = (
    "%load_ext omlx_jupyter\n%omlx load {path}\n"
    "from omlx_jupyter import SamplingParams\nfrom omlx_jupyter.notebook.work import run, session\n"
    "ends = session.engine()._loop.model.end_tokens\n"
    "bias = {{**{{i: -1e9 for i in ends}}, **{{i: -1e9 for i in range(256, 320)}}}}\n"
    "run.sampling_from = lambda args: SamplingParams(temperature=1, seed=1, max_tokens=100_000, logit_bias=bias)"
)


def test_status_and_panel_follow_two_background_cells(
    lab: Any, page: Any, shots: Path, checkpoint: Callable[..., Path]
) -> None:
    address, folder = lab
    cell = "%%vlm --background -o {0}\nTell me {0}"
    cells = [ENDLESS.format(path=checkpoint("qwen2_vl")), cell.format("one"), cell.format("two"), "one.cancel()"]
    ui.notebook(folder, "status.ipynb", cells)
    ui.open_notebook(page, address, "status.ipynb")
    assert page.locator(".omlx-status").is_hidden()  # it sleeps while the kernel doesn't know us
    ui.run_cell(page, 0)
    status = page.locator(".omlx-status")
    status.wait_for(timeout=20_000)
    page.wait_for_function("() => document.querySelector('.omlx-status').textContent.includes('idle')")
    ui.run_cell(page, 1)
    ui.run_cell(page, 2)
    page.wait_for_function(
        "() => /decode, 2 rows · \\d+ tokens\\/s/.test(document.querySelector('.omlx-status').textContent)",
        timeout=20_000,
    )
    panel = open_panel(page)
    panel.locator(".omlx-decode").nth(1).wait_for(timeout=10_000)
    assert panel.locator(".omlx-row", has_text="writing").count() == 2
    page.wait_for_timeout(1500)
    page.screenshot(path=shots / "panel-light.png")
    panel.get_by_role("button", name="Cancel background cell").first.click()
    page.wait_for_function("() => document.querySelectorAll('.omlx-panel .omlx-decode').length === 1", timeout=10_000)
    expected = panel.get_by_role("button", name="Cancel background cell")
    for _ in range(100):  # the row goes before its job: a click now would be on the button that is taken away
        if expected.count() == 1:
            break
        page.wait_for_timeout(100)
    expected.click()
    page.wait_for_function("() => document.querySelector('.omlx-status').textContent.includes('idle')", timeout=10_000)


@pytest.mark.parametrize(
    ("kind", "first", "written"), [("paste", "%%vlm", '{img("picture-'), ("drop", "%ocr ", "picture-")]
)
def test_a_picture_goes_into_a_cell(lab: Any, page: Any, kind: str, first: str, written: str) -> None:
    address, folder = lab
    cell = f"{first}\nRead: " if first == "%%vlm" else first
    ui.notebook(folder, f"{kind}.ipynb", ["%load_ext omlx_jupyter", cell, "x = 1"])
    ui.open_notebook(page, address, f"{kind}.ipynb")
    ui.run_cell(page, 0)
    ui.select(page, 1)
    page.keyboard.press("Control+End")
    word = "Gate 17" if kind == "paste" else "Room 214"
    page.evaluate(GIVE, [2, kind, png(word), 5])  # a cell that isn't ours is left alone
    if kind == "drop":
        assert page.evaluate(GIVE, [1, "dragover", png(word), 500])
    ui.select(page, 1)
    page.keyboard.press("Control+End")
    assert page.evaluate(GIVE, [1, kind, png(word), 500])
    page.wait_for_function(
        "() => document.querySelectorAll('.jp-Notebook .jp-Cell')[1].textContent.includes('picture-')"
    )
    assert written in source(page, 1)
    (file,) = [p for p in folder.iterdir() if p.name.startswith("picture-") and p.name in source(page, 1)]
    assert base64.b64encode(file.read_bytes()).decode() == png(word)
    ui.run_cell(page, 1)
    ui.output(page, 1).locator("text=tokens/s").wait_for(timeout=30_000)
    assert "picture-" not in source(page, 2)
    assert word.split()[1] in ui.output(page, 1).inner_text()
    ui.select(page, 1)
    page.keyboard.press("Control+z")
    page.wait_for_function(
        "() => !document.querySelectorAll('.jp-Notebook .jp-Cell .cm-content')[1].textContent.includes('picture-')"
    )
    assert source(page, 1).strip() == cell.strip()


def test_text_beside_a_picture_wins_and_a_folder_s_name_may_have_blanks(lab: Any, page: Any) -> None:
    """As a spreadsheet pastes it. The second cell's notebook lies in a folder of its own."""
    address, folder = lab
    place = folder / "my scans ü"
    place.mkdir()
    ui.notebook(place, "n 1.ipynb", ["%load_ext omlx_jupyter", "%%vlm\nRead: ", "%%vlm\nRead: "])
    ui.open_notebook(page, address, "my scans ü/n 1.ipynb")
    ui.run_cell(page, 0)
    ui.select(page, 1)
    page.keyboard.press("Control+End")
    with_text = GIVE.replace(
        "const editor", "if (kind === 'paste') transfer.setData('text/plain', 'a\\tb');\n  const editor"
    )
    page.evaluate(with_text, [1, "paste", png("Gate 17"), 5])
    page.wait_for_function("() => document.querySelectorAll('.cm-content')[1].textContent.includes('a\\tb')")
    assert "picture-" not in source(page, 1)
    ui.select(page, 2)
    page.keyboard.press("Control+End")
    page.evaluate(GIVE, [2, "paste", png("Gate 17"), 5])
    page.wait_for_function(
        "() => document.querySelectorAll('.jp-Cell .cm-content')[2].textContent.includes('picture-')"
    )
    assert [p.name for p in place.iterdir() if p.name.startswith("picture-")]
    ui.run_cell(page, 2)
    ui.output(page, 2).locator("text=tokens/s").wait_for(timeout=30_000)
    assert "17" in ui.output(page, 2).inner_text()


def test_a_file_is_dragged_from_the_file_browser(lab: Any, page: Any) -> None:
    address, folder = lab
    draw_text("Exit 5", 24).save(folder / "0 exit.png")  # the first of the list
    ui.notebook(folder, "drag.ipynb", ["%load_ext omlx_jupyter", "%ocr "])
    ui.open_notebook(page, address, "drag.ipynb")
    ui.run_cell(page, 0)
    listed = page.locator(".jp-DirListing-item", has_text="0 exit.png")
    listed.wait_for(timeout=20_000)
    for _ in range(4):  # the list may move while files come and go
        page.wait_for_timeout(1000)
        drag(page, listed.bounding_box(), page.locator(".jp-Notebook .jp-Cell .cm-content").nth(1).bounding_box())
        page.wait_for_timeout(1000)
        if "0 exit.png" in source(page, 1):
            break
    assert source(page, 1) == '%ocr "0 exit.png"'
    ui.run_cell(page, 1)
    ui.output(page, 1).locator("text=tokens/s").wait_for(timeout=30_000)
    assert "5" in ui.output(page, 1).inner_text()


def test_read_text_and_ask_on_an_output(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    draw_text("Total 12.50", 24).save(folder / "bill.png")
    cells = ["%load_ext omlx_jupyter", "from PIL import Image\nImage.open('bill.png')", "1 + 1"]
    ui.notebook(folder, "ask.ipynb", cells)
    ui.open_notebook(page, address, "ask.ipynb")
    for index in (0, 1, 2):
        ui.run_cell(page, index)
    ui.select(page, 1)
    page.locator(
        ".jp-cell-toolbar button[data-command='omlx:read-image'], .jp-cell-toolbar [data-jp-item-name='omlx-read']"
    ).first.wait_for()
    page.locator(".jp-cell-toolbar [data-jp-item-name='omlx-read']").first.click()
    page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 4")
    assert source(page, 2).startswith("%ocr picture-")
    ui.run_cell(page, 2)
    ui.output(page, 2).locator("text=tokens/s").wait_for(timeout=30_000)
    assert "12.50" in ui.output(page, 2).inner_text()
    ui.output(page, 1).locator("img").click(button="right")
    page.locator(".lm-Menu-item", has_text="Ask about This Image").click()
    page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 5")
    assert source(page, 2).startswith("%%vlm\n{img(")
    page.keyboard.type("What does it say?")  # the cursor is below the picture
    page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .jp-Cell')[2].textContent.includes('What')")
    assert source(page, 2).endswith(")}\nWhat does it say?")
    page.screenshot(path=shots / "ask.png")


def test_read_text_reads_a_page_by_lines_and_boxes_shows_them(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    Image.open(PICTURES / "screenshot.png").save(folder / "screen.png")
    cells = [
        "%load_ext omlx_jupyter",
        "from PIL import Image\nImage.open('screen.png')",
        "%ocr screen.png --boxes -o read",
    ]
    ui.notebook(folder, "page.ipynb", cells)
    ui.open_notebook(page, address, "page.ipynb")
    for index in (0, 1):
        ui.run_cell(page, index)
    ui.select(page, 1)
    button = page.locator(".jp-cell-toolbar [data-jp-item-name='omlx-read']").first
    button.wait_for()
    button.click()
    page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 4")
    ui.run_cell(page, 2)
    ui.output(page, 2).locator("text=tokens/s").wait_for(timeout=30_000)
    read = ui.output(page, 2).inner_text()
    for line in SCREENSHOT_TEXT.replace("\t", "\n").split("\n"):
        assert line.strip() in read
    ui.run_cell(page, 3)
    ui.output(page, 3).locator("svg polygon").first.wait_for(timeout=30_000)
    lines = [line for line in SCREENSHOT_TEXT.split("\n") if line]
    assert ui.output(page, 3).locator("svg polygon").count() == len(lines)
    shown, first = (ui.output(page, 3).locator(part).first.bounding_box() for part in ("img", "svg polygon"))
    assert shown["x"] <= first["x"] < first["x"] + first["width"] <= shown["x"] + shown["width"]
    assert shown["y"] <= first["y"] < first["y"] + first["height"] <= shown["y"] + shown["height"]
    page.screenshot(path=shots / "boxes.png")


def test_a_restart_shows_the_share_from_disk(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    draw_text("Platform 4", 24).save(folder / "platform.png")
    ui.notebook(folder, "restart.ipynb", ["%load_ext omlx_jupyter", "%ocr platform.png"])
    ui.open_notebook(page, address, "restart.ipynb")
    ui.run_cell(page, 0)
    ui.run_cell(page, 1)
    page.wait_for_timeout(2500)  # written behind
    open_panel(page)
    page.evaluate("() => document.querySelector('.jp-Notebook').focus()")
    ui.select(page, 1)
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.keyboard.press("0")
    page.locator(".jp-Dialog button", has_text="Restart").click()
    page.locator(".omlx-note", has_text="wakes this panel").wait_for(timeout=20_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=30_000)
    page.wait_for_timeout(1000)
    ui.run_cell(page, 0)
    ui.run_cell(page, 1)
    row = page.locator(".omlx-panel .omlx-row", has_text="request")
    row.first.wait_for(timeout=20_000)
    assert " SSD" in row.first.inner_text()
    assert "0 SSD" not in row.first.inner_text().replace("10 SSD", "")
    page.wait_for_function("() => /9\\d % cached/.test(document.querySelector('.omlx-status').textContent)")


def test_a_reloaded_page_finds_its_kernel_and_cancels_while_a_cell_runs(
    lab: Any, page: Any, checkpoint: Callable[..., Path]
) -> None:
    address, folder = lab
    cells = [
        ENDLESS.format(path=checkpoint("qwen2_vl")),
        "import time\ntime.sleep(60)",
        "%%vlm --background -o job\nGo on",  # last: what it writes pushes no cell away
    ]
    ui.notebook(folder, "reload.ipynb", cells)
    ui.open_notebook(page, address, "reload.ipynb")
    ui.run_cell(page, 0)
    ui.save(page)
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.locator(".omlx-status").wait_for(timeout=30_000)
    ui.run_cell(page, 2)
    ui.run_cell(page, 1, wait=False)
    panel = page.locator(".omlx-panel") if page.locator(".omlx-panel").is_visible() else open_panel(page)
    button = panel.get_by_role("button", name="Cancel background cell")
    button.wait_for(timeout=20_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=busy]", timeout=20_000)
    button.click()
    panel.locator("li", has_text="interrupted").wait_for(timeout=10_000)  # the kernel is still asleep
    assert page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").count() == 1


def test_themes_width_and_accessibility(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    draw_text("Lift 3", 24).save(folder / "lift.png")
    ui.notebook(folder, "look.ipynb", ["%load_ext omlx_jupyter", "%ocr lift.png", "%omlx dashboard"])
    ui.open_notebook(page, address, "look.ipynb")
    for index in range(3):
        ui.run_cell(page, index)
    panel = open_panel(page)
    panel.locator(".omlx-row").first.wait_for(timeout=20_000)
    colours = {}
    for name in ("JupyterLab Light", "JupyterLab Dark"):
        ui.theme(page, name)
        style = "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor]; }"
        colours[name] = page.locator(".omlx-panel").evaluate(style)
        page.screenshot(path=shots / f"panel-{name.split()[1].lower()}-idle.png")
    assert colours["JupyterLab Light"] != colours["JupyterLab Dark"]
    assert AXE.exists(), "make browser brings axe-core"
    page.add_script_tag(path=str(AXE))
    for name in ("JupyterLab Dark", "JupyterLab Light"):
        ui.theme(page, name)
        found = page.evaluate(
            "async () => (await axe.run({include: [['.omlx-panel'], ['.omlx-status'], ['.omlx-dashboard']]}))"
            ".violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes[0].html])"
        )
        assert found == [], (name, found)
    page.set_viewport_size({"width": 760, "height": 900})
    page.wait_for_timeout(500)
    wide = page.evaluate(
        "() => [...document.querySelectorAll('.omlx-dashboard')].map(e => e.scrollWidth - e.clientWidth)"
    )
    assert all(over <= 1 for over in wide), wide
    page.screenshot(path=shots / "narrow.png")


def test_a_vlm_cell_is_prose_with_python_in_braces(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    cell = "%%vlm --max-tokens 5\n# What is **this**?\nIt's {len('a') + 1} of {{x}}"
    ui.notebook(
        folder, "language.ipynb", ["%load_ext omlx_jupyter\nlength = 3", cell, "%%vlm\nTell {leng", "for x in y: pass"]
    )
    ui.open_notebook(page, address, "language.ipynb")
    ui.run_cell(page, 0)
    tokens = page.evaluate(
        "() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')[1].querySelectorAll('.cm-line span')]"
        ".map(s => s.textContent)"
    )
    assert "%%vlm" in tokens
    assert "'a'" in tokens  # a string, inside the braces only
    assert not any("It's" in token for token in tokens)
    ui.select(page, 2)
    page.keyboard.press("Control+End")
    page.locator(".jp-mod-completer-enabled.jp-mod-focused").wait_for(timeout=10_000)
    page.wait_for_timeout(500)
    offered = page.locator(".jp-Completer", has_text="length")
    for _ in range(8):  # Lab gives the kernel a second, and IPython's first completion takes longer
        page.keyboard.press("Tab")
        page.wait_for_timeout(2000)
        if offered.count():
            break
    assert offered.count()
    page.screenshot(path=shots / "language.png")


def test_a_kernel_cannot_make_the_page_run_script(lab: Any, page: Any) -> None:
    address, folder = lab
    attack = "<img src=x onerror='window.pwned = 1'>"
    cells = [
        "%load_ext omlx_jupyter",
        "from omlx_jupyter.notebook import extension\nfrom omlx_jupyter.notebook.watch.protocol import *\n"
        "wire = extension._wires[0]\n"
        f"wire._publish(Problem({attack!r})); wire._publish(Models([{attack!r}]))\n"
        f"wire._publish(Status({attack!r}, {attack!r}, 1, 2.0, 0.5, {attack!r}, ''))\n"
        f"wire._beacon.send({{'v': 1, 'kind': 'panel', 'jobs': {attack!r}}}); wire._beacon.send({{'v': 9}})",
    ]
    ui.notebook(folder, "wire.ipynb", cells)
    ui.open_notebook(page, address, "wire.ipynb")
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    ui.run_cell(page, 0)
    page.locator(".omlx-status").wait_for(timeout=20_000)
    open_panel(page)
    ui.run_cell(page, 1)
    page.wait_for_timeout(1500)
    assert page.evaluate("() => window.pwned") is None
    assert attack in page.locator(".omlx-note").inner_text()
    assert any("was not understood" in text for text in warnings)
    assert json.loads((folder / "wire.ipynb").read_text())
