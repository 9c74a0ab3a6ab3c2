"""The code blocks of README and docs, run one after another in a shell, over files and names that they speak of.

A block that can't run here says why in a comment above it (`<!-- not run: ... -->`), and is read all the same
(tests/test_docs.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from pydantic import BaseModel

from ..chat.test_reasoning import CHAINS, SWITCHED
from ..checkpoints import scripted
from ..conftest import draw_text
from ..notebook.conftest import loaded as loaded
from ..reading.test_regions import photograph
from ..test_docs import PAGES, ROOT

BLOCK = re.compile(
    r"(?:^<!-- (?P<why>not run: [^>]+) -->\n+)?^ *```python\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL
)
ELSEWHERE = "by tests/scale, with the real packages"
NEEDED = ("needs a download", "needs a server that isn't ours", "the address is made up", ELSEWHERE)


def blocks(path: Path) -> list[tuple[str, str]]:
    """(code, why it isn't run) of a page."""
    return [(m["code"], (m["why"] or "").removeprefix("not run: ")) for m in BLOCK.finditer(path.read_text("utf-8"))]


def cells(code: str) -> list[str]:
    """A block's cells: cell magics begin one, an empty line ends them."""
    return [cell.strip("\n") for cell in re.split(r"\n\s*\n(?=%%)|(?<=\n)(?=%%)", code) if cell.strip()]


class Receipt(BaseModel):
    shop: str
    total: float


@dataclass
class Edition:
    text: str


def draw(folder: Path) -> None:
    for name in ("letter", "page", "receipt", "scan", "screenshot", "form", "second_edition"):
        draw_text(f"{name} 42").save(folder / f"{name}.png")
    report = Image.new("RGB", (500, 420), "white")
    report.paste(draw_text("Report", 34), (20, 10))
    report.paste(draw_text("Boats came every day\nof the month of May."), (20, 80))
    report.paste(photograph(300, 160), (60, 180))
    report.save(folder / "report.png")
    report.crop((0, 0, 500, 150)).save(folder / "short.png")
    for place in ("scans", "receipts"):
        (folder / place).mkdir()
        for n in range(3):
            draw_text(f"Shop {n}\nTotal {n}.50").save(folder / place / f"{n}.png")


def names() -> dict[str, Any]:
    def look_up(part: str) -> str:
        """The price of a part."""
        return f"{part}: 12.50"

    picture = draw_text("Hello 42")
    return {
        **dict.fromkeys(("before", "after", "photo", "plan", "receipt", "figure", "scan"), picture),
        "Receipt": Receipt,
        "look_up": look_up,
        "schema": {
            "type": "object",
            "properties": {"total": {"enum": [1, 2]}},
            "required": ["total"],
            "additionalProperties": False,
        },
        "prompt": "How many?",
        "first_edition": Edition("second_edition 42"),
        "df": pd.DataFrame({"scan": ["scan.png", "form.png"], "typed": ["scan 42", "form 42"]}),
        "truth": {"0.png": {"total": 0.5}, "1.png": {"total": 1.5}, "2.png": {"total": 2.5}},
        "array": np.zeros((40, 40, 3), np.uint8),
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    draw(tmp_path)
    shutil.copy(ROOT / "example_notebooks" / "pictures" / "screenshot.png", tmp_path / "screenshot.png")
    return tmp_path


@pytest.fixture(scope="module")
def main() -> Iterator[None]:
    """The server that the docs call main, and one that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="omlx-rt-", dir="/tmp"))  # short: it has sockets
        yield from _main()


def _main() -> Iterator[None]:
    command = [sys.executable, "-m", "omlx_jupyter", "serve", "--model", "tiny-ocr", "--name", "main"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Serving"):
            break
    yield
    process.terminate()
    process.wait(30)
    subprocess.run([sys.executable, "-m", "omlx_jupyter", "stop", "--name", "mine"], check=True, capture_output=True)


WITH_BLOCKS = [path for path in PAGES if blocks(path)]


def test_what_is_not_run_says_why() -> None:
    assert len(WITH_BLOCKS) > 6
    whys = {why for path in WITH_BLOCKS for _, why in blocks(path) if why}
    assert whys <= set(NEEDED)


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: path.stem)
def test_a_pages_blocks(path: Path, loaded: InteractiveShell, place: Path, request: pytest.FixtureRequest) -> None:
    if path.stem in ("serve", "compare"):
        request.getfixturevalue("main")
    loaded.user_ns.update(names())
    if path.stem == "thinking":
        thinker = scripted.write(place / "thinker", CHAINS, SWITCHED + "{%- if reasoning_effort -%}{%- endif -%}")
        loaded.run_cell(f"from omlx_jupyter import Engine\nengine = Engine.load({str(thinker)!r})")
        loaded.run_line_magic("omlx", f"load {thinker}")
    loaded.run_line_magic("config", "Omlx.max_tokens = 200")
    try:
        ran = 0
        for code, why in blocks(path):
            for cell in [] if why else cells(code):
                done = loaded.run_cell(cell, store_history=True)
                assert done.success, f"{cell}\n\n{done.error_in_exec or done.error_before_exec!r}"
                ran += 1
        assert ran or all(why for _, why in blocks(path))
    finally:
        loaded.run_line_magic("config", "Omlx.max_tokens = None")
        loaded.run_line_magic("omlx", "disconnect")
        loaded.run_line_magic("omlx", "unload")
