"""An answer while it is written: in a notebook, or printed where there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...types import Usage
from ..plain import bar
from . import live
from .terminal_view import PlainView, terminal_view
from .thoughts import NO_THOUGHT, Heard, Thought
from .view import Unfailing, View, is_static, phase_line, shows_updates

if TYPE_CHECKING:
    from ...engine.readable import Readable
    from ...engine.request import Progress
    from ...images.decoded import DecodedImage
    from ...types import Generation
    from ..shell import Shell
    from .live import LiveWidget
    from .view import Shown

TICK_S = 0.05
UPDATES_PER_S = 8
_THOUGHT_S = (0.3, 1.0, 3.0, 10.0)  # a thought's seconds at which all of it is sent
_SNAPSHOTS_S = 0.3  # the whole text is sent then, and whenever three times as long has passed: for views that come late


def hear(handle: Readable[Generation], view: View, heard: Heard) -> bool:
    """Take what a request says within a moment, and show it; whether it has ended.

    :raises OmlxError: the request failed.
    """
    pieces, ended = handle.poll(TICK_S)
    heard.take(pieces)
    usage = handle.usage
    view.update(heard.text, handle.progress, usage, heard.thought(usage.reasoning_tokens))
    return bool(ended)


class Sender:
    """Sends a widget what is new of its answer, a few times a second."""

    def __init__(self, widget: LiveWidget) -> None:
        self._widget = widget
        self._sent = self._phase = self._line = ""
        self._sent_thought = 0  # characters
        self._whole_thought = list(_THOUGHT_S)
        self._snapshot_s = _SNAPSHOTS_S
        self._began = self._last = time.monotonic()

    def update(self, text: str, phase: str, thought: Thought = NO_THOUGHT) -> None:
        """`phase` is what the request is doing, in words."""
        now = time.monotonic()
        if now - self._last < 1 / UPDATES_PER_S:
            return
        self._last = now
        if text and now - self._began > self._snapshot_s:
            self._snapshot_s = 3 * (now - self._began)
            self._widget.text = text
        message = self._of_thought(thought)
        if len(text) > len(self._sent):
            message |= {"o": len(self._sent), "d": text[len(self._sent) :]}
        if phase != self._phase and (not message or now - self._began > 1):
            message["p"] = phase
        if message:
            self._widget.send(message)
            self._sent, self._phase = text, message.get("p", self._phase)

    def _of_thought(self, thought: Thought) -> dict[str, Any]:
        """What is new of it. It goes in messages, whole a few times for views that came late, and never into the
        widget's state, which may be saved."""
        message: dict[str, Any] = {}
        whole = self._whole_thought and thought.seconds > self._whole_thought[0]
        if whole:
            del self._whole_thought[0]
        if whole or len(thought.text) > self._sent_thought:
            begin = 0 if whole else self._sent_thought
            message = {"to": begin, "t": thought.text[begin:]}
            self._sent_thought = len(thought.text)
        if thought.text and thought.line() != self._line:
            message["l"] = self._line = thought.line()
        return message


class NotebookView:
    """A live widget while the answer is written; then, in its place, a static MIME bundle that is saved."""

    def __init__(self, images: Sequence[DecodedImage] = (), stoppable: bool = True) -> None:
        from IPython.display import display

        self._widget = live.make(images, stoppable)
        self._handle = display(self._widget, display_id=True)
        self._answer: Any = None  # the place below the thought
        self._sender = Sender(self._widget)

    def status(self, text: str) -> None:
        self._widget.phase = text

    def keep_place(self) -> None:
        from IPython.display import display

        self._answer = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, text: str, progress: Progress, usage: Usage, thought: Thought = NO_THOUGHT) -> None:
        self._sender.update(text, phase_line(progress, usage, thought.running), thought)

    def finish(self, result: Shown) -> None:
        thought = result.thought_bundle()
        if thought is None:
            self._end(result.saved())
            return
        from IPython.display import display

        self._end(thought)
        if self._answer is not None:
            self._answer.update(result.saved(), raw=True)
        else:
            display(result.saved(), raw=True)

    def fail(self) -> None:
        self._end({"text/plain": ""})

    def _end(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            self._handle.update(bundle, raw=True)
        self._widget.close()


class StaticView:
    """What is saved, and nothing that lives: no widget is left behind where nobody looked."""

    def __init__(self) -> None:
        from IPython.display import display

        self._place = display({"text/plain": ""}, raw=True, display_id=True)
        self._answer: Any = None

    def status(self, text: str) -> None:
        pass

    def update(self, text: str, progress: Progress, usage: Usage, thought: Thought = NO_THOUGHT) -> None:
        pass

    def keep_place(self) -> None:
        from IPython.display import display

        self._answer = display({"text/plain": ""}, raw=True, display_id=True)

    def finish(self, result: Shown) -> None:
        from IPython.display import display

        thought = result.thought_bundle()
        if thought is None:
            self._place.update(result.saved(), raw=True)
            return
        self._place.update(thought, raw=True)
        if self._answer is not None:
            self._answer.update(result.saved(), raw=True)
        else:
            display(result.saved(), raw=True)

    def fail(self) -> None:
        self._place.update({"text/plain": ""}, raw=True)


def make_view(shell: Shell | None, images: Sequence[DecodedImage] = (), stoppable: bool = True) -> View:
    """A view in the cell that runs. `stoppable`: an interrupt of the kernel stops the answer."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return terminal_view()
    if is_static(kernel):
        return StaticView()
    return NotebookView(images, stoppable) if shows_updates(kernel) else PlainView()


def tell_many(view: View | Unfailing) -> Any:
    """A progress line for many pictures: 12/40 pictures · 3.1 a second."""

    def tell(done: int, total: int, failed: int, seconds: float) -> None:
        rate = f" · {done / seconds:.1f} a second" if done and seconds > 0.5 else ""
        line = f"{bar(done / max(1, total))} {done}/{total} pictures{rate}{f' · {failed} failed' if failed else ''}"
        if line != said[0] and (done == total or time.monotonic() - when[0] > 0.2):
            said[0], when[0] = line, time.monotonic()
            if not plain or seconds > 1:
                view.status(line)

    said, when = [""], [0.0]
    plain = isinstance(view.view if isinstance(view, Unfailing) else view, PlainView)
    return tell
