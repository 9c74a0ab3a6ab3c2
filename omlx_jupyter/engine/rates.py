"""What a prompt token and a picture take on this machine, for the estimate of what a hit saves."""

from __future__ import annotations

from dataclasses import dataclass

_NEW = 0.2  # weight of the newest measurement


@dataclass
class Rates:
    """Seconds, smoothed; 0 until something was measured."""

    per_token: float = 0.0
    per_image: float = 0.0

    def prefilled(self, tokens: int, seconds: float) -> None:
        self.per_token = _smoothed(self.per_token, seconds / max(1, tokens))

    def encoded(self, seconds: float) -> None:
        self.per_image = _smoothed(self.per_image, seconds)


def _smoothed(old: float, new: float) -> float:
    return (1 - _NEW) * old + _NEW * new if old else new
