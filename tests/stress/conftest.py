"""Real child processes, forked from a server that has the libraries imported: a start takes 0.1 s, not 3."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest


@pytest.fixture(scope="session")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlx_vlm", "mlx_lm", "tests.stress.work", "omlx_jupyter.models.loader"])
    return context
