"""An answer while it is written: in a notebook, or printed where there is none."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from ..types import Usage
from .result import Result, answer_bundle

UPDATES_PER_S = 10


class View(Protocol):
    """Where a running request is shown."""

    def status(self, text: str) -> None: ...
    def update(self, text: str, progress: Any, usage: Usage) -> None: ...
    def finish(self, result: Result) -> None: ...
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
    """One display that grows; when done it holds a static MIME bundle, saved with the notebook."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": "…"}, raw=True, display_id=True)
        self._last = 0.0

    def status(self, text: str) -> None:
        self._show(answer_bundle("", text))

    def update(self, text: str, progress: Any, usage: Usage) -> None:
        now = time.monotonic()
        if now - self._last >= 1 / UPDATES_PER_S:
            self._last = now
            self._show(answer_bundle(text, phase_line(progress, usage)))

    def finish(self, result: Result) -> None:
        self._show(result.bundle())

    def fail(self) -> None:
        self._show({"text/plain": ""})

    def _show(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            self._handle.update(bundle, raw=True)


class PlainView:
    """Prints the pieces as they come: terminals, scripts. A display update would print all again."""

    def __init__(self) -> None:
        self._shown = 0

    def status(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def update(self, text: str, progress: Any, usage: Usage) -> None:
        if len(text) > self._shown:
            print(text[self._shown :], end="", flush=True)
            self._shown = len(text)

    def finish(self, result: Result) -> None:
        print(result.text[self._shown :], flush=True)
        for line in [*result.generation.notes, result.figures()]:
            print(f"[{line}]", flush=True)

    def fail(self) -> None:
        if self._shown:
            print(flush=True)


def make_view(shell: Any) -> View:
    return NotebookView() if getattr(shell, "kernel", None) is not None else PlainView()
