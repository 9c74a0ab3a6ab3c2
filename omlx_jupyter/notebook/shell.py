"""What the extension uses of IPython's shell and ipykernel's kernel, as types. Nothing is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence
from typing import Any, Protocol, TypeGuard


class Sends(Protocol):
    """ipykernel's session: messages on a socket."""

    def send(
        self, stream: object, kind: str, content: Mapping[str, object], *, parent: object, ident: object
    ) -> object: ...


class Kernel(Protocol):
    """The kernel that a shell runs in."""

    @property
    def session(self) -> Sends: ...
    @property
    def iopub_socket(self) -> object: ...
    def get_parent(self, channel: str | None = None) -> dict[str, Any] | None: ...
    def _topic(self, topic: str) -> bytes: ...


class Events(Protocol):
    def register(self, event: str, function: Callable[..., object]) -> object: ...
    def unregister(self, event: str, function: Callable[..., object]) -> object: ...


class DisplayHook(Protocol):
    def update_user_ns(self, result: object) -> object: ...


class Hooks(Protocol):
    """Of one kind, by what a line begins with."""

    strs: dict[str, object]


class KnowsMagics(Protocol):
    magics: dict[str, dict[str, Any]]
    registry: dict[str, Any]


class Shell(Protocol):
    """IPython's shell; in a kernel it has a `kernel`, which is asked for with `getattr`."""

    user_ns: dict[str, Any]

    @property
    def execution_count(self) -> int: ...
    @property
    def events(self) -> Events: ...
    @property
    def displayhook(self) -> DisplayHook: ...
    @property
    def strdispatchers(self) -> Mapping[str, Hooks]: ...
    @property
    def magics_manager(self) -> KnowsMagics: ...
    @property
    def configurables(self) -> MutableSequence[Any]: ...
    def set_hook(self, name: str, hook: Callable[..., object], *, str_key: str) -> object: ...
    def register_magics(self, *magics: object) -> object: ...


class KernelShell(Shell, Protocol):
    """One that runs in a kernel."""

    @property
    def kernel(self) -> Kernel: ...


def in_kernel(shell: Shell) -> TypeGuard[KernelShell]:
    return getattr(shell, "kernel", None) is not None
