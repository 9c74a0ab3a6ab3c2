"""An answer while it is written: in a notebook, or printed where there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from ..types import Usage
from . import live
from .plain import bar
from .terminal_view import PlainView, terminal_view

UPDATES_PER_S = 8
_SNAPSHOTS_S = (0.3, 1.0)  # the whole text is sent then, for views that came late


class View(Protocol):
    """Where a running request is shown."""

    def status(self, text: str) -> None: ...
    def update(self, text: str, progress: Any, usage: Usage) -> None: ...
    def finish(self, result: Any) -> None: ...
    def fail(self) -> None: ...


def phase_line(progress: Any, usage: Usage) -> str:
    """What the request is doing, in words."""
    if progress.phase == "queued":
        return "queued …"
    if progress.phase == "reading":
        done = usage.images_encoded + usage.images_reused
        return f"reading picture {min(done + 1, progress.images)}/{progress.images} …"
    if progress.phase == "prefill":
        return f"prefill {progress.done:,}/{progress.total:,} …"
    return f"writing · {progress.tokens} tokens · {usage.decode_tokens_per_s:.0f} tokens/s"


class NotebookView:
    """A live widget while the answer is written; then, in its place, a static MIME bundle that is saved."""

    def __init__(self, images: Sequence[Any] = (), stoppable: bool = True) -> None:
        from IPython.display import display

        self._widget = live.make(images, stoppable)
        self._handle = display(self._widget, display_id=True)
        self._sent = ""
        self._phase = ""
        self._snapshots = list(_SNAPSHOTS_S)
        self._began = self._last = time.monotonic()

    def status(self, text: str) -> None:
        self._widget.phase = text

    def update(self, text: str, progress: Any, usage: Usage) -> None:
        now = time.monotonic()
        if now - self._last < 1 / UPDATES_PER_S:
            return
        self._last = now
        if text and self._snapshots and now - self._began > self._snapshots[0]:
            del self._snapshots[0]
            self._widget.text = text
        message: dict[str, Any] = {}
        if len(text) > len(self._sent):
            message = {"o": len(self._sent), "d": text[len(self._sent) :]}
        phase = phase_line(progress, usage)
        if phase != self._phase and (not message or now - self._began > 1):
            message["p"] = phase
        if message:
            self._widget.send(message)
            self._sent, self._phase = text, message.get("p", self._phase)

    def finish(self, result: Any) -> None:
        self._end(result.bundle())

    def fail(self) -> None:
        self._end({"text/plain": ""})

    def _end(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            self._handle.update(bundle, raw=True)
        self._widget.close()


def make_view(shell: Any, images: Sequence[Any] = (), stoppable: bool = True) -> View:
    """A view in the cell that runs. `stoppable`: an interrupt of the kernel stops the answer."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return terminal_view()
    return NotebookView(images, stoppable) if shows_updates(kernel) else PlainView()


def shows_updates(kernel: Any) -> bool:
    """Whether the front end that asked shows display updates.

    JupyterLab, Notebook 7 and VS Code name the cell in a request's metadata; nbclient, nbconvert and papermill
    allow no input. What is left are consoles (jupyter console, qtconsole), which drop updates.
    """
    request = kernel.get_parent("shell") or {}
    metadata, content = request.get("metadata") or {}, request.get("content") or {}
    return bool(metadata) or not content.get("allow_stdin", False)


def tell_many(view: View) -> Any:
    """A progress line for many pictures: 12/40 pictures · 3.1 a second."""

    def tell(done: int, total: int, failed: int, seconds: float) -> None:
        rate = f" · {done / seconds:.1f} a second" if done and seconds > 0.5 else ""
        line = f"{bar(done / max(1, total))} {done}/{total} pictures{rate}{f' · {failed} failed' if failed else ''}"
        if line != said[0] and (done == total or time.monotonic() - when[0] > 0.2):
            said[0], when[0] = line, time.monotonic()
            if not isinstance(view, PlainView) or seconds > 1:
                view.status(line)

    said, when = [""], [0.0]
    return tell
