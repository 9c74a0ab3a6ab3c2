"""How many requests a foreign server is sent at once: more while it takes them, half when that is too much for it."""

from __future__ import annotations

import random
import threading

FIRST, MOST = 8, 256


class Flight:
    """A gate whose width follows the server's answers. From any thread."""

    def __init__(self, width: int = FIRST) -> None:
        self.width = width
        self._in, self._good = 0, 0
        self._changed = threading.Condition()

    def enter(self, given_up: threading.Event) -> bool:
        """Wait for a place; False where the request was `given_up` meanwhile."""
        with self._changed:
            while self._in >= self.width:
                if given_up.is_set():
                    return False
                self._changed.wait(0.1)
            self._in += 1
            return True

    def leave(self, well: bool) -> None:
        """After a whole width of answers there is room for one more."""
        with self._changed:
            self._in -= 1
            self._good = self._good + 1 if well else 0
            if self._good >= self.width and self.width < MOST:
                self.width, self._good = self.width + 1, 0
            self._changed.notify_all()

    def too_much(self) -> None:
        with self._changed:
            self.width, self._good = max(1, self.width // 2), 0


def wait_before(attempt: int, asked: str | None) -> float:
    """Seconds before another try: what the server asked for (at most a minute), else twice as long each time."""
    try:
        return min(60.0, max(0.0, float(asked))) if asked else _doubled(attempt)
    except ValueError:
        return _doubled(attempt)


def _doubled(attempt: int) -> float:
    return float(min(30.0, 0.5 * 2**attempt) * random.uniform(0.75, 1.25))
