"""Checkpoints of mixture-of-experts variants, and of families that the engine runs alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import deepseek
from .common import WORDS, default_scale, write_json
from .families import (
    CHATML,
    GLM,
    GLM_TOKENS,
    QWEN_TOKENS,
    VOCABULARY,
    glm4v_vision,
    glm_ids,
    glm_preprocessor,
    qwen3_vision,
    qwen_ids,
    qwen_preprocessor,
    token_ids,
    write,
)

GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
GEMMA_TOKENS += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
GEMMA = """\
{%- for m in messages -%}
{{ '<start_of_turn>' + m.role + '\\n' }}
{%- if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content -%}
{%- if p.type == 'image' -%}{{ '<start_of_image>' }}{%- else -%}{{ p.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""


def qwen3_5_moe(folder: Path, seed: int = 0) -> None:
    text = {
        "model_type": "qwen3_5_moe_text",
        "hidden_size": 64,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "shared_expert_intermediate_size": 64,
        "moe_intermediate_size": 64,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
        "full_attention_interval": 2,
        "rope_parameters": {
            "type": "default",
            "mrope_section": [2, 1, 1],
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
        },
    }
    vision = qwen3_vision("qwen3_5_moe", [])
    config = {"model_type": "qwen3_5_moe", **qwen_ids(), "vocab_size": VOCABULARY}
    config |= {"text_config": text, "vision_config": vision}
    write(folder, "qwen3_5_moe", config, QWEN_TOKENS, CHATML, qwen_preprocessor(14), "<|im_end|>", seed)


def glm4v_moe(folder: Path, seed: int = 0) -> None:
    ids = glm_ids()
    text = {
        "model_type": "glm4v_moe_text",
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 8192,
        "moe_intermediate_size": 64,
        "norm_topk_prob": True,
        "num_attention_heads": 4,
        "n_group": 1,
        "head_dim": 16,
        "topk_group": 1,
        "n_shared_experts": 1,
        "n_routed_experts": 4,
        "routed_scaling_factor": 1.0,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "use_qk_norm": False,
        "attention_bias": True,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]},
        "tie_word_embeddings": False,
    }
    config = {"model_type": "glm4v_moe", "vocab_size": VOCABULARY, "hidden_size": 64, **ids}
    config |= {"image_token_index": ids["image_token_id"], "video_token_index": ids["video_token_id"]}
    config |= {"text_config": text, "vision_config": glm4v_vision("glm4v_moe")}
    write(folder, "glm4v_moe", config, GLM_TOKENS, GLM, glm_preprocessor(), "<|endoftext|>", seed)


def qwen3_vl(folder: Path, seed: int = 0) -> None:
    """Deep-stack features: pictures enter several layers of the language model."""
    text = {
        "model_type": "qwen3_vl_text",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "rope_scaling": {"type": "default", "mrope_section": [4, 2, 2]},
    }
    config = {"model_type": "qwen3_vl", **qwen_ids(), "vocab_size": VOCABULARY, "text_config": text}
    config["vision_config"] = qwen3_vision("qwen3_vl", [0])
    write(folder, "qwen3_vl", config, QWEN_TOKENS, CHATML, qwen_preprocessor(14), "<|im_end|>", seed)


def gemma3(folder: Path, seed: int = 0) -> None:
    """A 4-D mask (pictures see themselves whole) and sliding windows."""
    ids = token_ids(GEMMA_TOKENS)
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "vocab_size": VOCABULARY,
        "sliding_window": 64,
        "sliding_window_pattern": 2,
        "mm_tokens_per_image": 16,
        "max_position_embeddings": 8192,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "patch_size": 14,
        "image_size": 112,
    }
    config = {
        "model_type": "gemma3",
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "image_token_index": ids["<image_soft_token>"],
        "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
        "pad_token_id": ids["<pad>"],
        "text_config": text,
        "vision_config": vision,
    }
    preprocessor = {
        "image_processor_type": "Gemma3ImageProcessor",
        "size": {"height": 112, "width": 112},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    extra = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "bos_token": "<bos>",
        "pad_token": "<pad>",
    }
    write(folder, "gemma3", config, GEMMA_TOKENS, GEMMA, preprocessor, "<eos>", seed, scale=_quiet, **extra)
    write_json(folder, "processor_config.json", {"image_seq_length": 16, "processor_class": "Gemma3Processor"})


def _quiet(name: str) -> float:
    """Gemma's embeddings are tied and grow by sqrt(hidden): at full size a token only repeats itself."""
    return 0.03 if "embed_tokens" in name else 4.0 if "mm_input" in name else default_scale(name)


def unlimited_ocr(folder: Path, seed: int = 0) -> None:
    """DeepSeek-OCR's encoder, and a ring of the last written tokens beside the whole prompt."""
    deepseek.shrink()
    ids = token_ids(deepseek.TOKENS)
    config = deepseek.config("deepseekocr", VOCABULARY, ids) | {"model_type": "unlimited-ocr"}
    config["text_config"] |= {"sliding_window_size": 8, "sliding_window": 8}
    write(folder, "unlimited_ocr", config, deepseek.TOKENS, "", deepseek.PROCESSOR, "<eos>", seed, pad_token="<pad>")
    write_json(folder, "processor_config.json", deepseek.PROCESSOR)


MOE: dict[str, Callable[..., None]] = {"glm4v_moe": glm4v_moe, "qwen3_5_moe": qwen3_5_moe}
# Nothing is listed of these: they share the batch and the cache because the proof at load has shown that they may.
SHOWN: dict[str, Callable[..., None]] = {"gemma3": gemma3, "qwen3_vl": qwen3_vl}
ALONE: dict[str, Callable[..., None]] = {"unlimited_ocr": unlimited_ocr}
assert WORDS + len(GEMMA_TOKENS) <= VOCABULARY
