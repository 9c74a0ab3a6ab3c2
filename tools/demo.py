"""`make demo`: runs the quickstart in a real kernel and leaves it executed, with an HTML export."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "example_notebooks" / "quickstart.ipynb"
TARGET = ROOT / "artifacts"


def _show(cell: nbformat.NotebookNode) -> None:
    print("\n" + "\n".join(f"    {line}" for line in cell.source.splitlines()))
    for output in cell.outputs:
        if output.output_type == "stream":
            print(output.text.rstrip())
        elif "data" in output:
            print(output.data.get("text/plain", "").rstrip())


def main() -> int:
    notebook = nbformat.read(SOURCE, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(SOURCE.parent)}}
    )
    started = time.monotonic()
    print(f"Running {SOURCE.relative_to(ROOT)} in a kernel of its own …", flush=True)
    failed = None
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                failed = error
            _show(cell)
            if failed:
                break
    if failed:
        print(f"\n{failed}", file=sys.stderr)
        return 1
    TARGET.mkdir(exist_ok=True)
    nbformat.write(notebook, TARGET / SOURCE.name)
    html, _ = HTMLExporter().from_notebook_node(notebook)
    page = TARGET / (SOURCE.stem + ".html")
    page.write_text(html, encoding="utf-8")
    print(f"\nDone in {time.monotonic() - started:.0f} s: {(TARGET / SOURCE.name).relative_to(ROOT)}, and as a page")
    print(f"that needs no kernel: {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
