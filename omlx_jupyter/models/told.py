"""Families whose embedding wants the grids of a prompt's pictures even for its text, and alone knows its positions
(MiniCPM-V 4.7: a canvas on which a picture's slices lie).

It is asked with zeros in place of features, so that nothing is encoded for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from .places import NotFound
from .positions import Positions
from .prepared import Prepared, VisionInput

if TYPE_CHECKING:
    from .shapes import VisionModel

_GRIDS = "tgt_sizes"


def wanted(images: Sequence[VisionInput]) -> bool:
    """Whether pictures bring grids of this kind."""
    return any(_GRIDS in image.arrays for image in images)


def of_prompt(model: VisionModel, prompt: Prepared) -> tuple[mx.array, Positions]:
    """(1, N, hidden) rows, those at pictures without meaning, and the prompt's positions.

    :raises NotFound: the embedding tells no positions.
    """
    grids = np.concatenate([np.asarray(grid).reshape(-1, 2) for i in prompt.images for grid in i.arrays[_GRIDS]])
    ids = mx.array([prompt.ids])
    count = sum(token == model.config.image_token_id for token in prompt.ids)
    rest: dict[str, Any] = {name: value for name, value in prompt.images[0].arrays.items() if name == "downsample_mode"}
    zeros = mx.zeros((count, model.config.text_config.hidden_size))
    named = {_GRIDS: [grids], "cached_image_features": [zeros], "mask": mx.ones(ids.shape, mx.int32), **rest}
    found = model.get_input_embeddings(ids, None, **named).to_dict()
    places, delta = found.get("position_ids"), found.get("rope_deltas")
    if places is None or delta is None:
        raise NotFound("its embedding tells no positions")
    return found["inputs_embeds"], Positions(np.array(places)[:, 0], int(np.array(delta).reshape(-1)[0]))
