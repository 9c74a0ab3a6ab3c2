"""Runs the example notebooks in kernels of their own and keeps their outputs in the files.

python -m tools.run_examples [NAME ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "example_notebooks"


def execute(source: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook with `folder` as its place. Its pictures are linked there.

    :raises nbclient.exceptions.CellExecutionError: a cell failed.
    """
    pictures = folder / "pictures"
    if not pictures.exists():
        pictures.symlink_to(FOLDER / "pictures")
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    NotebookClient(
        notebook,
        timeout=180,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in ("kernelspec", "language_info")}
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> int:
    names = sys.argv[1:] or sorted(path.name for path in FOLDER.glob("*.ipynb"))
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"  # a first run, whatever this machine has seen
            notebook = execute(FOLDER / name, Path(folder))
        text = nbformat.writes(notebook).replace(f"{folder}/cache", "~/.cache")
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
