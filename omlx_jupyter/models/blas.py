"""OpenBLAS for MLX on Linux: the wheel links reference BLAS, 40 times slower in fp32."""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import sys
from functools import cache

_log = logging.getLogger(__name__)
NAMES = ("libopenblas.so.0", "libopenblas.so")


@cache
def preload_openblas() -> str | None:
    """Load the system's OpenBLAS with global symbols. Must run before `mlx.core` is imported.

    Returns the library's name, or None where there is none (said once, at debug level) or where
    the platform has its own BLAS.
    """
    if sys.platform != "linux":
        return None
    if "mlx.core" in sys.modules:
        _log.debug("mlx was imported first, so OpenBLAS can't be preloaded; fp32 runs on mlx's own BLAS")
        return None
    for name in NAMES:
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return name
    _log.debug("no OpenBLAS found; fp32 is about 40 times slower on CPU (Debian: libopenblas0-pthread)")
    return None
