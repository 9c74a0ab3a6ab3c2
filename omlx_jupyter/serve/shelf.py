"""Pictures that clients have sent, by their content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import RequestError
from ..images.decoded import DecodedImage


class PictureShelf:
    """The least used go first. Event loop only."""

    def __init__(self, most: int, most_pixels: int) -> None:
        self._held: OrderedDict[str, DecodedImage] = OrderedDict()
        self._most, self._most_pixels = most, most_pixels
        self.nbytes = 0

    def size(self, head: Mapping[str, Any]) -> int:
        """Bytes of a picture, by its header. :raises ValueError: no picture has that size."""
        width, height = int(head["width"]), int(head["height"])
        if not (width > 0 and height > 0 and width * height <= self._most_pixels):
            raise ValueError
        return width * height * 3

    def put(self, head: Mapping[str, Any], pixels: memoryview) -> None:
        """:raises RequestError: it isn't what its digest says."""
        array = np.frombuffer(bytes(pixels), np.uint8).reshape(int(head["height"]), int(head["width"]), 3)
        image = DecodedImage(array, "")
        if image.digest != head.get("digest"):
            raise RequestError("a picture isn't what its digest says; send it again.")
        if image.digest not in self._held:
            self._held[image.digest] = image
            self.nbytes += image.pixels.nbytes
        while self.nbytes > self._most and len(self._held) > 1:
            self.nbytes -= self._held.popitem(last=False)[1].pixels.nbytes

    def __contains__(self, digest: object) -> bool:
        return digest in self._held

    def get(self, part: Mapping[str, Any]) -> DecodedImage:
        """The picture that a part of a message names, with what the part says of it."""
        digest = str(part["picture"])
        self._held.move_to_end(digest)
        source, note, text = (str(part.get(key) or "")[:100_000] for key in ("source", "note", "text"))
        return replace(self._held[digest], source=source, note=note, text=text)
