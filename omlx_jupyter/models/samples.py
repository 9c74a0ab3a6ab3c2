"""What a proof asks a picture model: made-up pictures, and prompts with one, two and none of them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np

from ..types import ImagePart, Message

_SIZES = ((84, 56), (56, 140))


class Sample:
    """A made-up picture, as the processors want them."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        made = np.random.default_rng(seed).integers(0, 256, (height // 14, width // 14, 3), np.uint8)
        self._pixels = np.kron(made, np.ones((14, 14, 1), np.uint8))
        self.width, self.height = width, height
        self.digest = hashlib.blake2b(self._pixels.tobytes(), digest_size=16).hexdigest()

    def pil(self) -> Any:
        from PIL import Image

        return Image.fromarray(self._pixels)


Asked = tuple[list[Message], list[Sample]]


@lru_cache(maxsize=1)
def pictures() -> list[Sample]:
    return [Sample(*size, seed) for seed, size in enumerate(_SIZES)]


def prompts() -> list[Asked]:
    """The first has one picture; each is another length."""
    one, other = pictures()
    return [
        ([Message("user", [ImagePart(one), "What is this, in a word?"])], [one]),
        ([Message("user", [ImagePart(other), ImagePart(one), "Which of them is larger?"])], [other, one]),
        ([Message("user", ["Say something."])], []),
        ([Message("user", [ImagePart(other), "Tell me what you see here, from left to right."])], [other]),
    ]


def swapped() -> Asked:
    """The first prompt with the other picture in place of its own."""
    other = pictures()[1]
    (message,) = prompts()[0][0]
    return [Message("user", [ImagePart(other), *message.parts[1:]])], [other]
