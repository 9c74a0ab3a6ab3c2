"""The one form in which pictures leave this room."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A picture, decoded.

    `pixels` is (H, W, 3) uint8 RGB, read-only; `digest` is a BLAKE2b-128 hex digest over mode, size
    and pixels, so that equal pictures from different sources are one picture to the caches.
    """

    pixels: np.ndarray
    source: str
    note: str = ""
    digest: str = field(default="")

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
        if self.width * self.height <= pixels:
            return self
        factor = (pixels / (self.width * self.height)) ** 0.5
        size = (max(1, int(self.width * factor)), max(1, int(self.height * factor)))
        small = np.array(self.pil().resize(size, Image.Resampling.LANCZOS))
        note = (
            f"{self.source} was shrunk from {self.width} x {self.height} to {size[0]} x {size[1]}; "
            "raise the pixel budget to keep more of it."
        )
        return DecodedImage(small, self.source, note)

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"<picture {self.width}x{self.height} from {self.source}>"


@dataclass(frozen=True)
class Limits:
    """What a source may cost before it is refused."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 120_000_000  # before decoding; a model's own pixel budget is smaller
    max_redirects: int = 5
    timeout_s: float = 20.0
    allow_private_urls: bool = False
    max_frames: int = 500
