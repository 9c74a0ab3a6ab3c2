"""How large a picture becomes. Standard library only."""

from __future__ import annotations


def shrunk_size(width: int, height: int, budget: int) -> tuple[int, int]:
    """(width, height) of the same shape with at most `budget` pixels."""
    if width * height <= budget:
        return width, height
    factor = (budget / (width * height)) ** 0.5
    return max(1, int(width * factor)), max(1, int(height * factor))
