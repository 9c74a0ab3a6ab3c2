"""The example notebooks, run in kernels of their own; what is in the repository holds their outputs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tools.run_examples import FOLDER, execute

NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> str:
    """All that a reader sees, as text."""
    made = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in made)


EXPECTED = {
    "folder_of_scans.ipynb": ["Vienna 33 km", "<Failure scans/09.png", "1 failed"],
    "growing_conversation.ipynb": ["trip: 3 turns, 3 pictures", "from RAM"],
    "quickstart.ipynb": ["Seal Island\t10:15\t£18.90", "    total = 12.40 * adults", "Train at 10:45"],
    "receipts_to_dataframe.ipynb": ["24.50", "11.35", "3 pictures"],
    "tools_that_look.ipynb": ["'Room 214', 'Exit left', 'Lift 3'"],
    "two_kernels_one_cache.ipynb": ["from SSD, 0 encoded", "True"],
    "your_own_plots.ipynb": ["| 3 | Apr | 25 |"],
}


def test_every_notebook_has_expectations() -> None:
    assert sorted(EXPECTED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_kept_outputs_are_whole(name: str) -> None:
    kept = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(kept)
    text = outputs(kept)
    assert all(words in text for words in EXPECTED[name])
    assert not any("widget-view" in str(cell) for cell in kept.cells)
    assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = outputs(execute(FOLDER / name, tmp_path))
    assert all(words in text for words in EXPECTED[name])


def test_a_turn_computes_only_what_is_new(tmp_path: Path, monkeypatch: Any) -> None:
    """The table that the conversation's notebook shows: one picture encoded a turn, the rest cached."""
    kept = nbformat.read(FOLDER / "growing_conversation.ipynb", as_version=4)
    (table,) = [o["data"]["text/plain"] for c in kept.cells for o in c.get("outputs", ()) if "computed" in str(o)]
    rows = [[int(n) for n in line.split()] for line in table.splitlines()[1:]]
    assert [row[5] for row in rows] == [1, 1, 1]
    for before, row in itertools.pairwise(rows):
        assert row[2] >= before[1]
