"""The prepared pictures of requests: what they take together, each counted once however many requests have it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.prepared import Prepared


class Pixels:
    """Any thread. A prompt is counted from its preparation until its request has ended or gives it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}  # bytes of arrays by their identity
        self._users: dict[int, int] = {}
        self._of: dict[int, list[int]] = {}  # what each request holds
        self.nbytes = 0
        self.largest = 0  # of one request so far

    def add(self, number: int, prompt: Prepared) -> None:
        """Request `number` holds a Prepared's arrays."""
        held: dict[int, int] = prompt.held()
        with self._lock:
            self._of[number] = list(held)
            for key, size in held.items():
                self._users[key] = self._users.get(key, 0) + 1
                if self._users[key] == 1:
                    self._sizes[key] = size
                    self.nbytes += size
            self.largest = max(self.largest, sum(held.values()))

    def drop(self, number: int) -> None:
        """The request holds none any more. Twice is harmless."""
        with self._lock:
            for key in self._of.pop(number, ()):
                self._users[key] -= 1
                if not self._users[key]:
                    self.nbytes -= self._sizes.pop(key)
                    del self._users[key]

    def of(self, number: int) -> int:
        """Bytes of one request's arrays."""
        with self._lock:
            return sum(self._sizes[key] for key in self._of.get(number, ()))

    def has(self, key: int) -> bool:
        with self._lock:
            return key in self._users


class Remembered:
    """A picture processor's memory, as far as no request has the same arrays: it gives way."""

    def __init__(self, vision: object, pixels: Pixels) -> None:
        self._vision: Any = vision if hasattr(vision, "remembered") else None
        self._pixels = pixels

    @property
    def nbytes(self) -> int:
        if self._vision is None:
            return 0
        return sum(image.nbytes for image in self._vision.remembered() if not self._pixels.has(id(image.arrays)))

    def allow(self, most: int) -> None:
        if self._vision is not None and most < self.nbytes:
            self._vision.allow(most)
        elif self._vision is not None:
            self._vision.allow(2**62)
