"""pytest in a fork of a process that has the large packages already: starting anew would cost more than most tests."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback

OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tools.mutation.plugin", "--no-header")
TIMED_OUT = -1
TOO_LONG = "timeout"
_LARGE = (
    *("pytest", "hypothesis", "numpy", "PIL.Image", "PIL.ImageFont", "IPython.core.interactiveshell", "psutil"),
    *("rich.console", "pydantic", "httpx", "jsonschema", "ipywidgets", "markdown_it", "cosmic_ray.mutating"),
    "matplotlib.figure",
)
_ENGINE = ("mlx.core", "mlx_vlm.utils", "mlx_lm")  # on Linux they start no thread; Metal doesn't outlive a fork


def warm_up() -> None:
    """Import what tests import, except this package and the tests."""
    for name in _LARGE:
        importlib.import_module(name)
    if sys.platform == "linux":
        importlib.import_module("omlx_jupyter.models.blas").preload_openblas()
        for name in _ENGINE:
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "omlx_jupyter"]:
        del sys.modules[name]


def run_tests(arguments: list[str], timeout_s: float) -> tuple[int, str]:
    """(exit status, what it said); the status is TIMED_OUT after `timeout_s`. Its processes have ended then."""
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            _be_pytest(arguments, told.fileno())
        deadline = time.monotonic() + timeout_s
        status: int | None = None
        while status is None and time.monotonic() < deadline:
            ended, raw = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(raw) if ended else None
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):  # kernels and servers that it started, too
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
            status = TIMED_OUT
        told.seek(0)
        return status, told.read().decode(errors="replace")


def _be_pytest(arguments: list[str], told: int) -> None:
    status = 3
    try:
        os.setsid()
        os.dup2(told, 1)
        os.dup2(told, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)
        sys.dont_write_bytecode = True
        sys.path.insert(0, os.getcwd())
        import pytest

        status = int(pytest.main(["-x", *OPTIONS, *arguments]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(status: int, said: str) -> str:
    """How tests ended that failed without a test that did."""
    last = (said.strip().splitlines() or [""])[-1]
    return TOO_LONG if status == TIMED_OUT else f"exit {status}: {last[:80]}"
