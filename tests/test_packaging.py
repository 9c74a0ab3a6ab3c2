"""What is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from .test_rooms import PACKAGE, ROOT

OPTIONAL = {
    "openai",
    "pandas",
    "pydantic",
    "mcp",
    "pillow_heif",
    "pyarrow",
    "docling_metrics_table",
    "jiwer",
    "keyring",
    "lxml",
    "matplotlib",
    "rapidfuzz",
    "_typeshed",  # for the checker alone
}  # imported where a person has them


def normal(name: str) -> str:
    return re.split(r"[\[<>=;! ]", name)[0].lower().replace("_", "-")


def imported() -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").split(".")[0])
    return found - sys.stdlib_module_names


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {normal(text) for text in project["dependencies"]}
    providers = packages_distributions()
    missing = {
        module
        for module in imported() - OPTIONAL
        if not {normal(provider) for provider in providers.get(module, [module])} & declared
    }
    assert not missing
