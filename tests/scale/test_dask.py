"""docs/dask.md with the real Dask, in threads and in processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from omlx_jupyter import connect

from ..conftest import draw_text
from ..serve.conftest import Served
from .conftest import PAGES, Script, check

pytestmark = pytest.mark.scale


def is_python(process: psutil.Process) -> bool:
    return "python" in process.name()


def test_a_folder_is_read_and_gone_on_with(script: Callable[..., Script], pictures: Path) -> None:
    names = sorted(path.name for path in (pictures / "scans").iterdir())
    check(script("dask"), [f"scans/{name}" for name in names], is_python)


def test_parquet_is_read_by_processes_and_gone_on_with(script: Callable[..., Script]) -> None:
    made = script("dask", ('"scans/"', '"pages.parquet::image"'), ('"threads"', '"processes"'))
    check(made, [f"pages.parquet::image#{row}" for row in range(1, PAGES + 1)], is_python, outlives=True)


def test_hundreds_are_in_flight_at_one_server(script: Callable[..., Script], main: Served, tmp_path: Path) -> None:
    """300 pages of a line each: two threads with a share of 150."""
    made = script("dask", ('"scans/"', '"many/"'), size=150)
    (tmp_path / "many").mkdir()
    for n in range(300):
        draw_text(str(n)).save(tmp_path / "many" / f"{n}.png")
    most, over = [0], threading.Event()

    def look() -> None:
        with connect(main.name) as engine:
            while not over.wait(0.05):
                most.append(len(engine.requests()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        assert "300 pages are read" in made.finish()
    finally:
        over.set()
        looking.join()
    assert max(most) > 200
