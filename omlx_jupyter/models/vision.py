"""Pictures through a checkpoint's own processor, one by one, off the engine thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from ..errors import ModelError
from .prepared import VisionInput

# What a processor returns beside the picture's own arrays.
_TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "position_ids")
_KEEP = 32  # processed pictures remembered, so that a follow-up doesn't preprocess again


class VisionProcessor:
    """Runs a checkpoint's processor on single pictures and remembers the last few."""

    def __init__(self, processor: Any, placeholder: str, image_token_id: int | None) -> None:
        self._processor = processor
        self._placeholder = placeholder
        self._image_token_id = image_token_id
        self._known: OrderedDict[str, VisionInput] = OrderedDict()
        self._lock = threading.Lock()

    def process(self, image: Any) -> VisionInput:
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
            self._known[image.digest] = made
            while len(self._known) > _KEEP:
                self._known.popitem(last=False)
        return made

    def _run(self, image: Any) -> VisionInput:
        try:
            output = dict(self._processor(text=[self._placeholder], images=[image.pil()]))
        except Exception as error:
            raise ModelError(
                f"the model's processor can't take this {image.width} x {image.height} picture ({error})."
            ) from error
        tokens = tuple(int(t) for t in np.asarray(output["input_ids"]).reshape(-1))
        arrays = {
            key: np.asarray(value) for key, value in output.items() if key not in _TEXT_KEYS and value is not None
        }
        if "pixel_values" not in arrays:
            raise ModelError("the model's processor dropped the picture; its processor files don't fit its model.")
        if self._image_token_id is not None and self._image_token_id not in tokens:
            raise ModelError("the model's processor made no picture tokens; its processor files don't fit its model.")
        return VisionInput(image.digest, tokens, arrays, image.width, image.height)
