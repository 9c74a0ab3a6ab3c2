"""OpenBLAS for MLX on Linux: the wheel links reference BLAS, which is about 30 times slower in fp32."""

from __future__ import annotations

import ctypes
import logging
import sys
from functools import cache

_log = logging.getLogger(__name__)
NAMES = ("libopenblas.so.0", "libopenblas.so")
PACKAGE = "libopenblas0-pthread"  # Debian's and Ubuntu's name
_MISSING = (
    f"no OpenBLAS: matrix products are about 30 times slower on this CPU; install {PACKAGE} and restart the kernel"
)
_LATE = (
    "MLX was imported before OpenBLAS could be: matrix products are about 30 times slower on this CPU; restart the "
    "kernel and read a picture, or run %omlx doctor, before import mlx"
)


@cache
def preload_openblas() -> str | None:
    """Load the system's OpenBLAS with global symbols. Must run before `mlx.core` is imported.

    Returns the library's name, or None where there is none (said once, at debug level) or where
    the platform has its own BLAS.
    """
    if sys.platform != "linux":
        return None
    if _is_global():
        return NAMES[0]
    if "mlx.core" in sys.modules:
        _log.debug(_LATE)
        return None
    for name in NAMES:
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return name
    _log.debug(_MISSING)
    return None


def slow_note() -> str:
    """Why matrix products are slow in this process, and the mend; empty where they aren't."""
    if sys.platform != "linux" or preload_openblas() is not None:
        return ""
    mlx = sys.modules.get("mlx.core")
    if mlx is not None and "gpu" in str(mlx.default_device()):
        return ""
    return _LATE if _is_there() else _MISSING


def _is_global() -> bool:
    """Whether the process began with OpenBLAS, by LD_PRELOAD."""
    return hasattr(ctypes.CDLL(None), "openblas_get_config")


def _is_there() -> bool:
    """Whether the system has an OpenBLAS that came too late."""
    for name in NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
