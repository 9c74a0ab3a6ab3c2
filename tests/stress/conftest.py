"""Real child processes, forked from a server that has the libraries imported: a start takes 0.1 s, not 3."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest


@pytest.fixture(scope="session")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    # `work` comes first: it loads OpenBLAS, which must be there before MLX
    context.set_forkserver_preload(["tests.stress.work", "mlx_vlm", "mlx_lm", "omlx_jupyter.models.loader"])
    return context
