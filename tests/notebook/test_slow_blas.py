"""Without OpenBLAS a Linux CPU is about 30 times slower; the doctor and the first request say so."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have a BLAS of their own")
MISSING = "no OpenBLAS: matrix products are about 30 times slower on this CPU; install libopenblas0-pthread"
LATE = "MLX was imported before OpenBLAS could be"
# the C library stands for a library that is there: whether this machine has OpenBLAS doesn't matter
NONE, THERE = "('libopenblas-that-is-not-there.so',)", "('libc.so.6',)"


def said(names: str, *cells: str, before: str = "") -> str:
    """What a fresh shell prints for the cells, where `names` are the libraries to look for."""
    code = f"""{before}
from IPython.core.interactiveshell import InteractiveShell
from omlx_jupyter.models import blas
from PIL import Image, ImageDraw  # not by tests.conftest, which loads OpenBLAS
blas.NAMES = {names}
shell = InteractiveShell.instance()
shell.user_ns["img"] = Image.new("RGB", (60, 24), "white")
ImageDraw.Draw(shell.user_ns["img"]).text((4, 4), "Hi 4", "black")
for cell in {("%load_ext omlx_jupyter", *cells)!r}:
    shell.run_cell(cell).raise_error()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_missing_library_is_told_by_the_doctor_and_once_by_the_first_request() -> None:
    printed = said(
        NONE, "%ocr img --max-tokens 2", "print('SECOND')", "%ocr img --max-tokens 2", "print('DOCTOR')", "%omlx doctor"
    )
    first, _, rest = printed.partition("SECOND")
    second, _, doctor = rest.partition("DOCTOR")
    assert f"Note: {MISSING}" in first
    assert "OpenBLAS" not in second
    assert f"! {MISSING}" in doctor


def test_a_library_that_is_there_is_no_news() -> None:
    printed = said(THERE, "%omlx doctor", "%ocr img --max-tokens 2")
    assert "✓ OpenBLAS is in use" in printed  # though the doctor imports MLX itself
    assert "Note:" not in printed
    assert "slower" not in printed


def test_mlx_that_came_first_is_told() -> None:
    printed = said(THERE, "%omlx doctor", "%ocr img --max-tokens 2", before="import mlx.core")
    assert f"! {LATE}" in printed
    assert f"Note: {LATE}" in printed
    assert "install" not in printed.split(LATE)[1].splitlines()[0]
