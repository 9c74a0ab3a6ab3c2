"""Budgets and the folder for those who set nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import platformdirs
import psutil

from .prefix_cache import CacheSettings

_GIB = 2**30


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/omlx_jupyter`, or the platform's own cache folder."""
    return platformdirs.user_cache_path("omlx_jupyter", appauthor=False)


def default_settings(
    ram_bytes: int | None = None, ssd_bytes: int | None = None, folder: Path | str | None = None
) -> CacheSettings:
    """What isn't given: a quarter of the free memory up to 16 GiB, a tenth of the free disk up to 64 GiB.

    0 bytes of RAM turn the whole cache off, 0 bytes of SSD keep it to RAM.
    """
    place = Path(folder).expanduser() if folder is not None else default_folder()
    if ram_bytes is None:
        ram_bytes = min(psutil.virtual_memory().available // 4, 16 * _GIB)
    if ssd_bytes is None:
        ssd_bytes = min(_free(place) // 10, 64 * _GIB)
    return CacheSettings(ram_bytes, ssd_bytes, place if ssd_bytes else None)


def _free(place: Path) -> int:
    for folder in (place, *place.parents):
        if folder.exists():
            return shutil.disk_usage(folder).free
    return 0
