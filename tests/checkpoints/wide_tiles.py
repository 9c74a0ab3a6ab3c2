"""Checkpoints of further picture families, which nothing is listed of: llava-like ones and those that cut a picture
into tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .common import default_scale, write_json
from .families import CHATML, QWEN_TOKENS, VOCABULARY, qwen3_vision, qwen_ids, qwen_preprocessor, token_ids, write

BASE = ["<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def chat(image: str) -> str:
    """A template with `image` in place of each picture."""
    return f"""\
{{%- for m in messages -%}}
{{{{ '<|' + m.role + '|>' }}}}
{{%- if m.content is string -%}}{{{{ m.content }}}}{{%- else -%}}
{{%- for p in m.content -%}}
{{%- if p.type == 'image' -%}}{{{{ {image!r} }}}}{{%- else -%}}{{{{ p.text }}}}{{%- endif -%}}
{{%- endfor -%}}{{%- endif -%}}
{{{{ '<|end|>' }}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{ '<|assistant|>' }}}}{{%- endif -%}}
"""


def llama(model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        **more,
    }


def tower(model_type: str = "siglip_vision_model", **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "patch_size": 14,
        "image_size": 112,
        **more,
    }


def square(kind: str, side: int = 112, **more: Any) -> dict[str, Any]:
    """Settings of an image processor that makes squares."""
    made = {
        "image_processor_type": kind,
        "size": {"height": side, "width": side},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    return {**made, **more}


def vlm(
    folder: Path,
    package: str,
    config: dict[str, Any],
    special: list[str],
    image: str,
    preprocessor: dict[str, Any],
    processor: dict[str, Any] | None,
    seed: int,
    scale: Callable[[str], float] = default_scale,
    **settings: Any,
) -> None:
    """Write a checkpoint whose template begins turns with BASE's tokens and puts `image` where pictures are."""
    tokens = [*BASE, *special]
    made = {"model_type": package, "vocab_size": VOCABULARY, "eos_token_id": token_ids(tokens)["<|end|>"], **config}
    write(folder, package, made, tokens, chat(image), preprocessor, "<|end|>", seed, scale=scale, **settings)
    if processor is not None:
        write_json(folder, "processor_config.json", processor)


def ids_of(special: list[str]) -> dict[str, int]:
    return token_ids([*BASE, *special])


def mistral3(folder: Path, seed: int = 0) -> None:
    special = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    config = {
        "image_token_index": ids_of(special)["[IMG]"],
        "vision_feature_layer": -1,
        "spatial_merge_size": 2,
        "text_config": llama("mistral", head_dim=16),
        "vision_config": tower("pixtral", head_dim=16, image_size=224),
    }
    preprocessor = square("PixtralImageProcessor") | {
        "size": {"longest_edge": 224},
        "patch_size": {"height": 28, "width": 28},
    }
    processor = {"processor_class": "PixtralProcessor", "patch_size": 14, "spatial_merge_size": 2}
    vlm(folder, "mistral3", config, special, "[IMG]", preprocessor, processor, seed)


def _idefics3_like(folder: Path, package: str, processor: str, seed: int) -> None:
    special = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    special += [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    config = {
        "image_token_id": ids_of(special)["<image>"],
        "scale_factor": 2,
        "text_config": llama("llama"),
        "vision_config": tower(),
    }
    preprocessor = {
        "image_processor_type": f"{processor}ImageProcessor",
        "do_image_splitting": True,
        "do_pad": True,
        "size": {"longest_edge": 224},
        "max_image_size": {"longest_edge": 112},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    more = {"processor_class": f"{processor}Processor", "image_seq_len": 16}
    vlm(folder, package, config, special, "<image>", preprocessor, more, seed)


def idefics3(folder: Path, seed: int = 0) -> None:
    _idefics3_like(folder, "idefics3", "Idefics3", seed)


def smolvlm(folder: Path, seed: int = 0) -> None:
    _idefics3_like(folder, "smolvlm", "SmolVLM", seed)


def internvl_chat(folder: Path, seed: int = 0) -> None:
    special = ["<img>", "</img>", "<IMG_CONTEXT>"]
    config = {
        "image_token_index": ids_of(special)["<IMG_CONTEXT>"],
        "max_dynamic_patch": 4,
        "use_thumbnail": True,
        "text_config": llama("qwen2"),
        "vision_config": tower("intern_vit_6b"),
    }
    vlm(folder, "internvl_chat", config, special, "<image>\n", square("CLIPImageProcessor"), None, seed)


def llava_next(folder: Path, seed: int = 0) -> None:
    config = {
        "image_token_index": ids_of(["<image>"])["<image>"],
        "vision_feature_layer": -2,
        "image_grid_pinpoints": [[112, 224], [224, 112], [224, 224]],
        "text_config": llama("mistral"),
        "vision_config": tower("clip_vision_model"),
    }
    processor = {
        "processor_class": "LlavaNextProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    preprocessor = square(
        "LlavaNextImageProcessor",
        size={"shortest_edge": 112},
        crop_size={"height": 112, "width": 112},
        image_grid_pinpoints=[[112, 224], [224, 112], [224, 224]],
    )
    vlm(folder, "llava_next", config, ["<image>"], "<image>", preprocessor, processor, seed)


def qwen3_vl_moe(folder: Path, seed: int = 0) -> None:
    """Deep-stack features, and experts."""
    text = llama("qwen3_vl_moe_text", head_dim=16, rope_scaling={"type": "default", "mrope_section": [4, 2, 2]})
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": []}
    text |= {"moe_intermediate_size": 64}
    config = {"model_type": "qwen3_vl_moe", **qwen_ids(), "vocab_size": VOCABULARY, "text_config": text}
    config["vision_config"] = qwen3_vision("qwen3_vl_moe", [0])
    write(folder, "qwen3_vl_moe", config, QWEN_TOKENS, CHATML, qwen_preprocessor(14), "<|im_end|>", seed)


WIDE: dict[str, Callable[..., None]] = {
    "mistral3": mistral3,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "internvl_chat": internvl_chat,
    "llava_next": llava_next,
    "qwen3_vl_moe": qwen3_vl_moe,
}
