"""Several answers while they are written: columns side by side, in a notebook or a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..plain import name as one_line
from ..plain import tell
from . import live
from .comparison import Comparison
from .html import html
from .stream_view import UPDATES_PER_S, Sender
from .terminal_view import page
from .thoughts import NO_THOUGHT, Thought
from .view import Guarded, is_static, shows_updates

if TYPE_CHECKING:
    from ...images.decoded import DecodedImage
    from ..shell import Shell


@dataclass(frozen=True)
class Column:
    """What one model has said so far. `phase` is what it is doing, in words."""

    name: str
    text: str = ""
    phase: str = "…"
    thought: Thought = NO_THOUGHT


class CompareView(Protocol):
    """Where running answers are shown."""

    def update(self, columns: Sequence[Column]) -> None: ...
    def finish(self, made: Comparison, /) -> None: ...
    def fail(self) -> None: ...


class _Notebook:
    """The widget of a running answer, once for each column; then, in their place, what is saved."""

    def __init__(self, names: Sequence[str], images: Sequence[DecodedImage]) -> None:
        import ipywidgets
        from IPython.display import display

        wide = f"repeat({len(names)}, minmax(0, 1fr))"
        answers = [live.make(images if not place else (), not place) for place in range(len(names))]
        heads = [ipywidgets.HTML(html("<strong>{}</strong>", name)) for name in names]
        layout = ipywidgets.Layout(grid_template_columns=wide, grid_gap="0 1.5em", align_items="flex-start")
        self._grid = ipywidgets.GridBox([*heads, *answers], layout=layout)
        self._all = [*heads, *answers, self._grid]
        self._senders = [Sender(widget) for widget in answers]
        self._place = display(self._grid, display_id=True)

    def update(self, columns: Sequence[Column]) -> None:
        for sender, column in zip(self._senders, columns, strict=True):
            sender.update(column.text, column.phase, column.thought)

    def finish(self, made: Comparison) -> None:
        self._end(made.bundle())

    def fail(self) -> None:
        self._end({"text/plain": ""})

    def _end(self, bundle: dict[str, str]) -> None:
        if self._place is not None:
            self._place.update(bundle, raw=True)
        for widget in self._all:
            widget.close()


class _Static:
    """What is saved alone, where nobody looks while the cell runs."""

    def __init__(self) -> None:
        from IPython.display import display

        self._place = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, columns: Sequence[Column]) -> None:
        pass

    def finish(self, made: Comparison) -> None:
        self._place.update(made.bundle(), raw=True)

    def fail(self) -> None:
        pass


class _Printed:
    """Where nothing that was printed can change, text side by side can't grow: it comes when all have ended."""

    def update(self, columns: Sequence[Column]) -> None:
        pass

    def finish(self, made: Comparison) -> None:
        tell(made.bundle()["text/plain"])

    def fail(self) -> None:
        pass


class _Terminal:
    """Columns that grow in a terminal; all of it stays below when they have ended."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(), auto_refresh=False, transient=True, vertical_overflow="ellipsis")
        self._live.start()
        self._last = 0.0

    def update(self, columns: Sequence[Column]) -> None:
        from rich.markup import escape
        from rich.table import Table

        now = time.monotonic()
        if now - self._last < 1 / UPDATES_PER_S:
            return
        self._last = now
        table = Table(*(escape(one_line(column.name)) for column in columns), expand=True)
        above = [column.thought.line() if column.thought.text else "" for column in columns]
        table.add_row(*(page(c.text, c.phase, line) for c, line in zip(columns, above, strict=True)))
        self._live.update(table, refresh=True)

    def finish(self, made: Comparison) -> None:
        self._live.stop()
        tell(made.bundle()["text/plain"])

    def fail(self) -> None:
        self._live.stop()


class _Guarded(Guarded):
    def update(self, columns: Sequence[Column]) -> None:
        self._do("update", columns)


def make_compare_view(shell: Shell, names: Sequence[str], images: Sequence[DecodedImage] = ()) -> CompareView:
    """A view in the cell that runs, of answers about `images` (decoded pictures)."""
    return _Guarded(_view(shell, names, images))


def _view(shell: Shell, names: Sequence[str], images: Sequence[DecodedImage]) -> CompareView:
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return _Terminal() if sys.stdout.isatty() else _Printed()
    if is_static(kernel):
        return _Static()
    return _Notebook(names, images) if shows_updates(kernel) else _Printed()
