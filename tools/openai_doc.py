"""Writes docs/openai.md from the calls that the tests make.

python -m tools.openai_doc
"""

from __future__ import annotations

from pathlib import Path

from tests.chat.openai_calls import page

if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "docs" / "openai.md").write_text(page(), encoding="utf-8")
