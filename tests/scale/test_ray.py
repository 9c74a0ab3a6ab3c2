"""docs/ray.md with a real local cluster of Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import PAGES, Script, check

pytestmark = pytest.mark.scale


def is_actor(process: psutil.Process) -> bool:
    return "MapWorker" in " ".join(process.cmdline())


def test_a_folder_is_read_and_gone_on_with(script: Callable[..., Script], pictures: Path) -> None:
    names = sorted(path.name for path in (pictures / "scans").iterdir())
    check(script("ray"), [f"scans/{name}" for name in names], is_actor)


def test_parquet_is_read_and_gone_on_with(script: Callable[..., Script]) -> None:
    made = script("ray", ('"scans/"', '"pages.parquet::image"'))
    check(made, [f"pages.parquet::image#{row}" for row in range(1, PAGES + 1)], is_actor)
