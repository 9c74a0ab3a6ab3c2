"""What `%load_ext omlx_jupyter` does: magics and settings, nothing heavy."""

from __future__ import annotations

from typing import Any

from . import session
from .config import Omlx, settings
from .magics import OmlxMagics


def load(shell: Any) -> None:
    settings(shell)
    shell.register_magics(OmlxMagics)


def unload(shell: Any) -> None:
    session.unload()
    for kind, name in (("line", "ocr"), ("cell", "vlm"), ("line", "omlx")):
        shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop("OmlxMagics", None)
    shell.configurables[:] = [c for c in shell.configurables if not isinstance(c, Omlx)]
    Omlx.clear_instance()
