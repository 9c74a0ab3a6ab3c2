"""The docs say what the code says: quoted messages are in it, examples are Python, links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from .test_rooms import PACKAGE, ROOT

PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def texts() -> str:
    """All text constants of the code, pieces of f-strings included."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(found)


def test_messages_that_are_explained_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 10
    said = texts()
    assert [message for message in quoted if message not in said] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_examples_are_python(path: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for cell in re.split(r"\n(?=%%)", block):
            code = TransformerManager().transform_cell(cell)
            compile(code, path.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []
    named = set(re.findall(r"`((?:omlx_jupyter|tests|tools|benchmarks|docs)/[\w./-]+\.\w+)`", text))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()
    assert "googleapis" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_the_page_of_options_is_the_code() -> None:
    from omlx_jupyter.notebook.cells.options import page

    written = (ROOT / "docs" / "magics.md").read_text(encoding="utf-8")
    assert written == page(), "run python -m tools.magics_doc"
