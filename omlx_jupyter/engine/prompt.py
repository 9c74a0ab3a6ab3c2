"""What a caller gives -> messages, and an OCR model's defaults where they apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..images.source import open_images
from ..types import ImagePart, Message, SamplingParams

if TYPE_CHECKING:
    from ..images.limits import Limits
    from ..models.families import OcrProfile
    from ..models.loaded import LoadedModel
    from ..models.prepared import Prepared
    from ..models.switches import TemplateUse

BASE = SamplingParams(temperature=0, max_tokens=1024)


def as_messages(prompt: str | Sequence[Message] | None, images: object, system: str | None) -> list[Message]:
    """A prompt string with pictures (one, or a sequence of them) before it, or messages as they are.

    :raises RequestError: neither text nor pictures.
    """
    if isinstance(images, str | bytes) or not isinstance(images, Sequence):
        images = [images]
    if prompt is not None and not isinstance(prompt, str):
        messages = list(prompt)
        if images:
            raise RequestError("put the pictures into the messages as ImagePart, or give a prompt string.")
    else:
        text = (prompt or "").strip()
        parts: list[Any] = [ImagePart(image) for image in images]
        messages = [Message("user", [*parts, text] if text else parts)]
    if system:
        messages.insert(0, Message("system", [system]))
    if not any(part for m in messages for part in m.parts):
        raise RequestError("the prompt is empty; write a question or give a picture.")
    return messages


_CHARACTERS_PER_TOKEN = 32  # more than any text has over the length of a prompt


def refuse_endless(messages: Sequence[Message], name: str, context: int) -> None:
    """Before a text is tokenized, which takes seconds and gigabytes where it is endless. `context` 0 is unknown.

    :raises RequestError: it can't fit the model's context however it is tokenized.
    """
    characters = sum(len(part) for message in messages for part in message.parts if isinstance(part, str))
    if characters > _CHARACTERS_PER_TOKEN * (context or 2**20):
        takes = f"{name} takes {context:,} tokens" if context else "no model takes as much"
        raise RequestError(f"the prompt has {characters:,} characters, but {takes}; shorten it.")


def lacks_instruction(messages: Sequence[Message]) -> bool:
    """Whether the last user turn has pictures and no words."""
    turns = [m for m in messages if m.role == "user"]
    if not turns:
        return False
    parts = turns[-1].parts
    pictures = [p for p in parts if isinstance(p, ImagePart)]
    return bool(pictures) and not any(str(p).strip() for p in parts if not isinstance(p, ImagePart))


def with_ocr_defaults(
    messages: list[Message], sampling: SamplingParams, defaults: SamplingParams, profile: OcrProfile | None
) -> tuple[list[Message], SamplingParams]:
    """Fill what the user left open: checkpoint defaults, then the OCR profile, then the base."""
    sampling = sampling.with_defaults(defaults)
    if profile is not None and lacks_instruction(messages):
        last = max(i for i, m in enumerate(messages) if m.role == "user")
        turn = messages[last]
        parts = [p for p in turn.parts if isinstance(p, ImagePart)]
        messages = [*messages]
        messages[last] = Message(turn.role, [*parts, profile.prompt], turn.extra)
        sampling = sampling.with_defaults(profile.sampling)
    return messages, sampling.with_defaults(BASE)


def template_use(
    model: LoadedModel,
    sampling: SamplingParams,
    tools: Sequence[object] | None,
    words: Mapping[str, object],
    begin: str,
) -> TemplateUse:
    """What the prompt is rendered with. An answer that `begin`s with given text has no thought before it.

    :raises RequestError: a beginning for an answer that a grammar binds.
    """
    from ..models.switches import TemplateUse

    if begin and (sampling.json_schema is not None or sampling.lark is not None):
        raise RequestError("an answer's beginning and a schema for it exclude each other; leave one out.")
    think = False if begin and model.tokenizer.markers is not None else sampling.think
    return TemplateUse(tools, dict(words), think, begin)


def preparation(
    model: LoadedModel, messages: Sequence[Message], use: TemplateUse, limits: Limits, budget: int
) -> Callable[[], Prepared]:
    """What a worker thread does with messages: open their pictures, shrink those over `budget` pixels, tokenize."""

    def prepare() -> Prepared:
        opened: list[Message] = []
        decoded: list[Any] = []
        for message in messages:
            parts: list[Any] = []
            for part in message.parts:
                if isinstance(part, ImagePart):
                    found = [image.shrunk_to(budget) for image in open_images(part.source, limits)]
                    decoded += found
                    parts += [ImagePart(image) for image in found]
                else:
                    parts.append(part)
            opened.append(Message(message.role, parts, message.extra))
        notes = tuple(image.note for image in decoded if image.note)
        hint = "\n".join(image.text for image in decoded if image.text)
        return replace(model.prepare(opened, decoded, use, notes), hint=hint)

    return prepare
