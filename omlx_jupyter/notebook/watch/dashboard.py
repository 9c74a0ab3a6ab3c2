"""`%omlx dashboard`: what the engine is doing, live, while cells run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from .state import Watcher, same

UPDATES_PER_S = 2.0
_JS = Path(__file__).parent.parent / "js"


def make() -> Any:
    """The widget. It updates from a thread of its own until its last view or the widget is closed."""
    import anywidget
    import traitlets

    class Dashboard(anywidget.AnyWidget):
        """The engine's batch, speed, cache and memory."""

        _esm = _JS / "dashboard.js"
        _css = _JS / "dashboard.css"
        state = traitlets.Dict().tag(sync=True)

        def __init__(self) -> None:
            self.watcher = Watcher()
            super().__init__(state=self.watcher.snapshot())
            self.stopped = threading.Event()
            self.views = 0
            self.on_msg(self._on_message)
            self._begin()

        def _begin(self) -> None:
            self.stopped.clear()
            self.thread = threading.Thread(target=self._update, name="omlx-dashboard", daemon=True)
            self.thread.start()

        def _on_message(self, _: object, content: object, __: object) -> None:
            """A view came or went; without any of them nothing is watched."""
            if not isinstance(content, dict):
                return
            self.views = max(0, self.views + bool(content.get("here")) - bool(content.get("gone")))
            if not self.views:
                self.stopped.set()
            elif self.stopped.is_set():
                self.thread.join()
                self._begin()

        def _update(self) -> None:
            while not self.stopped.wait(1 / UPDATES_PER_S):
                made = self.watcher.snapshot()
                if not same(made, self.state):
                    self.state = made

        def close(self) -> None:
            self.stopped.set()
            super().close()

    return Dashboard()
