"""Runs over very many sources: memory stays as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.run import Run

SOURCES = int(os.environ.get("OMLX_TORTURE_SOURCES", "20000"))


@pytest.mark.slow
def test_memory_is_flat_over_many_sources(tmp_path: Path, capsys: Any) -> None:
    process, held = psutil.Process(), dict[int, int]()

    def pictures() -> Iterator[np.ndarray]:
        for number in range(SOURCES):
            if number % (SOURCES // 4) == 0:
                held[number] = process.memory_info().rss
            yield np.full((24, 32, 3), number % 251, np.uint8)

    with Engine.load(cache=CacheSettings(2**26, 0)) as engine:
        question = Question("Read.", SamplingParams(max_tokens=1), whole=True)
        run = Run(pictures(), question, tmp_path / "many.jsonl", lambda: engine).start().wait()
        assert run.figures().done == SOURCES
        assert run.figures().failed == 0
    after = process.memory_info().rss
    grown = after - held[SOURCES // 4]
    with capsys.disabled():
        print(f"\n{SOURCES:,} sources: {grown / 2**20:.1f} MiB more at the end than at a quarter")
    assert grown < 40 * 2**20
    assert len((tmp_path / "many.jsonl").read_bytes().splitlines()) == SOURCES
