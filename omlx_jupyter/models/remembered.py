"""What was shown of a checkpoint, so that it is shown once: by its identity, the device and what computes there.

A small JSON file a checkpoint in the user's cache folder. What can't be read or written is proved anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from . import blas
from .identity import identity_of
from .row_store import Grouping

if TYPE_CHECKING:
    from .loaded import LoadedModel
    from .row_proof import RowProof

PROOFS = 3  # raised where a proof shows something else than before
_MOST_BYTES = 64 * 1024


def folder() -> Path | None:
    """Where proofs are kept; None: there is no place for them."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("omlx_jupyter", appauthor=False) / "proofs"
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


class Remembered:
    """One checkpoint's proofs by name. Any thread; the engine's in practice."""

    def __init__(self, model: LoadedModel) -> None:
        self._known: dict[str, Any] | None = None
        self._path: Path | None = None
        with contextlib.suppress(OSError):
            place = folder()
            self._path = place / f"{_key(model)}.json" if place is not None else None

    def get(self, name: str) -> Any:
        """What was shown under a name, or None."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(name)

    def put(self, name: str, value: object) -> None:
        """Keep what was shown; a value of JSON's kinds."""
        self._known = {**self._read(), name: value}
        path = self._path
        if path is None:
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, made = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._known, file)
            os.replace(made, path)

    def forget(self) -> None:
        """Prove everything anew."""
        self._known = {}
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return dict(self._known or {})
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, encoding="utf-8") as file:
                found = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _key(model: LoadedModel) -> str:
    device = sorted((name, str(value)) for name, value in mx.device_info().items() if "memory" not in name)
    computes = (PROOFS, str(mx.default_device()), device, platform.machine(), blas.preload_openblas())
    identity = identity_of(model.checkpoint, model.dtype)
    return hashlib.blake2b(f"{identity} {computes}".encode(), digest_size=16).hexdigest()


def rows_to_json(proof: RowProof) -> dict[str, Any]:
    return asdict(proof)


def rows_from_json(value: object) -> RowProof | None:
    """None for what can't be one."""
    from .row_proof import RowProof

    if not isinstance(value, Mapping):
        return None
    try:
        named = ("call_tokens", "most", "handles", "mask_axes")
        calls, most, handles, axes = (value["grouping"][name] for name in named)
        why, longest, alone = value["why"], value["shared_to"], value["alone"]
        numbers = all(isinstance(number, int) for number in (calls, most, axes, longest))
        if not (numbers and isinstance(handles, bool) and isinstance(why, str) and isinstance(alone, str)):
            return None
        return RowProof(Grouping(calls, most, handles, axes), why, longest, alone)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
