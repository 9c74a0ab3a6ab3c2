"""Writes docs/magics.md from the options that the magics declare.

python -m tools.magics_doc
"""

from __future__ import annotations

from pathlib import Path

from omlx_jupyter.notebook.cells.options import page

if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "docs" / "magics.md").write_text(page(), encoding="utf-8")
