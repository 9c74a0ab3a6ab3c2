"""What a view of a running answer is, and what all of them say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from ...types import Usage
from .thoughts import NO_THOUGHT, Thought

if TYPE_CHECKING:
    from ...engine.request import Progress
    from ..shell import Kernel

_log = logging.getLogger("omlx_jupyter")


class Shown(Protocol):
    """What a view shows in the end: a result, or several."""

    @property
    def text(self) -> str: ...
    def bundle(self) -> dict[str, str]: ...
    def saved(self) -> dict[str, str]: ...
    def thought_bundle(self) -> dict[str, str] | None: ...


class View(Protocol):
    """Where a running request is shown."""

    def status(self, text: str) -> None: ...
    def update(self, text: str, progress: Progress, usage: Usage, thought: Thought = NO_THOUGHT) -> None: ...
    def keep_place(self) -> None:
        """The answer will need a place of its own below its thought, and the cell ends before that."""

    def finish(self, result: Shown) -> None: ...
    def fail(self) -> None: ...


class Guarded:
    """A view that keeps its failures to itself: a display that has gone must not lose the answer."""

    def __init__(self, view: object) -> None:
        self.view: Any = view

    def _do(self, act: str, *what: object) -> None:
        try:
            if self.view is not None:
                getattr(self.view, act)(*what)
        except Exception:
            self.view = None
            _log.warning("an answer can't be shown any longer; it goes on", exc_info=True)

    def finish(self, result: object) -> None:
        self._do("finish", result)

    def fail(self) -> None:
        self._do("fail")


class Unfailing(Guarded):
    """A guarded view of one answer."""

    def __init__(self, view: View) -> None:
        super().__init__(view)

    def status(self, text: str) -> None:
        self._do("status", text)

    def update(self, text: str, progress: Progress, usage: Usage, thought: Thought = NO_THOUGHT) -> None:
        self._do("update", text, progress, usage, thought)

    def keep_place(self) -> None:
        self._do("keep_place")


def phase_line(progress: Progress, usage: Usage, thinking: bool = False) -> str:
    """What the request is doing, in words."""
    if progress.phase == "queued":
        return "queued …"
    if progress.phase == "reading":
        done = usage.images_encoded + usage.images_reused
        return f"reading picture {min(done + 1, progress.images)}/{progress.images} …"
    if progress.phase == "prefill":
        return f"prefill {progress.done:,}/{progress.total:,} …"
    speed = f"{usage.decode_tokens_per_s:.0f} tokens/s"
    drafted = f" · {usage.accepted} from drafts" if usage.accepted else ""
    if thinking:
        return f"thinking · {speed}{drafted}"
    thought = f" ({usage.reasoning_tokens} thought)" if usage.reasoning_tokens else ""
    return f"writing · {progress.tokens} tokens{thought} · {speed}{drafted}"


def is_static(kernel: Kernel) -> bool:
    """Whether nobody looks while the cell runs, as in nbclient, nbconvert and papermill: only what is saved counts."""
    request = kernel.get_parent("shell") or {}
    metadata, content = request.get("metadata") or {}, request.get("content") or {}
    return not metadata and not content.get("allow_stdin", False)


def shows_updates(kernel: Kernel) -> bool:
    """Whether the front end that asked shows display updates.

    JupyterLab, Notebook 7 and VS Code name the cell in a request's metadata; nbclient, nbconvert and papermill
    allow no input. What is left are consoles (jupyter console, qtconsole), which drop updates.
    """
    request = kernel.get_parent("shell") or {}
    metadata, content = request.get("metadata") or {}, request.get("content") or {}
    return bool(metadata) or not content.get("allow_stdin", False)
