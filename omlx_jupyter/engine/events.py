"""One request's stream from the engine thread to whoever reads it, sync or async."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class EventQueue(Generic[Item]):
    """A queue with an end. The writer never waits; a reader waits where Ctrl-C reaches it."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._ready = threading.Condition()
        self._ended = False
        self.on_news: Callable[[], None] | None = None  # called by the writer, without the lock; must be short

    def put(self, item: Item) -> None:
        with self._ready:
            if not self._ended:
                self._items.append(item)
                self._ready.notify_all()
        self._tell()

    def end(self) -> None:
        with self._ready:
            self._ended = True
            self._ready.notify_all()
        self._tell()

    def _tell(self) -> None:
        if self.on_news is not None:
            self.on_news()

    @property
    def ended(self) -> bool:
        with self._ready:
            return self._ended

    def poll(self) -> tuple[list[Item], bool]:
        """(everything there is, whether that was all there will be), without waiting."""
        with self._ready:
            items = list(self._items)
            self._items.clear()
            return items, self._ended

    def wait(self, timeout: float | None = None) -> tuple[list[Item], bool]:
        """Like `poll`, after waiting for an item or the end."""
        with self._ready:
            self._ready.wait_for(lambda: self._items or self._ended, timeout)
        return self.poll()

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Wait for the end, leaving the items to their reader."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._ready:
            while not self._ended:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._ready.wait(left)
        return True
