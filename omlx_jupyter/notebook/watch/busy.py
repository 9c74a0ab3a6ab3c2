"""JupyterLab takes every status message for the kernel's: one that was handled in a subshell makes a running cell look
finished. This says again that it runs."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..shell import KernelShell

_AFTER_S = 0.15  # the subshell's own "idle" has gone out by then


class StillBusy:
    """Knows whether a cell runs, by the shell's events."""

    def __init__(self, shell: KernelShell) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._parent: Any = None  # the request of the cell that runs
        shell.events.register("pre_run_cell", self._began)
        shell.events.register("post_run_cell", self._ended)

    def close(self) -> None:
        for name, callback in (("pre_run_cell", self._began), ("post_run_cell", self._ended)):
            with contextlib.suppress(ValueError):
                self._shell.events.unregister(name, callback)

    def _began(self, *_: object) -> None:
        with self._lock:
            self._parent = self._shell.kernel.get_parent("shell")

    def _ended(self, *_: object) -> None:
        with self._lock:
            self._parent = None

    def say_again(self) -> None:
        """A message was handled beside a cell, or just before one: tell pages that the cell runs."""
        if threading.current_thread() is not threading.main_thread():
            timer = threading.Timer(_AFTER_S, self._publish)
            timer.daemon = True
            timer.start()

    def _publish(self) -> None:
        kernel = self._shell.kernel
        with self._lock:  # a cell that ends waits, so that its "idle" comes after this
            if self._parent is not None:
                kernel.session.send(
                    kernel.iopub_socket,
                    "status",
                    {"execution_state": "busy"},
                    parent=self._parent,
                    ident=kernel._topic("status"),
                )
