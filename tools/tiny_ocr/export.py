"""Training checkpoint -> the files of an ordinary `glm_ocr` checkpoint.

In float32: at this size it fits, and half precision is slow on CPUs without a fast kernel for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from omlx_jupyter.reading.recipe import Recipe

from .config import CELL, END, MERGE, PATCH, SPECIAL_TOKENS, TOKENIZER, VOCAB_SIZE, ModelSizes, token_id

TEMPLATE = """\
{%- for message in messages -%}
{{ '<|' + ('observation' if message.role == 'tool' else message.role) + '|>' }}
{%- if message.content is string -%}{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') -%}{{ '<|begin_of_image|><|image|><|end_of_image|>' }}
{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}
"""
LUMA = torch.tensor([0.299, 0.587, 0.114])  # how Pillow makes grey: what training saw
MAX_PIXELS = 1024 * CELL * CELL  # 1,024 picture tokens


def export_tensors(net: dict[str, Tensor], sizes: ModelSizes) -> dict[str, Tensor]:
    """GLM-OCR's names; grey patches become the colour, two-frame convolution that means the same."""
    made: dict[str, Tensor] = {}
    for name, value in net.items():
        if name.startswith("aid_"):
            continue
        if name == "visual.patch.weight":
            frames = torch.tensor([0.5, 0.5])
            colour = value.view(-1, 1, 1, PATCH, PATCH) * LUMA.view(1, 3, 1, 1, 1) * frames.view(1, 1, 2, 1, 1)
            name, value = "visual.patch_embed.proj.weight", colour
        elif name == "visual.patch.bias":
            name = "visual.patch_embed.proj.bias"
        elif name == "visual.downsample.weight":
            value = value.view(sizes.hidden, MERGE, MERGE, sizes.vision_hidden).permute(0, 3, 1, 2)
        if name.startswith("visual."):
            name = f"model.{name}"
        elif not name.startswith("lm_head"):
            name = f"model.language_model.{name}"
        made[name] = value.to(torch.float32).contiguous()
    return made


def import_tensors(folder: Path, sizes: ModelSizes) -> dict[str, Tensor]:
    """The inverse of `export_tensors`: a folder's weights under the trainer's names, without the training aids."""
    made: dict[str, Tensor] = {}
    for name, value in load_file(folder / "model.safetensors").items():
        name = name.removeprefix("model.").removeprefix("language_model.")
        if name == "visual.patch_embed.proj.weight":
            name, value = "visual.patch.weight", value.sum((1, 2)).view(sizes.vision_hidden, -1)
        elif name == "visual.patch_embed.proj.bias":
            name = "visual.patch.bias"
        elif name == "visual.downsample.weight":
            value = value.permute(0, 2, 3, 1).reshape(sizes.hidden, -1)
        made[name] = value.contiguous()
    return made


def _config(sizes: ModelSizes) -> dict[str, Any]:
    ends = [END, token_id("<|user|>")]
    return {
        "model_type": "glm_ocr",
        "architectures": ["GlmOcrForConditionalGeneration"],
        "dtype": "float32",
        "tie_word_embeddings": False,
        "vocab_size": VOCAB_SIZE,
        "hidden_size": sizes.hidden,
        "image_token_id": token_id("<|image|>"),
        "image_start_token_id": token_id("<|begin_of_image|>"),
        "image_end_token_id": token_id("<|end_of_image|>"),
        "video_token_id": token_id("<|video|>"),
        "video_start_token_id": token_id("<|begin_of_video|>"),
        "video_end_token_id": token_id("<|end_of_video|>"),
        "pad_token_id": END,
        "eos_token_id": ends,
        "text_config": _text_config(sizes, ends),
        "vision_config": _vision_config(sizes),
    }


def _text_config(sizes: ModelSizes, ends: list[int]) -> dict[str, Any]:
    return {
        "model_type": "glm_ocr_text",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "head_dim": sizes.head_dim,
        "num_hidden_layers": sizes.layers,
        "num_nextn_predict_layers": 0,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "eos_token_id": ends,
        "pad_token_id": END,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": list(sizes.mrope_section),
            "partial_rotary_factor": 1.0,
            "rope_theta": sizes.rope_theta,
        },
    }


def _vision_config(sizes: ModelSizes) -> dict[str, Any]:
    return {
        "model_type": "glm_ocr_vision",
        "depth": sizes.vision_depth,
        "hidden_size": sizes.vision_hidden,
        "intermediate_size": sizes.vision_intermediate,
        "num_heads": sizes.vision_heads,
        "patch_size": PATCH,
        "image_size": 256,
        "out_hidden_size": sizes.hidden,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "attention_bias": True,
    }


def export(checkpoint: Path, folder: Path, sizes: ModelSizes | None = None) -> None:
    """Write `folder` from a training checkpoint. mlx-vlm and transformers both load it as it is."""
    sizes = sizes or ModelSizes()
    folder.mkdir(parents=True, exist_ok=True)
    saved = torch.load(checkpoint, map_location="cpu")
    save_file(
        export_tensors(saved.get("average") or saved["net"], sizes),
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    TOKENIZER.save(str(folder / "tokenizer.json"))

    def write(name: str, value: object) -> None:
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    write("config.json", _config(sizes))
    write(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": list(SPECIAL_TOKENS),
            "model_max_length": 8192,
            "processor_class": "GlmOcrProcessor",
            "clean_up_tokenization_spaces": False,
        },
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    write(
        "preprocessor_config.json",
        {
            "image_processor_type": "Glm46VImageProcessor",
            "processor_class": "GlmOcrProcessor",
            "patch_size": PATCH,
            "merge_size": MERGE,
            "temporal_patch_size": 2,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "size": {"shortest_edge": 2 * CELL * CELL, "longest_edge": 2 * MAX_PIXELS},
        },
    )
    write("reading.json", asdict(Recipe()))
    # No repetition penalty: with one token a byte it would punish ordinary spelling.
    ends = [END, token_id("<|user|>")]
    write(
        "generation_config.json",
        {"eos_token_id": ends, "pad_token_id": END, "do_sample": False, "repetition_penalty": 1.0},
    )
