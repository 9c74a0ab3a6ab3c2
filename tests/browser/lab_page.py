"""What a person does in JupyterLab, as functions of a page."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any


def notebook(folder: Path, name: str, cells: list[str]) -> None:
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for n, source in enumerate(cells)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    body = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / name).write_text(json.dumps(body))


def open_notebook(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=60_000)
    page.wait_for_timeout(500)


def open_cold(page: Any, address: str, folder: Path, name: str) -> None:
    """A saved notebook without a kernel."""
    session = json.loads((folder / name).read_text())
    session["metadata"].pop("kernelspec", None)
    (folder / "cold.ipynb").write_text(json.dumps(session))
    page.goto(f"{address}/lab/tree/cold.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)


def select(page: Any, index: int) -> None:
    page.locator(".jp-Notebook .jp-Cell .jp-InputArea-editor").nth(index).click()


def run_cell(page: Any, index: int, wait: bool = True) -> None:
    from playwright.sync_api import TimeoutError

    began = (
        "index => /\\[(\\*|\\d+)\\]/.test("
        "document.querySelectorAll('.jp-Notebook .jp-Cell .jp-InputPrompt')[index].textContent)"
    )
    for _ in range(10):  # a page that is still starting on a loaded machine doesn't hear the keys
        select(page, index)
        page.keyboard.press("Control+Enter")
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(began, arg=index, timeout=3_000)
            break
    if wait:
        page.wait_for_function(
            "index => { const prompt = document.querySelectorAll('.jp-Notebook .jp-Cell .jp-InputPrompt')[index];"
            " return /\\[\\d+\\]/.test(prompt.textContent); }",
            arg=index,
            timeout=60_000,
        )


def output(page: Any, index: int) -> Any:
    return page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-OutputArea")


def save(page: Any) -> None:
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)


def theme(page: Any, name: str) -> None:
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    page.wait_for_function(
        "light => document.body.dataset.jpThemeLight === light", arg=str("Light" in name).lower(), timeout=20_000
    )
    page.wait_for_timeout(500)
