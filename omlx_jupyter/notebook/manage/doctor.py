"""`%omlx doctor`: what works on this machine, and what to do about what doesn't."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import psutil
from IPython.core.error import UsageError

from ...cache import check
from ...models.blas import preload_openblas, slow_note
from ...visible import size
from ..plain import name, tell
from ..settings.config import cache_folder, settings

_PACKAGES = ("omlx_jupyter", "mlx", "mlx-vlm", "mlx-lm", "ipykernel", "ipywidgets", "anywidget", "jupyterlab")


def command(rest: list[str]) -> None:
    """%omlx doctor [NAME_OR_URL]: a line per finding; `!` marks what wants doing."""
    if len(rest) > 1:
        raise UsageError("%omlx doctor looks at this machine; %omlx doctor NAME_OR_URL at a connection.")
    if rest:
        from .connection import steps

    for good, line in steps(rest[0]) if rest else findings():
        tell(f"{'✓' if good else '!'} {name(line)}")


def findings() -> list[tuple[bool, str]]:
    preload_openblas()  # before _device imports MLX, which keeps the BLAS that it meets
    return [_device(), *_blas(), _memory(), *_disk(), *_versions(), _settings()]


def _device() -> tuple[bool, str]:
    try:
        import mlx.core as mx

        device = mx.default_device()
    except Exception as error:
        extra = "mlx[cpu]" if sys.platform == "linux" else "mlx"
        return False, f"MLX doesn't load ({error}); run %pip install {extra}."
    kind = "Metal" if mx.metal.is_available() else "CUDA" if "gpu" in str(device) else "CPU"
    return True, f"MLX runs on {kind} ({platform.machine()}, {os.cpu_count()} cores)"


def _blas() -> list[tuple[bool, str]]:
    if sys.platform != "linux":
        return []
    if preload_openblas():
        return [(True, "OpenBLAS is in use")]
    note = slow_note()
    return [(False, f"{note}.")] if note else []


def _memory() -> tuple[bool, str]:
    found = psutil.virtual_memory()
    text = f"memory: {size(found.available)} of {size(found.total)} free"
    return found.available > 2**30, text if found.available > 2**30 else text + "; close other kernels."


def _disk() -> list[tuple[bool, str]]:
    try:
        place = cache_folder()
    except UsageError as error:
        return [(False, str(error))]
    there = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    lines = [(free > 2**30, f"disk: {size(free)} free for the prefix cache in {place}")]
    if not writable:
        lines.append((False, f"{there} can't be written; set Omlx.cache_folder to a folder of yours."))
    elif check.exists(place):
        held = sum(entry.bytes for entry in check.entries(place))
        lines.append((True, f"prefix cache: {size(held)} stored"))
    return lines


def _versions() -> list[tuple[bool, str]]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} –")
    lines = [(True, f"Python {platform.python_version()}, {', '.join(found)}")]
    if importlib.util.find_spec("anywidget") is None:
        lines.append((False, "anywidget is missing: answers don't stream in the notebook; run %pip install anywidget."))
    return lines


def _settings() -> tuple[bool, str]:
    changed = {n: getattr(settings(), n) for n in settings().trait_names(config=True)}
    made = {n: v for n, v in changed.items() if v != settings().traits()[n].default_value}
    return True, f"settings changed: {', '.join(f'{n}={v}' for n, v in made.items()) or 'none'}"
