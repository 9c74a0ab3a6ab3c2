"""A pytest plugin: property tests without chance, and which lines of the package each test runs.

With OMLX_MUTANTS_SURVEY=FILE it writes JSON there: {test: [seconds, {module: [lines]}]}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest

_SURVEY = os.environ.get("OMLX_MUTANTS_SURVEY", "")
_WATCHED = tuple(str(Path.cwd() / "omlx_jupyter" / room) + os.sep for room in ("engine", "cache", "notebook"))
_hit: dict[str, set[int]] = defaultdict(set)
_failed: set[str] = set()
_tests: dict[str, tuple[float, dict[str, list[int]]]] = {}


def pytest_configure() -> None:
    """A counterexample is enough, it needn't be the shortest; and none is remembered from the mutant before."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)
    hypothesis.settings.load_profile("mutants")


def _trace(frame: FrameType, event: str, _: Any) -> Any:
    file = frame.f_code.co_filename
    if not file.startswith(_WATCHED):
        return None
    hit = _hit[file]

    def line(inner: FrameType, event: str, _: Any) -> Any:
        hit.add(inner.f_lineno)
        return line

    hit.add(frame.f_lineno)
    return line


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if not _SURVEY:
        return (yield)
    for lines in _hit.values():  # cleared in place: frames hold on to theirs
        lines.clear()
    begun = time.monotonic()
    threading.settrace(_trace)
    sys.settrace(_trace)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        hit = {os.path.relpath(file, "omlx_jupyter"): sorted(lines) for file, lines in _hit.items() if lines}
        if item.nodeid not in _failed:
            _tests[item.nodeid] = (time.monotonic() - begun, hit)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One that fails on the sound code (here, in this order) has nothing to say about a mutant."""
    if report.failed or report.skipped:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    if _SURVEY:
        Path(_SURVEY).write_text(json.dumps(_tests), encoding="utf-8")
