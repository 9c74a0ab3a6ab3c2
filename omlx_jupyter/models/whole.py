"""Any other mlx-vlm family: the whole prompt through its own processor and one forward pass.

What `get_input_embeddings` returns beside embeddings (4-D masks, deep-stack features, cross-attention
states) goes to the language model as it came. Nothing is cut into chunks, shared or stored, and
requests run one at a time: slow, but what the family's own code computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from jinja2 import TemplateError
from mlx.utils import tree_map

from ..errors import ModelError, RequestError
from ..types import ImagePart, Message
from .prepared import Prepared, VisionInput
from .samples import pictures
from .switches import PLAIN, TemplateUse
from .templates import check_output, limits, render_plain
from .tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .shapes import ImageProcessor, Layer, ModelConfig, Picture, Processor, VisionModel

_JOINER = "\u2060"  # put into user text that spells a special token, so that it stays text


class _WithoutPadding:
    """An image processor that refuses `padding`, which mlx-vlm's LLaVA hands on to it with transformers 5."""

    def __init__(self, inner: ImageProcessor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, images: object, **settings: object) -> Mapping[str, Any]:
        settings.pop("padding", None)
        return self._inner(images, **settings)


def mended(processor: Processor) -> Processor:
    """`processor`, changed in place where its parts don't fit one another."""
    inner = getattr(processor, "image_processor", None)
    if type(processor).__name__ == "LlavaProcessor" and callable(inner):
        try:
            inner(pictures()[0].pil(), padding=True)
        except TypeError:
            processor.image_processor = _WithoutPadding(inner)
    return processor


class WholeProcessor:
    """Renders messages and runs a checkpoint's processor over text and pictures at once. Any thread."""

    def __init__(self, processor: Processor, tokenizer: ChatTokenizer, config: ModelConfig) -> None:
        self._processor, self._tokenizer = processor, tokenizer
        self._config, self._model_type = config, str(config.model_type)

    def prepare(
        self, messages: Sequence[Message], images: Sequence[Picture], use: TemplateUse, notes: tuple[str, ...]
    ) -> Prepared:
        """`images` are decoded pictures. The result's `inputs` hold the processor's arrays, as numpy.

        :raises RequestError: the template refuses the messages.
        :raises ModelError: the processor can't take them.
        """
        from mlx_vlm.utils import prepare_inputs, should_add_special_tokens

        text = self.render(messages, use)
        try:
            made = prepare_inputs(
                self._processor,
                images=[image.pil() for image in images] or None,
                prompts=text,
                image_token_index=getattr(self._config, "image_token_index", None),
                add_special_tokens=should_add_special_tokens(self._model_type, self._processor),
            )
        except Exception as error:
            raise ModelError(f"the model's processor can't take this prompt ({error}).") from error
        inputs = tree_map(_portable, dict(made))
        if images and inputs.get("pixel_values") is None:
            raise ModelError("the model's processor dropped the picture; its processor files don't fit its model.")
        ids = [int(token) for token in np.asarray(inputs["input_ids"]).reshape(-1)]
        seen = [VisionInput(image.digest, (), {}, image.width, image.height) for image in images]
        return Prepared(ids, seen, [], notes, inputs)

    def render(self, messages: Sequence[Message], use: TemplateUse = PLAIN) -> str:
        """The prompt's text, by the checkpoint's template; where that leaves pictures out, by mlx-vlm's formats."""
        text, guarded = self._tokenizer.render(messages, use)
        if self._tokenizer.placeholder is None and any(_count(m) for m in messages):
            bare = [Message(m.role, [p for p in m.parts if not isinstance(p, ImagePart)]) for m in messages]
            unseen = not self._tokenizer.has_template or self._tokenizer.render(bare, use)[0] == text
            if unseen or _as_python(text, messages):
                text, guarded = self._formatted(messages, use)
        return self._tokenizer.unguard(text, guarded, _JOINER)

    def _formatted(self, messages: Sequence[Message], use: TemplateUse) -> tuple[str, list[str]]:
        from mlx_vlm.prompt_utils import get_chat_template, get_message_json

        def form(text: str, message: Message) -> Any:
            return get_message_json(self._model_type, text, message.role, num_images=_count(message))

        def join(formed: list[Any]) -> str:
            if any(isinstance(f, str) for f in formed):
                return "\n".join(map(str, formed))
            template = _unsandboxed(self._processor)
            if template is not None:
                return render_plain(template, formed)
            return str(get_chat_template(self._processor, formed, add_generation_prompt=True))

        size = sum(len(str(part)) for m in messages for part in m.parts if not isinstance(part, ImagePart))
        try:
            with limits(size):
                text, guarded = self._tokenizer.render_formatted(messages, form, join, use)
            return check_output(text, size), guarded
        except (ValueError, TemplateError) as error:
            raise RequestError(f"the model's chat template refuses these messages ({error}).") from error


def _unsandboxed(processor: object) -> str | None:
    """The template of a processor whose own renderer is jinja without its sandbox, as some of mlx-vlm's have it."""
    code = getattr(type(processor).__dict__.get("apply_chat_template"), "__code__", None)
    if code is None or "jinja2" not in code.co_names:
        return None
    owners = (processor, getattr(processor, "tokenizer", None))
    return next((t for t in (getattr(o, "chat_template", None) for o in owners) if isinstance(t, str) and t), None)


def _as_python(text: str, messages: Sequence[Message]) -> bool:
    """Whether a template for strings has written a message's parts as Python does."""
    part = str({"type": "image"})
    said = sum(p.count(part) for m in messages for p in m.parts if isinstance(p, str))
    return text.count(part) > said


def _count(message: Message) -> int:
    return sum(isinstance(part, ImagePart) for part in message.parts)


def _portable(value: object) -> Any:
    """numpy crosses threads; a lazy mx.array made on a worker thread doesn't."""
    if not isinstance(value, mx.array):
        return value
    if value.dtype == mx.bfloat16:
        return {"bfloat16": np.asarray(value.view(mx.uint16))}
    return np.asarray(value)


def _restored(value: object) -> Any:
    if isinstance(value, dict) and set(value) == {"bfloat16"}:
        return mx.array(value["bfloat16"]).view(mx.bfloat16)
    return mx.array(value) if isinstance(value, np.ndarray) else value


def restored(inputs: dict[str, Any]) -> dict[str, Any]:
    """A processor's arrays for MLX, on the engine thread."""
    return dict(tree_map(_restored, inputs, is_leaf=lambda v: isinstance(v, dict) and "bfloat16" in v))


def why_not(model: VisionModel) -> str:
    """Why the engine can't drive a model, or an empty string."""
    from mlx_vlm.generate.diffusion import is_diffusion_model

    if not hasattr(model, "get_input_embeddings") or not hasattr(model, "language_model"):
        return "has no language model that takes embeddings"
    return "writes by diffusion" if is_diffusion_model(model) else ""


def prefill(model: VisionModel, prompt: Prepared, caches: Sequence[Layer]) -> tuple[mx.array, dict[str, Any]]:
    """Logits (1, vocabulary) after the prompt, and what every decode step must be given."""
    assert prompt.inputs is not None
    language_model = model.language_model
    for name in ("_position_ids", "_rope_deltas"):  # what the last request left on the model
        if hasattr(language_model, name):
            setattr(language_model, name, None)
    inputs = restored(prompt.inputs)
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask", None)
    pixels = inputs.pop("pixel_values", None)
    found = model.get_input_embeddings(ids, pixels, mask=mask, **inputs)
    inputs.update({k: v for k, v in found.to_dict().items() if k != "inputs_embeds" and v is not None})
    if "decoder_input_ids" in inputs:
        raise ModelError("this model is an encoder with a decoder, which the engine can't drive.")
    output = language_model(ids, inputs_embeds=found.inputs_embeds, cache=caches, logits_to_keep=1, **inputs)
    mx.eval(output.logits[:, -1])
    return output.logits[:, -1], _carried(output)


def delta_of(model: VisionModel) -> int:
    """How far the positions behind the prompt that just ran are ahead of its tokens, where the family keeps that."""
    for owner in (model.language_model, model):
        for name in ("_rope_deltas", "rope_deltas"):
            found = getattr(owner, name, None)
            if found is not None:
                return int(np.array(found).reshape(-1)[0])
    return 0


def decode(
    model: VisionModel, tokens: mx.array, caches: Sequence[Layer], carried: dict[str, Any]
) -> tuple[mx.array, dict[str, Any]]:
    """Logits (1, vocabulary) after one more token; `tokens` is (1,)."""
    output = model.language_model(tokens[:, None], cache=caches, logits_to_keep=1, **carried)
    return output.logits[:, -1], _carried(output)


def _carried(output: object) -> dict[str, Any]:
    for name in ("cross_attention_states", "encoder_outputs"):
        if getattr(output, name, None) is not None:
            return {name: getattr(output, name)}
    return {}
