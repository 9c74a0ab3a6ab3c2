"""One maker per family: `make("qwen2_vl", folder)` writes a checkpoint of a few MB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import deepseek
from .common import WORDS, byte_tokenizer, default_scale, write_json, write_text_weights, write_weights

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


def token_ids(tokens: list[str]) -> dict[str, int]:
    return {token: WORDS + index for index, token in enumerate(tokens)}


def qwen_ids() -> dict[str, int]:
    """The token ids that a Qwen-VL config names."""
    ids = token_ids(QWEN_TOKENS)
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "eos_token_id": ids["<|im_end|>"],
    }


def write(
    folder: Path,
    package: str,
    config: dict[str, Any],
    tokens: list[str],
    template: str,
    preprocessor: dict[str, Any] | None,
    eos: str,
    seed: int,
    fixed: dict[str, int] | None = None,
    scale: Callable[[str], float] = default_scale,
    **tokenizer_config: Any,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = config.get("vocab_size") or config["text_config"]["vocab_size"]
    byte_tokenizer(tokens, vocabulary, fixed).save(str(folder / "tokenizer.json"))
    write_json(folder, "config.json", config)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": eos,
        "pad_token": "<|endoftext|>",
        "model_max_length": 65536,
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder, "tokenizer_config.json", {**settings, **tokenizer_config})
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if preprocessor is None:
        write_text_weights(folder, package, config, scale, seed)
        return
    write_json(folder, "preprocessor_config.json", preprocessor)
    write_weights(folder, package, config, scale, seed)


def qwen_preprocessor(patch: int) -> dict[str, Any]:
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
        **qwen_ids(),
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
    write(folder, "qwen2_vl", config, QWEN_TOKENS, CHATML, qwen_preprocessor(14), "<|im_end|>", seed)


def qwen2_5_vl(folder: Path, seed: int = 0) -> None:
    config = {
        "model_type": "qwen2_5_vl",
        **qwen_ids(),
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
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
    }
    write(folder, "qwen2_5_vl", config, QWEN_TOKENS, CHATML, qwen_preprocessor(14), "<|im_end|>", seed)


def qwen3_vision(model_type: str, deepstack: list[int]) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "out_hidden_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": deepstack,
    }


def qwen3_5(folder: Path, seed: int = 0) -> None:
    config = {
        "model_type": "qwen3_5",
        **qwen_ids(),
        "vocab_size": VOCABULARY,
        "text_config": {
            "model_type": "qwen3_5_text",
            "hidden_size": 64,
            "intermediate_size": 128,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rms_norm_eps": 1e-6,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 8192,
            "full_attention_interval": 2,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "type": "default",
                "mrope_section": [2, 1, 1],
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.25,
            },
        },
        "vision_config": qwen3_vision("qwen3_5", []),
    }
    write(folder, "qwen3_5", config, QWEN_TOKENS, CHATML, qwen_preprocessor(14), "<|im_end|>", seed)


def glm_ids() -> dict[str, Any]:
    ids = token_ids(GLM_TOKENS)
    return {
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "image_start_token_id": ids["<|begin_of_image|>"],
        "image_end_token_id": ids["<|end_of_image|>"],
        "vision_start_token_id": ids["<|begin_of_image|>"],
        "vision_end_token_id": ids["<|end_of_image|>"],
        "eos_token_id": [ids["<|endoftext|>"], ids["<|user|>"]],
    }


def glm_preprocessor() -> dict[str, Any]:
    return {
        "image_processor_type": "Glm46VImageProcessor",
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": 2 * 28 * 28, "longest_edge": 2 * 28 * 28 * 64},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }


def glm4v_vision(model_type: str) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "image_size": 112,
        "out_hidden_size": 64,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def glm4v(folder: Path, seed: int = 0) -> None:
    ids = glm_ids()
    config = {
        "model_type": "glm4v",
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        **ids,
        "image_token_index": ids["image_token_id"],
        "video_token_index": ids["video_token_id"],
        "text_config": {
            "model_type": "glm4v_text",
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "rope_theta": 10000.0,
            "eos_token_id": ids["eos_token_id"],
            "partial_rotary_factor": 0.5,
            "rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        "vision_config": glm4v_vision("glm4v"),
    }
    write(folder, "glm4v", config, GLM_TOKENS, GLM, glm_preprocessor(), "<|endoftext|>", seed)


def glm_ocr(folder: Path, seed: int = 0) -> None:
    ids = glm_ids()
    config = {
        "model_type": "glm_ocr",
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        **ids,
        "text_config": {
            "model_type": "glm_ocr_text",
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_hidden_layers": 3,
            "num_nextn_predict_layers": 0,
            "eos_token_id": ids["eos_token_id"],
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "partial_rotary_factor": 1.0,
                "rope_theta": 10000.0,
            },
        },
        "vision_config": {
            "model_type": "glm_ocr_vision",
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "image_size": 112,
            "out_hidden_size": 64,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "attention_bias": True,
        },
    }
    write(folder, "glm_ocr", config, GLM_TOKENS, GLM, glm_preprocessor(), "<|endoftext|>", seed)


PIXTRAL = """\
{{- '<s>' -}}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}{{ m.content if m.content is string else m.content[0].text }}{{ '</s>' }}
{%- else -%}
{{ '[INST]' }}
{%- if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content -%}{%- if p.type == 'image' -%}{{ '[IMG]' }}{%- else -%}{{ p.text }}{%- endif -%}{%- endfor -%}
{%- endif -%}
{{ '[/INST]' }}
{%- endif -%}
{%- endfor -%}
"""
PIXTRAL_TOKENS = ["<|endoftext|>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]


def pixtral(folder: Path, seed: int = 0) -> None:
    ids = token_ids(PIXTRAL_TOKENS)
    config = {
        "model_type": "pixtral",
        "vocab_size": VOCABULARY,
        "image_token_index": ids["[IMG]"],
        "image_token_id": ids["[IMG]"],
        "eos_token_id": ids["</s>"],
        "vision_feature_layer": -1,
        "text_config": {
            "model_type": "mistral",
            "hidden_size": 64,
            "head_dim": 16,
            "num_hidden_layers": 3,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6,
            "vocab_size": VOCABULARY,
            "rope_theta": 10000.0,
        },
        "vision_config": {
            "model_type": "pixtral",
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "head_dim": 16,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "image_size": 224,
            "patch_size": 14,
        },
    }
    preprocessor = {
        "image_processor_type": "PixtralImageProcessor",
        "patch_size": {"height": 14, "width": 14},
        "size": {"longest_edge": 224},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    write(folder, "pixtral", config, PIXTRAL_TOKENS, PIXTRAL, preprocessor, "</s>", seed)
    write_json(
        folder,
        "processor_config.json",
        {"processor_class": "PixtralProcessor", "patch_size": 14, "image_token": "[IMG]", "spatial_merge_size": 1},
    )


DOTS = """\
{%- for m in messages -%}
{{ '<|' + m.role + '|>' }}
{%- if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content -%}
{%- if p.type == 'image' -%}{{ '<|img|><|imgpad|><|endofimg|>' }}{%- else -%}{{ p.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{{ '<|endof' + m.role + '|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}
"""
DOTS_TOKENS = [
    "<|endoftext|>",
    "<|img|>",
    "<|imgpad|>",
    "<|endofimg|>",
    "<|system|>",
    "<|endofsystem|>",
    "<|user|>",
    "<|endofuser|>",
    "<|assistant|>",
    "<|endofassistant|>",
    "<|video_pad|>",
]


def dots_ocr(folder: Path, seed: int = 0) -> None:
    ids = token_ids(DOTS_TOKENS)
    config = {
        "model_type": "dots_ocr",
        "vocab_size": VOCABULARY,
        "image_token_id": ids["<|imgpad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "eos_token_id": ids["<|endofassistant|>"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "vision_config": {
            "model_type": "dots_vit",
            "embed_dim": 32,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 1,
        },
    }
    preprocessor = {**qwen_preprocessor(14), "temporal_patch_size": 1}
    write(folder, "dots_ocr", config, DOTS_TOKENS, DOTS, preprocessor, "<|endofassistant|>", seed)


def qwen2(folder: Path, seed: int = 0) -> None:
    ids = token_ids(QWEN_TOKENS)
    config = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "eos_token_id": ids["<|im_end|>"],
    }
    write(folder, "qwen2", config, QWEN_TOKENS, CHATML, None, "<|im_end|>", seed)


def gemma3_text(folder: Path, seed: int = 0) -> None:
    """Sliding windows of 24 tokens in two of three layers."""
    ids = token_ids(QWEN_TOKENS)
    config = {
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "num_hidden_layers": 6,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "sliding_window": 24,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 16,
        "rope_theta": 10000.0,
        "rope_local_base_freq": 10000.0,
        "eos_token_id": ids["<|im_end|>"],
    }
    write(folder, "gemma3_text", config, QWEN_TOKENS, CHATML, None, "<|im_end|>", seed)


def llama_sliding(folder: Path, seed: int = 0) -> None:
    """Llama's layout with a sliding window of 20 tokens in every other layer."""
    ids = token_ids(QWEN_TOKENS)
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "sliding_window": 20,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "eos_token_id": ids["<|im_end|>"],
    }
    write(folder, "llama", config, QWEN_TOKENS, CHATML, None, "<|im_end|>", seed)


def _deepseek(model_type: str) -> Callable[..., None]:
    def make_it(folder: Path, seed: int = 0) -> None:
        deepseek.shrink()
        ids = token_ids(deepseek.TOKENS)
        config = deepseek.config(model_type, VOCABULARY, ids)
        write(folder, model_type, config, deepseek.TOKENS, "", deepseek.PROCESSOR, "<eos>", seed, pad_token="<pad>")
        write_json(folder, "processor_config.json", deepseek.PROCESSOR)

    return make_it


VISION: dict[str, Callable[..., None]] = {
    "deepseekocr": _deepseek("deepseekocr"),
    "deepseekocr_2": _deepseek("deepseekocr_2"),
    "dots_ocr": dots_ocr,
    "glm4v": glm4v,
    "glm_ocr": glm_ocr,
    "pixtral": pixtral,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "qwen3_5": qwen3_5,
}
TEXT: dict[str, Callable[..., None]] = {"gemma3_text": gemma3_text, "llama_sliding": llama_sliding, "qwen2": qwen2}


def make(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint of `family` into `folder`; the same seed gives the same weights."""
    from .more import ALONE, MOE, SHOWN
    from .text import MORE_TEXT
    from .wide import UNSTEADY, WIDE

    {**VISION, **TEXT, **MORE_TEXT, **MOE, **SHOWN, **ALONE, **WIDE, **UNSTEADY}[family](folder, seed=seed)
    return folder
