"""A picture that an answer keeps: not its pixels, which are 12 MB for four megapixels, but what gives them again.

One from a file is opened anew and must be the same; any other is kept packed, without loss. All packed ones together
have a bound: beyond it the oldest keep a thumbnail alone.
"""

from __future__ import annotations

import io
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from .decoded import DecodedImage, Origin

MOST_BYTES = 64 * 2**20  # of what is packed
THUMBNAIL = 512  # px, the longest side at most; half of a smaller picture's
_SMALL = 256 * 1024  # bytes of pixels that aren't worth packing


class KeptImage:
    """`pixels`, `width`, `height`, `digest`, `source`, `note`, `text`, `png()` and `pil()` are a `DecodedImage`'s.

    Any thread.
    """

    def __init__(self, image: DecodedImage, shelf: Shelf) -> None:
        self.width, self.height, self.digest = image.width, image.height, image.digest
        self.source, self.note, self.text = image.source, image.note, image.text
        self._origin: Origin | None = image.origin
        self._pixels: np.ndarray | None = image.pixels
        self._seen: weakref.ref[np.ndarray] = weakref.ref(image.pixels)
        self._packed = b""
        self._thumbnail = b""
        self._lock = threading.Lock()
        if image.pixels.nbytes > _SMALL:
            shelf.put(self)

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, read-only.

        :raises ImageError: its file has changed or gone, or there were too many pictures to keep it.
        """
        with self._lock:
            held = self._pixels if self._pixels is not None else self._seen()
            if held is None:
                held = self._again()
                held.setflags(write=False)
                self._seen = weakref.ref(held)
            return held

    @property
    def is_own(self) -> bool:
        """Whether it was an object of the program: neither a file's, nor a page's, nor an address's."""
        return self._origin is None and "://" not in self.source[:12] and ".pdf[" not in self.source.lower()

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return len(self._packed) + len(self._thumbnail) + (0 if self._pixels is None else self._pixels.nbytes)

    def opened(self) -> DecodedImage:
        """:raises ImageError: as `pixels`."""
        return DecodedImage(self.pixels, self.source, self.note, self.digest, self.text, self._origin)

    def pil(self) -> Image.Image:
        """:raises ImageError: as `pixels`."""
        return Image.fromarray(self.pixels)

    def preview(self) -> Image.Image:
        """The picture, or what is left of it: at least its thumbnail."""
        try:
            return self.pil()
        except ImageError:
            if not self._thumbnail:
                raise
            return Image.open(io.BytesIO(self._thumbnail)).convert("RGB")

    def png(self, longest: int | None = None) -> bytes:
        """PNG bytes, shrunk so that no side is over `longest` pixels; of the thumbnail where no more is left."""
        image = self.preview()
        if longest:
            image.thumbnail((longest, longest))
        return _png(image)

    def pack(self) -> int:
        """Let go of the pixels; how many bytes are kept in their place, beside the thumbnail."""
        with self._lock:
            pixels = self._pixels
            if pixels is None:
                return len(self._packed)
            image = Image.fromarray(pixels)
            longest = min(THUMBNAIL, max(self.width, self.height, 2) // 2)
            small = image.copy()
            small.thumbnail((longest, longest))
            self._thumbnail = _png(small)
            self._packed = b"" if self._origin is not None and self._origin.same() else _png(image)
            self._pixels = None
            return len(self._packed)

    def shrink(self) -> int:
        """Keep the thumbnail alone; how many bytes that frees."""
        with self._lock:
            freed, self._packed = len(self._packed), b""
            return freed

    def _again(self) -> np.ndarray:
        if self._packed:
            return np.asarray(Image.open(io.BytesIO(self._packed)).convert("RGB"))
        if self._origin is None:
            raise ImageError(f"{self.source} isn't kept any longer (its thumbnail is); open it again.")
        from .source import open_images

        for found in open_images(Path(self._origin.path), self._origin.limits, self._origin.frames):
            if found.digest == self.digest:
                return found.pixels
        raise ImageError(f"{self.source} has changed since it was read; its thumbnail is what is left.")

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"<picture {self.width}x{self.height} from {self.source}>"


class Shelf:
    """All kept pictures, the newest last. Packing takes a tenth of a second, so a thread of its own does it."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._known: weakref.WeakValueDictionary[str, KeptImage] = weakref.WeakValueDictionary()
        self._packed: OrderedDict[int, tuple[weakref.ref[KeptImage], int]] = OrderedDict()
        self._lock = threading.Lock()
        self._packer: ThreadPoolExecutor | None = None

    def keep(self, image: DecodedImage) -> KeptImage:
        """The same one for the same picture of the same name."""
        name = f"{image.digest} {image.source}"
        with self._lock:
            found = self._known.get(name)
            if found is None:
                self._known[name] = found = KeptImage(image, self)
        return found

    def put(self, image: KeptImage) -> None:
        """Have it packed soon."""
        if self._packer is None:
            self._packer = ThreadPoolExecutor(1, "omlx-kept")
        self._packer.submit(self._pack, weakref.ref(image))

    def wait(self) -> None:
        """Until all that was put is packed."""
        if self._packer is not None:
            self._packer.submit(lambda: None).result()

    def _pack(self, reference: weakref.ref[KeptImage]) -> None:
        image = reference()
        if image is None:
            return
        count = image.pack()
        with self._lock:
            self._packed[id(image)] = reference, count
            for key in [key for key, (held, _) in self._packed.items() if held() is None]:
                del self._packed[key]
            total = sum(count for _, count in self._packed.values())
            while total > self._most and self._packed:
                _, (held, count) = self._packed.popitem(last=False)
                oldest = held()
                total -= count if oldest is None else oldest.shrink()


shelf = Shelf()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
