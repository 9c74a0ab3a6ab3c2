"""What of mlx-vlm's, mlx-lm's and transformers' objects is used here, as types.

These libraries' classes differ by family and have no common base that says so much. What a family may lack is asked for
with `getattr` or `hasattr` where it is used, and isn't here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn
    from PIL import Image


class Picture(Protocol):
    """A decoded picture, as `omlx_jupyter.images` gives it."""

    @property
    def digest(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def pil(self) -> Image.Image: ...


class HasModules(Protocol):
    """Any of MLX's modules."""

    def modules(self) -> list[nn.Module]: ...


class LanguageModel(Protocol):
    """What takes tokens or embeddings. A call gives logits (B, L, V), or an object that has them as `logits`."""

    @property
    def layers(self) -> Sequence[nn.Module]: ...
    @property
    def model(self) -> Any:
        """Its body, as each family has it."""

    def __call__(self, ids: mx.array, *, cache: Sequence[Layer], **more: Any) -> Any: ...
    def get_rope_index(self, ids: mx.array, **more: Any) -> tuple[mx.array, mx.array]:
        """Of families whose positions have several axes."""

    def parameters(self) -> object: ...
    def modules(self) -> list[nn.Module]: ...


class Embedded(Protocol):
    """What a family's embedding returns; `to_dict` has what else the language model is given."""

    @property
    def inputs_embeds(self) -> mx.array: ...
    def to_dict(self) -> dict[str, Any]: ...


class VisionModel(Protocol):
    """A model of mlx-vlm's. `vision_tower` is called as each family has it."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def language_model(self) -> LanguageModel: ...
    @property
    def vision_tower(self) -> Any: ...
    @property
    def vision_feature_layer(self) -> int:
        """Pixtral's: the layer of its tower that its projector takes."""

    @property
    def multi_modal_projector(self) -> Callable[[mx.array], mx.array]: ...
    def get_input_embeddings(self, ids: mx.array, pixels: Any = None, **more: Any) -> Embedded: ...
    def parameters(self) -> object: ...
    def modules(self) -> list[nn.Module]: ...


class ModelConfig(Protocol):
    """mlx-vlm's config of a model."""

    @property
    def model_type(self) -> str: ...
    @property
    def image_token_id(self) -> int: ...
    @property
    def text_config(self) -> TextConfig: ...


class TextConfig(Protocol):
    """What of it is about the language model."""

    @property
    def hidden_size(self) -> int: ...


class DrafterConfig(Protocol):
    """mlx-vlm's config of a DFlash drafter."""

    hidden_size: int
    vocab_size: int
    num_target_layers: int
    target_layer_ids: Sequence[int]
    mask_token_id: int
    block_size: int
    num_key_value_heads: int
    head_dim: int
    num_hidden_layers: int


class DraftModel(Protocol):
    """mlx-vlm's DFlash drafter; `bind` gives one that borrows the target's embedding and final projection."""

    @property
    def config(self) -> DrafterConfig: ...
    def bind(self, target: LanguageModel) -> DraftModel: ...
    def make_cache(self) -> list[Layer]: ...
    def __call__(self, ids: mx.array, hidden: mx.array, cache: Sequence[Layer]) -> mx.array: ...
    def parameters(self) -> object: ...
    def values(self) -> Iterable[object]: ...


class Processor(Protocol):
    """A checkpoint's processor: text and pictures to arrays. What it may lack is asked for before."""

    image_processor: ImageProcessor
    image_token_id: int

    def __call__(self, *, text: Sequence[str], images: Sequence[Image.Image]) -> Mapping[str, Any]: ...


class ImageProcessor(Protocol):
    def __call__(self, images: object, **settings: object) -> Mapping[str, Any]: ...


class Tokenizer(Protocol):
    """transformers', or one that a family brings."""

    def __len__(self) -> int: ...
    def get_vocab(self) -> dict[str, int]: ...
    def encode(self, text: str, *, add_special_tokens: bool = True) -> Sequence[int]: ...
    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str: ...
    def apply_chat_template(self, messages: Sequence[object], **settings: Any) -> object: ...


class Layer(Protocol):
    """One layer's cache, of any kind, as a forward pass gets it. `state` are its arrays, to be evaluated."""

    @property
    def state(self) -> object: ...


class Cache(Layer, Protocol):
    """One layer's plain KV of a row, (1, heads, capacity, width), of which `offset` tokens are there."""

    keys: mx.array
    values: mx.array
    offset: int


class KV(Protocol):
    """The same to be read only: also of a row that was put aside, or that lies in a batch."""

    @property
    def keys(self) -> mx.array: ...
    @property
    def values(self) -> mx.array: ...
    @property
    def offset(self) -> int: ...


class Fetches(Protocol):
    """A layer's cache, as attention uses it."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]: ...
