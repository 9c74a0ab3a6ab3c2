"""One maker per family: `make("qwen2_vl", folder)` writes a checkpoint of a few MB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .common import WORDS, byte_tokenizer, default_scale, write_json, write_weights

VOCABULARY = 320

CHATML = """\
{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content -%}
{%- if p.type == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else -%}{{ p.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
GLM = """\
{{- '[gMASK]<sop>' -}}
{%- for m in messages -%}
{{ '<|' + ('observation' if m.role == 'tool' else m.role) + '|>\\n' }}
{%- if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content -%}
{%- if p.type == 'image' -%}{{ '<|begin_of_image|><|image|><|end_of_image|>' }}{%- else -%}{{ p.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}
"""
QWEN_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
GLM_TOKENS = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|video|>",
]


def _ids(tokens: list[str]) -> dict[str, int]:
    return {token: WORDS + index for index, token in enumerate(tokens)}


def _write(
    folder: Path,
    package: str,
    config: dict[str, Any],
    tokens: list[str],
    template: str,
    preprocessor: dict[str, Any],
    eos: str,
    scale: Callable[[str], float] = default_scale,
    seed: int = 0,
    processor_class: str | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    byte_tokenizer(tokens, config.get("vocab_size", VOCABULARY)).save(str(folder / "tokenizer.json"))
    write_json(folder, "config.json", config)
    write_json(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": eos,
            "pad_token": "<|endoftext|>",
            "model_max_length": 65536,
            "clean_up_tokenization_spaces": False,
            **({"processor_class": processor_class} if processor_class else {}),
        },
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_json(folder, "preprocessor_config.json", preprocessor)
    write_weights(folder, package, config, scale, seed)


def _qwen_preprocessor(patch: int) -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": patch,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "min_pixels": (2 * patch) ** 2,
        "max_pixels": (2 * patch) ** 2 * 64,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }


def qwen2_vl(folder: Path, seed: int = 0) -> None:
    ids = _ids(QWEN_TOKENS)
    text = {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": False,
    }
    config = {
        "model_type": "qwen2_vl",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "eos_token_id": ids["<|im_end|>"],
        **text,
        "vision_config": {
            "model_type": "qwen2_vl",
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "mlp_ratio": 2,
            "spatial_patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
    _write(folder, "qwen2_vl", config, QWEN_TOKENS, CHATML, _qwen_preprocessor(14), "<|im_end|>", seed=seed)


FAMILIES: dict[str, Callable[..., None]] = {"qwen2_vl": qwen2_vl}


def make(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint of `family` into `folder`; the same seed gives the same weights."""
    FAMILIES[family](folder, seed=seed)
    return folder
