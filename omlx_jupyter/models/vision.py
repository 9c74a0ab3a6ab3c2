"""Pictures through a checkpoint's own processor, one by one, off the engine thread."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .prepared import VisionInput

if TYPE_CHECKING:
    from PIL import Image

    from .shapes import Picture, Processor

# What a processor returns beside the picture's own arrays.
_TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "position_ids")
_KEEP = 32  # processed pictures remembered, so that a follow-up doesn't preprocess again
_KEEP_BYTES = 256 * 2**20  # of their arrays together: one of 4 megapixels may take 100 MiB


class PictureProcessor(ABC):
    """Processes single pictures, each once: the last few are remembered. Any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, VisionInput] = OrderedDict()
        self.nbytes = 0
        self._allowed = _KEEP_BYTES
        self._lock = threading.Lock()

    def process(self, image: Picture) -> VisionInput:
        """`image` has `.pil()`, `.digest`, `.width` and `.height` (a decoded picture).

        :raises ModelError: the processor fails or makes no picture tokens.
        """
        with self._lock:
            found = self._known.get(image.digest)
            if found is not None:
                self._known.move_to_end(image.digest)
                return found
        made = self._run(image)
        with self._lock:
            if image.digest not in self._known:  # by another thread meanwhile
                self._known[image.digest] = made
                self.nbytes += made.nbytes
            self._shrink()
        return made

    def allow(self, most: int) -> None:
        """Keep within `most` bytes, or the usual bound where that is less, from now on."""
        with self._lock:
            self._allowed = min(_KEEP_BYTES, most)
            self._shrink()

    def forget(self) -> None:
        with self._lock:
            self._known.clear()
            self.nbytes = 0

    def remembered(self) -> list[VisionInput]:
        with self._lock:
            return list(self._known.values())

    def _shrink(self) -> None:
        while len(self._known) > _KEEP or self.nbytes > self._allowed:
            self.nbytes -= self._known.popitem(last=False)[1].nbytes

    @abstractmethod
    def _run(self, image: Picture) -> VisionInput: ...


class VisionProcessor(PictureProcessor):
    """Runs a checkpoint's processor on a placeholder and its picture."""

    def __init__(self, processor: Processor, placeholder: str, image_token_id: int | None, tiled: bool = False) -> None:
        """`tiled`: a processor of the DeepSeek kind, which gives tiles and a global view."""
        super().__init__()
        self._tiled = tiled
        self._processor = processor
        self._placeholder = placeholder
        self._image_token_id = image_token_id

    def _run(self, image: Picture) -> VisionInput:
        try:
            output = self._call(image.pil())
        except Exception as error:
            raise ModelError(
                f"the model's processor can't take this {image.width} x {image.height} picture ({error})."
            ) from error
        tokens = tuple(int(t) for t in np.asarray(output["input_ids"]).reshape(-1))
        arrays = {key: as_numpy(value) for key, value in output.items() if key not in _TEXT_KEYS and value is not None}
        if "pixel_values" not in arrays:
            raise ModelError("the model's processor dropped the picture; its processor files don't fit its model.")
        if self._image_token_id is not None and self._image_token_id not in tokens:
            raise ModelError("the model's processor made no picture tokens; its processor files don't fit its model.")
        return VisionInput(image.digest, tokens, arrays, image.width, image.height)

    def _call(self, picture: Image.Image) -> dict[str, Any]:
        """The processor's arrays, and `input_ids` of the picture's span alone."""
        if not self._tiled:
            return dict(self._processor(text=[self._placeholder], images=[picture]))
        # A begin token comes first, and the last token is dropped: hence the letter.
        output = dict(self._processor(text=[self._placeholder + "x"], images=[picture]))
        output["tiles"], output["pixel_values"] = output.pop("images")
        ids, mask = (np.asarray(output[name]).reshape(-1) for name in ("input_ids", "images_seq_mask"))
        output["input_ids"] = ids[mask.astype(bool)]
        return {name: value for name, value in output.items() if name != "images_seq_mask"}


def as_numpy(value: object) -> np.ndarray:
    """numpy has no bfloat16; float32 holds its values exactly."""
    import mlx.core as mx

    if isinstance(value, mx.array) and value.dtype == mx.bfloat16:
        value = value.astype(mx.float32)
    return np.asarray(value)
