"""A loaded checkpoint: what the engine asks of a model, whatever its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import mlx.core as mx
import numpy as np

from ..errors import ModelError, RequestError
from ..types import ImagePart, Message, SamplingParams
from . import kv_state, memory, towers
from .attention import hook
from .detect import Checkpoint
from .families import Family, OcrProfile
from .positions import Positions, mrope_positions
from .prepared import Prepared, VisionInput, assemble
from .remembered import Remembered, rows_from_json, rows_to_json
from .row_proof import RowProof, noise_of, prove
from .switches import PLAIN, TemplateUse
from .tokenizer import ChatTokenizer, require_template_pictures
from .tools import ToolParser
from .vision import VisionProcessor
from .weights import weights_of
from .whole import WholeProcessor

if TYPE_CHECKING:
    from .drafter import Drafter
    from .shapes import LanguageModel, Layer, Picture, VisionModel


class PreparesWhole(Protocol):
    """A processor that takes messages and pictures at once."""

    def prepare(
        self, messages: Sequence[Message], images: Sequence[Picture], use: TemplateUse, notes: tuple[str, ...]
    ) -> Prepared: ...


@dataclass
class LoadedModel:
    """Model, processor and what is known of them.

    `prepare` may be called from any thread; every other method runs on the engine thread only.
    """

    name: str
    checkpoint: Checkpoint
    model: VisionModel
    language_model: LanguageModel
    tokenizer: ChatTokenizer
    vision: VisionProcessor | WholeProcessor | PreparesWhole | None
    family: Family
    ocr: OcrProfile | None
    defaults: SamplingParams
    end_tokens: frozenset[int]
    warnings: tuple[str, ...] = ()
    alone_because: str = ""  # why its requests run one at a time, where they do
    drafter: Drafter | None = None  # a small model that drafts for it
    drafter_why: str = ""  # why there is none, where one was named
    unproved: Any = None  # the Proof that is still to be made, where there was no time for it
    whole_because: str = ""  # why a prompt goes through the family's code at once, uncached, where it does
    both_ways: bool = False  # a picture's tokens see one another: no chunk may end inside it

    @property
    def dtype(self) -> str:
        """The dtype that KV is kept in: the weights'."""
        weights = weights_of(self.language_model)
        floating = [str(w.dtype).removeprefix("mlx.core.") for w in weights if mx.issubdtype(w.dtype, mx.floating)]
        return max(set(floating), key=floating.count) if floating else "float32"

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in weights_of(self.model))

    @cached_property
    def parameters(self) -> int:
        """About how many weights the language model has; packed ones (quantised) count as eight."""
        return sum(w.size * (8 if w.dtype == mx.uint32 else 1) for w in weights_of(self.language_model))

    @cached_property
    def rows(self) -> RowProof | None:
        """What is shown of its rows, once; None where its layers keep more than plain KV, or it runs alone."""
        later = self.unproved is not None and self.vision is None
        if later or not (self.family.batchable and kv_state.is_plain(self.new_cache())):
            return None
        known = rows_from_json(self.remembered.get("rows"))
        if known is None:
            known = prove(self)
            self.remembered.put("rows", rows_to_json(known))
        elif known.grouping.handles:
            hook(self.language_model)
        return known

    @cached_property
    def noise(self) -> float:
        """What logits may differ by and mean the same."""
        return noise_of(self)

    @cached_property
    def remembered(self) -> Remembered:
        """What was shown of this checkpoint before, here."""
        return Remembered(self)

    @cached_property
    def context(self) -> int:
        """Tokens that prompt and answer may have together; 0 where the checkpoint doesn't say."""
        return memory.context_length(self.checkpoint.config)

    @cached_property
    def tool_parser(self) -> ToolParser:
        return ToolParser(self.tokenizer)

    # -- any thread -------------------------------------------------------------------------

    def prepare(
        self,
        messages: Sequence[Message],
        images: Sequence[Picture],
        use: TemplateUse = PLAIN,
        notes: tuple[str, ...] = (),
    ) -> Prepared:
        """Render and tokenize; `images` are the decoded pictures of the messages' ImageParts, in order.

        :raises ModelError: pictures for a model that takes none.
        :raises RequestError: the template refuses the messages, or doesn't know a word of `use`.
        """
        count = sum(isinstance(p, ImagePart) for m in messages for p in m.parts)
        if count != len(images):
            raise ValueError(f"{count} picture parts but {len(images)} pictures")
        if images and self.vision is None:
            why = f" ({self.warnings[0]})" if self.warnings else ""
            raise ModelError(f"{self.name} is a text model and can't see pictures{why}; load a vision-language model.")
        if self.vision is not None and not isinstance(self.vision, VisionProcessor):
            return self.vision.prepare(messages, images, use, notes)
        inputs = [self.vision.process(image) for image in images] if self.vision else []
        text, guarded = self.tokenizer.render(messages, use)
        pieces = self.tokenizer.split(text, guarded)
        require_template_pictures(len(pieces), len(inputs))
        if not pieces[-1]:
            raise RequestError(
                "the prompt ends with a picture and this model's template adds nothing; write a question."
            )
        return assemble(pieces, inputs, notes)

    def positions(self, prompt: Prepared) -> Positions | None:
        """Explicit positions of a prompt, or None where the cache's offset says enough."""
        if not self.family.mrope:
            return None
        config = self.checkpoint.config
        merge = int((config.get("vision_config") or {}).get("spatial_merge_size", 2))
        token = self._image_token
        grids, cells = [], []
        for image in prompt.images:
            t, h, w = (int(n) for n in image.arrays["image_grid_thw"].reshape(-1)[:3])
            grids.append((t, h // merge, w // merge))
            cells.append(np.array(image.tokens) == token)
        return mrope_positions(len(prompt.ids), prompt.spans, grids, cells)

    @property
    def _image_token(self) -> int:
        config = self.checkpoint.config
        for key in ("image_token_id", "image_token_index"):
            if config.get(key) is not None:
                return int(config[key])
        found = self.tokenizer.token_id(self.family.placeholder or "")
        if found is None:
            raise ModelError(f"{self.name} names no picture token; its config.json needs image_token_id.")
        return found

    # -- the engine thread ------------------------------------------------------------------

    def encode_image(self, image: VisionInput) -> mx.array:
        """Vision features of one picture, (cells, hidden), evaluated."""
        features = towers.encode(self.model, self.family.tower, image)
        mx.eval(features)
        return features

    def embed(self, prompt: Prepared, features: list[mx.array]) -> mx.array | None:
        """(1, N, hidden) embeddings of a prompt with its pictures' features in place; None for text models."""
        if self.vision is None:
            return None
        ids = mx.array([prompt.ids])
        if not prompt.images:
            return self.model.get_input_embeddings(ids, None).inputs_embeds
        if self.family.tower == "span":
            text = self.model.get_input_embeddings(ids, None).inputs_embeds
            return towers.place_spans(text, prompt.spans, features)
        extra = {}
        if "image_grid_thw" in prompt.images[0].arrays:
            grids = [i.arrays["image_grid_thw"].reshape(-1, 3) for i in prompt.images]
            extra["image_grid_thw"] = mx.array(np.concatenate(grids))
        # Only whether there are pixels matters here: the features are given.
        pixels = mx.array(prompt.images[0].arrays["pixel_values"])
        return self.model.get_input_embeddings(
            ids, pixels, cached_image_features=mx.concatenate(features), **extra
        ).inputs_embeds

    def new_cache(self) -> list[Layer]:
        return kv_state.new_row_cache(self.language_model)

    def forward(
        self, ids: mx.array, caches: list[Layer], embeds: mx.array | None = None, positions: mx.array | None = None
    ) -> mx.array:
        """Logits (B, L, V) of ids (B, L); `positions` is (3, B, L) where the family has M-RoPE."""
        extra: dict[str, Any] = {}
        if embeds is not None:
            extra["inputs_embeds"] = embeds
        if positions is not None:
            extra["position_ids"] = positions
        output = self.language_model(ids, cache=caches, **extra)
        logits: mx.array = getattr(output, "logits", output)  # mlx-lm's models return the logits themselves
        return logits
