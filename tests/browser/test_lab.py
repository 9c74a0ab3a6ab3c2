"""In a real browser: tokens grow, stop works, the dashboard lives, saved answers need no kernel, nothing runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..checkpoints import scripted
from ..conftest import draw_text
from ..kernel.test_thoughts import GO, LONG
from . import lab_page as ui

ATTACKS = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "![x](javascript:window.pwned=1)",
    "[x](javascript:window.pwned=1)",
    "<svg onload='window.pwned = 1'>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "![track](http://127.0.0.1:9/track.png)",
    "[ref]: javascript:window.pwned=1\n[click][ref]",
    "<style>@import 'http://127.0.0.1:9/x.css';</style>",
    "`code` <b onmouseover='window.pwned = 1'>bold</b>",
    "$\\href{javascript:window.pwned=1}{x}$",
]
_SEEN = json.loads((Path(__file__).parents[1] / "notebook" / "data" / "answers.json").read_text(encoding="utf-8"))
ATTACKS += [text.replace("alert(1)", "window.pwned=1") for text in _SEEN["nothing active may come out"].values()]


def test_first_use(lab: Any, page: Any, shots: Path) -> None:
    address, folder = lab
    draw_text("Total 12.50", 24).save(folder / "receipt.png")
    ui.notebook(folder, "first.ipynb", ["%load_ext omlx_jupyter", "%ocr receipt.png", "%omlx dashboard"])
    ui.open_notebook(page, address, "first.ipynb")
    ui.run_cell(page, 0)
    ui.run_cell(page, 1)
    answer = ui.output(page, 1)
    answer.locator("text=tokens/s").wait_for(timeout=30_000)
    assert "12" in answer.inner_text()
    assert answer.locator(".omlx-live").count() == 0
    ui.run_cell(page, 2)
    board = ui.output(page, 2).locator(".omlx-dashboard")
    board.wait_for(timeout=30_000)
    page.wait_for_function("() => document.querySelector('.omlx-dashboard')?.innerText.includes('tiny-ocr')")
    assert "RAM tier" in board.inner_text()
    page.screenshot(path=shots / "dashboard-light.png")
    page.evaluate("() => document.querySelector('.omlx-dashboard').scrollIntoView()")
    ui.save(page)
    saved = json.loads((folder / "first.ipynb").read_text())
    assert "text/markdown" in saved["cells"][1]["outputs"][0]["data"]


def test_the_saved_notebook_needs_no_kernel(lab: Any, browser: Any, shots: Path) -> None:
    address, folder = lab
    page = browser.new_page()
    ui.open_cold(page, address, folder, "first.ipynb")
    page.wait_for_selector(".jp-RenderedMarkdown", timeout=60_000)
    assert "tokens/s" in ui.output(page, 1).inner_text()
    page.close()


def test_tokens_grow_and_stop_stops(lab: Any, page: Any, shots: Path, checkpoint: Callable[..., Path]) -> None:
    address, folder = lab
    endless = (
        f"%load_ext omlx_jupyter\n%omlx load {checkpoint('qwen2_vl')}\n"
        "from omlx_jupyter import SamplingParams\nfrom omlx_jupyter.notebook.work import run, session\n"
        "ends = session.engine()._loop.model.end_tokens\n"
        "bias = {**{i: -1e9 for i in ends}, **{i: -1e9 for i in range(256, 320)}}\n"
        "run.sampling_from = lambda args: SamplingParams(temperature=1, seed=1, max_tokens=100_000, logit_bias=bias)"
    )
    ui.notebook(folder, "stop.ipynb", [endless, "%%vlm -o story\nTell me everything", "len(story.text) > 10"])
    ui.open_notebook(page, address, "stop.ipynb")
    ui.run_cell(page, 0)
    ui.run_cell(page, 1, wait=False)
    text = ui.output(page, 1).locator(".omlx-text")
    text.wait_for(timeout=30_000)
    page.wait_for_function("() => document.querySelector('.omlx-text')?.textContent.length > 50", timeout=30_000)
    before = len(text.text_content())
    page.wait_for_function(
        "n => document.querySelector('.omlx-text').textContent.length > n", arg=before, timeout=30_000
    )
    page.screenshot(path=shots / "streaming.png")
    page.locator(".omlx-stop").click()
    ui.output(page, 1).locator("text=interrupted").first.wait_for(timeout=10_000)
    ui.run_cell(page, 2)
    assert "True" in ui.output(page, 2).inner_text()


def test_a_thought_is_live_folded_and_saved(lab: Any, page: Any, browser: Any, shots: Path, tmp_path: Path) -> None:
    """Unfolded by keyboard while it grows; folded in the saved notebook, which another page opens without a kernel."""
    address, folder = lab
    model = scripted.write(tmp_path / "long", LONG, GO)
    ask = "%%vlm --temperature 0 --no-draft --think-budget 4000 --max-tokens 4100 -o answer\nWhat is 2 + 2?"
    ui.notebook(folder, "thought.ipynb", [f"%load_ext omlx_jupyter\n%omlx load {model}", ask])
    ui.open_notebook(page, address, "thought.ipynb")
    ui.run_cell(page, 0)
    ui.run_cell(page, 1, wait=False)
    live = ui.output(page, 1).locator(".omlx-thought")
    line = live.locator("summary")
    line.wait_for(timeout=30_000)
    assert line.text_content().startswith("thinking… ")
    assert not live.locator("pre").is_visible()
    page.wait_for_function("() => /[5-9]\\d\\d/.test(document.querySelector('.omlx-thought summary').textContent)")
    line.focus()
    page.keyboard.press("Enter")
    assert live.evaluate("e => e.open")
    assert "Two and two, so I count" in live.locator("pre").text_content()
    page.screenshot(path=shots / "thinking.png")
    grown = "n => document.querySelector('.omlx-thought pre').textContent.length > n"
    page.wait_for_function(grown, arg=len(live.locator("pre").text_content()), timeout=30_000)
    line.focus()
    page.keyboard.press("Space")
    assert not live.evaluate("e => e.open")
    ui.output(page, 1).locator("text=Four.").first.wait_for(timeout=60_000)
    assert ui.output(page, 1).locator(".omlx-live").count() == 0
    ui.save(page)
    saved = json.loads((folder / "thought.ipynb").read_text())
    outputs = saved["cells"][1]["outputs"]
    assert ["text/html" in output["data"] for output in outputs] == [True, False]
    saved["metadata"].pop("kernelspec", None)
    (folder / "thought-cold.ipynb").write_text(json.dumps(saved))
    again = browser.new_page()
    again.goto(f"{address}/lab/tree/thought-cold.ipynb?reset")
    kept = ui.output(again, 1).locator("details")
    kept.wait_for(timeout=60_000)
    assert not kept.locator("pre").is_visible()
    assert kept.locator("summary").text_content().startswith("thought 4,0")
    again.screenshot(path=shots / "thought-saved.png")
    kept.locator("summary").focus()
    again.keyboard.press("Space")
    assert kept.locator("pre").is_visible()
    kept.locator("summary").click()
    assert not kept.locator("pre").is_visible()
    assert "Four." in ui.output(again, 1).inner_text()
    again.close()


def test_model_text_runs_nothing(lab: Any, page: Any) -> None:
    address, folder = lab
    cells = [
        "from omlx_jupyter.notebook.answers.result import Result\nfrom omlx_jupyter.types import Generation, Usage\n"
        f"attacks = {ATTACKS!r}\n"
        "Result(Generation('\\n\\n'.join(attacks), [1], 'stop', Usage()))",
        "from omlx_jupyter.notebook.answers import live\nw = live.make([], True)\nw",
        "w.text = '\\n'.join(attacks)\nw.send({'o': len(w.text), 'd': attacks[1]})",
    ]
    ui.notebook(folder, "attack.ipynb", cells)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}") or dialog.dismiss())
    ui.open_notebook(page, address, "attack.ipynb")
    for index in range(3):
        ui.run_cell(page, index)
    page.wait_for_timeout(1500)
    for link in ui.output(page, 0).locator("a").all():
        assert not (link.get_attribute("href") or "").lower().startswith("javascript")
        link.hover(force=True)
    assert page.evaluate("() => window.pwned") is None
    assert not [url for url in asked if ":9/" in url or url.startswith("dialog")]
    assert "<script>" in ui.output(page, 0).inner_text()
    assert "onerror" in ui.output(page, 1).locator(".omlx-text").inner_text()
