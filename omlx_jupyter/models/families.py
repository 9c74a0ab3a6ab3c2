"""What is known of each model family, as plain values. Sources: the families' published configs and
mlx-vlm's model folders; the OCR prompts are those their authors publish."""

from __future__ import annotations

from dataclasses import dataclass

from ..types import SamplingParams

OCR_STOPS = ("<|user|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|endofassistant|>")


@dataclass(frozen=True)
class OcrProfile:
    """Defaults of a model that reads text. Used only where the user set nothing."""

    prompt: str
    sampling: SamplingParams


@dataclass(frozen=True)
class Family:
    """How a family is driven.

    `placeholder` is the text that stands for one picture in a rendered chat template, `mrope` says
    that positions have `axes` and are passed explicitly, `tower` names how its vision tower is
    called, `batchable` that rows of different requests may share a decode step (else the family's own
    code runs each request alone, whole: see models/whole.py). `plain` families have
    no chat template: pictures, each with `after_picture` behind it, and text, after the token `bos`.
    """

    placeholder: str | None = None
    mrope: bool = False
    axes: int = 3
    tower: str = "grid"
    batchable: bool = True
    plain: bool = False
    bos: int | None = None
    after_picture: str = "\n"


_DEEPSEEK_OCR = Family("<image>", tower="span", plain=True, bos=0)
FAMILIES: dict[str, Family] = {
    "deepseekocr": _DEEPSEEK_OCR,
    "deepseekocr_2": _DEEPSEEK_OCR,
    "dots_ocr": Family("<|imgpad|>"),
    "glm4v": Family("<|image|>", mrope=True),
    "glm4v_moe": Family("<|image|>", mrope=True),
    "glm_ocr": Family("<|image|>", mrope=True),
    "pixtral": Family("[IMG]", tower="pixtral"),
    "qwen2_vl": Family("<|image_pad|>", mrope=True),
    "qwen2_5_vl": Family("<|image_pad|>", mrope=True),
    "qwen3_5": Family("<|image_pad|>", mrope=True, tower="qwen3"),
    "qwen3_5_moe": Family("<|image_pad|>", mrope=True, tower="qwen3"),
}
FAMILIES["unlimited_ocr"] = Family("<image>", batchable=False, plain=True, after_picture="")
GENERIC = Family(batchable=False)
TEXT_ONLY = Family()


def _ocr(prompt: str, max_tokens: int, repetition_penalty: float | None = None) -> OcrProfile:
    sampling = SamplingParams(
        temperature=0, max_tokens=max_tokens, repetition_penalty=repetition_penalty, stop=OCR_STOPS
    )
    return OcrProfile(prompt, sampling)


OCR_PROFILES: dict[str, OcrProfile] = {
    "deepseekocr": _ocr("Convert the document to markdown.", 8192),
    "deepseekocr_2": _ocr("Convert the document to markdown.", 8192),
    "dots_ocr": _ocr("Convert this page to clean Markdown while preserving reading order.", 8192),
    "glm_ocr": _ocr("Text Recognition:", 4096, 1.1),
    "unlimited_ocr": _ocr("document parsing.", 8192),
}
_SPELLINGS = {"unlimited-ocr": "unlimited_ocr", "deepseek_ocr": "deepseekocr", "deepseek_ocr_2": "deepseekocr_2"}


def canonical(model_type: str) -> str:
    lowered = model_type.lower()
    return _SPELLINGS.get(lowered, lowered)


def family_of(model_type: str) -> Family:
    return FAMILIES.get(canonical(model_type), GENERIC)


def ocr_profile_of(model_type: str) -> OcrProfile | None:
    return OCR_PROFILES.get(canonical(model_type))
