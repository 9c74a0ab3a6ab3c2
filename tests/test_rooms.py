"""The shape of the source: sizes, lazy imports, no environment reads below the notebook."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools.any_share import MOST, parameters, share

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "omlx_jupyter"
SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "tools").rglob("*.py"))
FIRST_USE = (
    *("anywidget", "asyncio", "cv2", "h11", "httpcore", "httpx", "huggingface_hub", "ipywidgets", "llguidance"),
    *("markdown_it", "mlx", "mlx_lm", "mlx_vlm", "numpy", "pandas", "PIL", "platform", "psutil", "pydantic"),
    *("pypdfium2", "rich", "sqlite3", "torch", "transformers", "trio"),
)
HEAVY = ("mlx", "mlx.core", "mlx_vlm", "mlx_lm", "transformers", "torch")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno < 250, node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 50 + _docstring_lines(node), node.name


def _docstring_lines(node: ast.AST) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return first.end_lineno - first.lineno + 1 if is_docstring else 0


@pytest.mark.parametrize(
    "statement",
    [
        "import omlx_jupyter",
        "from IPython.core.interactiveshell import InteractiveShell as S;"
        "s = S.instance(); s.run_line_magic('load_ext', 'omlx_jupyter');"
        "assert 'vlm' in s.magics_manager.magics['cell']",
        "from omlx_jupyter import Engine, SamplingParams, ocr, vlm",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr


def test_load_ext_imports_what_it_needs_and_no_more() -> None:
    """Of this package, and of others: all else comes with the first magic that runs."""
    code = (
        "import sys\nfrom IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
        "shell.Completer\nbefore = set(sys.modules)\nshell.run_line_magic('load_ext', 'omlx_jupyter')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    brought = set(done.stdout.split())
    assert "omlx_jupyter.notebook.cells.magics" in brought, done.stderr
    assert not brought & set(FIRST_USE)
    rooms = {name.split(".")[1] for name in brought if name.startswith("omlx_jupyter.")}
    assert rooms == {"notebook", "errors", "visible"}
    assert len([name for name in brought if not name.startswith("omlx_jupyter")]) < 20, brought


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(PACKAGE)], ids=lambda p: p.name)
def test_settings_come_through_constructors(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "notebook"):
        return
    names = {n.attr for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)}
    assert not names & {"environ", "getenv"}


@pytest.mark.parametrize(
    "room", ["images", "reading", "models", "cache", "engine", "chat", "remote", "serve", "notebook"]
)
def test_room_inits_import_nothing(room: str) -> None:
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]


def test_hardly_a_parameter_is_any() -> None:
    """A ratchet: what the checker asks nothing of doesn't grow."""
    found = list(parameters())
    assert len(found) > 3000
    told = "\n".join(one.place for one in found if one.is_any)
    assert share(found) <= MOST, f"name a type, or `object` for what may really be anything:\n{told}"


def test_any_is_counted_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    source = """
from typing import Any
def one(a: Any, b: "Any", *c: Any, d: typing.Any = None, **e: Any): ...
class Two:
    def three(self, f: list[Any], g: Callable[..., Any], h: Any | None, i: int, j) -> Any: ...
    @classmethod
    async def four(cls, k: "dict[str, Any]", /): ...
"""
    (tmp_path / "room" / "file.py").write_text(source, encoding="utf-8")
    found = {one.place.rpartition("(")[2][0]: one for one in parameters(tmp_path)}
    assert set(found) == set("abcdefghijk")
    assert {name for name, one in found.items() if one.is_any} == set("abcde")
    assert {name for name, one in found.items() if one.holds_any} == set("fghk")
    assert {one.room for one in found.values()} == {"room"}
    assert share(list(found.values())) == 5 / 11
    assert share([]) == 0
