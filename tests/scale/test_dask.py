"""docs/dask.md with the real Dask, in threads and in processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import PAGES, Script, check

pytestmark = pytest.mark.scale
pytest.importorskip("dask.dataframe", reason="pip install 'omlx_jupyter[scale]', as make scale does")


def is_python(process: psutil.Process) -> bool:
    return "python" in process.name()


def test_a_folder_is_read_and_gone_on_with(script: Callable[..., Script], pictures: Path) -> None:
    names = sorted(path.name for path in (pictures / "scans").iterdir())
    check(script("dask"), [f"scans/{name}" for name in names], is_python)


def test_parquet_is_read_by_processes_and_gone_on_with(script: Callable[..., Script]) -> None:
    made = script("dask", ('"scans/"', '"pages.parquet::image"'), ('"threads"', '"processes"'))
    check(made, [f"pages.parquet::image#{row}" for row in range(1, PAGES + 1)], is_python, outlives=True)
