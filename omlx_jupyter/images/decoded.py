"""The one form in which pictures leave this room."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from .limits import Limits as Limits
from .pixels import within


@dataclass(frozen=True)
class Origin:
    """The file that a picture came from, as it was then, and how it was read."""

    path: str
    changed_ns: int
    nbytes: int
    limits: Limits
    frames: Literal["first", "all"]

    @classmethod
    def of(cls, path: Path, limits: Limits, frames: Literal["first", "all"]) -> Origin | None:
        """None where there is no such file."""
        try:
            found = path.stat()
        except (OSError, ValueError):
            return None
        return cls(os.path.abspath(path), found.st_mtime_ns, found.st_size, limits, frames)

    def same(self) -> bool:
        """Whether the file looks as it did."""
        return Origin.of(Path(self.path), self.limits, self.frames) == self


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A picture, decoded.

    `pixels` is (H, W, 3) uint8 RGB, read-only; `digest` is a BLAKE2b-128 hex digest over mode, size
    and pixels, so that equal pictures from different sources are one picture to the caches. `text` is what its source
    says that it shows, such as a PDF page's text layer: not to be believed, but to be guessed from. `origin` is where
    it may be had again.
    """

    pixels: np.ndarray
    source: str
    note: str = ""
    digest: str = field(default="")
    text: str = ""
    origin: Origin | None = None

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)
        if not self.digest:
            height, width = self.pixels.shape[:2]
            digest = hashlib.blake2b(f"RGB {width}x{height} ".encode(), digest_size=16)
            digest.update(np.ascontiguousarray(self.pixels).data)
            object.__setattr__(self, "digest", digest.hexdigest())

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def pil(self) -> Image.Image:
        return Image.fromarray(self.pixels)

    def preview(self) -> Image.Image:
        """What there is to look at."""
        return self.pil()

    def png(self, longest: int | None = None) -> bytes:
        """PNG bytes, shrunk so that no side is over `longest` pixels."""
        image = self.pil()
        if longest:
            image.thumbnail((longest, longest))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    def shrunk_to(self, pixels: int) -> DecodedImage:
        """Itself if it has at most `pixels` pixels, else a smaller copy whose `note` says so."""
        small = within(self.pixels, pixels)
        if small is self.pixels:
            return self
        note = shrunk_note(self.source, (self.width, self.height), small)
        return DecodedImage(small, self.source, note, text=self.text)

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"<picture {self.width}x{self.height} from {self.source}>"


def shrunk_note(source: str, size: tuple[int, int], small: np.ndarray) -> str:
    """What an answer says of a picture of `size` (width, height) that was made smaller."""
    return (
        f"{source} was shrunk from {size[0]} x {size[1]} to {small.shape[1]} x {small.shape[0]}; "
        "raise the pixel budget to keep more of it."
    )
