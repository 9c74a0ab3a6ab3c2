"""What `%load_ext omlx_jupyter` does: magics and settings, nothing heavy."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from .cells import accessor, complete
from .cells.magics import OmlxMagics
from .settings.config import Omlx, settings
from .shell import in_kernel
from .work import session

if TYPE_CHECKING:
    from .shell import Shell

_wires: list[Any] = []  # the kernel's, while the extension is loaded


def load(shell: Shell) -> None:
    settings(shell)
    shell.register_magics(OmlxMagics)
    complete.install(shell)
    accessor.register()
    shell.events.register("pre_run_cell", accessor.register)
    if in_kernel(shell):
        from .watch.comm import Wire

        _wires[:] = [Wire(shell)]


def unload(shell: Shell) -> None:
    for wire in _wires:
        wire.close()
    _wires.clear()
    session.unload()
    if (latest := sys.modules.get(f"{__package__}.work.latest")) is not None:
        latest.forget()
    complete.uninstall(shell)
    if (servers := sys.modules.get(f"{__package__}.work.mcp_servers")) is not None:
        servers.close_all()
    with contextlib.suppress(ValueError):
        shell.events.unregister("pre_run_cell", accessor.register)
    for kind, name in (("line", "ocr"), ("cell", "vlm"), ("line", "vlm"), ("line", "omlx")):
        shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop("OmlxMagics", None)
    shell.configurables[:] = [c for c in shell.configurables if not isinstance(c, Omlx)]
    Omlx.clear_instance()
