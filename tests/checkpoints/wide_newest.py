"""Checkpoints of further picture families: latent attention, attention by compressed convolutions, and the youngest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .families import CHATML, QWEN_TOKENS, VOCABULARY, qwen_ids, qwen_preprocessor, write
from .wide_more import MOONVIT, calm, deepseek_text, quiet
from .wide_tiles import ids_of, llama, square, tower, vlm


def kimi_k25(folder: Path, seed: int = 0) -> None:
    special = ["<|media_pad|>", "<|media_begin|>", "<|media_end|>", "<|media_content|>"]
    config = {
        "media_placeholder_token_id": ids_of(special)["<|media_pad|>"],
        "text_config": deepseek_text(),
        "vision_config": MOONVIT,
    }
    preprocessor = {"image_processor_type": "KimiK25ImageProcessor"}
    preprocessor["media_proc_cfg"] = {"patch_size": 14, "in_patch_limit": 256}
    vlm(folder, "kimi_k25", config, special, "<|media_pad|>", preprocessor, None, seed)


def mage_vl(folder: Path, seed: int = 0) -> None:
    config = {
        "model_type": "mage_vl",
        **qwen_ids(),
        "vocab_size": VOCABULARY,
        "text_config": llama("qwen3", head_dim=16),
        "vision_config": tower("mage_vl_vision", hidden_size=64, out_hidden_size=64, text_hidden_size=64),
    }
    preprocessor = qwen_preprocessor(14) | {"temporal_patch_size": 1}
    write(folder, "mage_vl", config, QWEN_TOKENS, CHATML, preprocessor, "<|im_end|>", seed)


def zaya1_vl(folder: Path, seed: int = 0) -> None:
    """Attention by compressed convolutions, experts, and adapters that only pictures pass."""
    special = ["<image>", "<|vision_start|>", "<|vision_end|>"]
    ids = ids_of(special)
    config = {
        "hidden_size": 64,
        "ffn_hidden_size": 128,
        "num_hidden_layers": 4,
        "num_experts": 4,
        "num_attention_heads": 4,
        "head_dim": 16,
        "zaya_mlp_expansion": 16,
        "max_position_embeddings": 8192,
        "image_token_id": ids["<image>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
    }
    image = "<|vision_start|><image><|vision_end|>"
    vlm(folder, "zaya1_vl", config, special, image, qwen_preprocessor(14), None, seed, quiet)


def molmo2(folder: Path, seed: int = 0) -> None:
    special = ["<|image|>", "<im_patch>", "<im_low>", "<im_start>", "<low_res_im_start>", "<frame_start>", "<im_end>"]
    special += ["<frame_end>", "<im_col>"]
    ids = ids_of(special)
    text = llama("molmo2", head_dim=16, additional_vocab_size=8, layer_norm_eps=1e-6)
    vit = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    vit |= {"num_key_value_heads": 2, "head_dim": 16, "image_num_pos": 729}
    adapter = {"hidden_size": 32, "intermediate_size": 64, "text_hidden_size": 64, "num_attention_heads": 2}
    adapter |= {"num_key_value_heads": 2, "head_dim": 16, "vit_layers": [-1, -2]}
    config = {
        "image_start_token_id": ids["<im_start>"],
        "low_res_image_start_token_id": ids["<low_res_im_start>"],
        "image_end_token_id": ids["<im_end>"],
        "image_low_res_id": ids["<im_low>"],
        "image_patch_id": ids["<im_patch>"],
        "image_col_id": ids["<im_col>"],
        "frame_start_token_id": ids["<frame_start>"],
        "frame_end_token_id": ids["<frame_end>"],
        "text_config": text,
        "vision_config": {"vit_config": vit, "adapter_config": adapter},
    }
    preprocessor = {"image_processor_type": "Molmo2ImageProcessor", "max_crops": 2, "image_mean": [0.5] * 3}
    preprocessor |= {"size": {"height": 112, "width": 112}, "image_std": [0.25] * 3}
    vlm(folder, "molmo2", config, special, "<|image|>", preprocessor, None, seed)


def llava(folder: Path, seed: int = 0) -> None:
    config = {
        "image_token_index": ids_of(["<image>"])["<image>"],
        "vision_feature_layer": -2,
        "text_config": llama("llama"),
        "vision_config": tower("clip_vision_model"),
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    preprocessor = square("CLIPImageProcessor", size={"shortest_edge": 112}, crop_size={"height": 112, "width": 112})
    vlm(folder, "llava", config, ["<image>"], "<image>", preprocessor, processor, seed)


def minicpmv4_7(folder: Path, seed: int = 0) -> None:
    """Positions by where a slice lies in its picture."""
    special = ["<image>", "</image>", "<unk>", "<image_id>", "</image_id>", "<slice>", "</slice>", "<|image_pad|>"]
    special += ["<|video_pad|>"]
    ids = ids_of(special)
    text = llama("qwen3_5_text", head_dim=32, num_hidden_layers=4, full_attention_interval=2)
    text |= {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 32}
    text |= {"linear_value_head_dim": 16, "rope_scaling": {"type": "default", "mrope_section": [2, 1, 1]}}
    config: dict[str, Any] = {
        "query_num": 4,
        "image_size": 112,
        "insert_layer_id": 1,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "image_start_id": ids["<image>"],
        "image_end_id": ids["</image>"],
        "slice_start_id": ids["<slice>"],
        "slice_end_id": ids["</slice>"],
        "newline_id": 10,
        "text_config": text,
        "vision_config": tower("minicpmv4_6_vision"),
    }
    preprocessor = {"image_processor_type": "MiniCPMVImageProcessor", "scale_resolution": 112, "max_slice_nums": 4}
    preprocessor |= {"image_feature_size": 4}
    image = "<image>./</image>"
    vlm(folder, "minicpmv4_7", config, special, image, preprocessor, None, seed, calm, unk_token="<unk>")


def gemma3n(folder: Path, seed: int = 0) -> None:
    """Rows of every layer's own, two streams, later layers with earlier layers' KV. Its tower's layout is no part of
    the config: made shorter in its module, as narrow as what comes behind it allows."""
    from mlx_vlm.models.gemma3n import vision

    def short() -> list[Any]:
        return [
            [vision._er(3, 8, 2)],
            [vision._uir(3, 5, 8, 2, 1.0)],
            [vision._uir(5, 5, 640, 2, 1.0, is_multiscale=True)],
            [vision._uir(5, 5, 1280, 2, 1.0, is_multiscale=True)],
        ]

    parts: Any = vision
    parts.gemma3n_mobilenet_def = short
    special = ["<start_of_image>", "<end_of_image>", "<start_of_audio>", "<end_of_audio>"]
    placed = {"<image_soft_token>": 312, "<audio_soft_token>": 316}
    text = llama("gemma3n_text", head_dim=16, num_hidden_layers=6, laurel_rank=8, hidden_size_per_layer_input=8)
    text |= {"vocab_size_per_layer_input": 312, "num_kv_shared_layers": 2, "sliding_window": 64}
    text |= {"layer_types": ["sliding_attention", "full_attention"] * 3, "altup_num_inputs": 2}
    text |= {"activation_sparsity_pattern": [0.0] * 6, "intermediate_size": [128] * 6}
    audio = {"hidden_size": 32, "conf_num_hidden_layers": 1, "conf_num_attention_heads": 2, "vocab_offset": 316}
    config = {
        "image_token_id": 312,
        "image_token_index": 312,
        "audio_token_id": 316,
        "hidden_size": 2048,
        "text_config": text,
        "vision_config": {"model_type": "gemma3n_vision", "vocab_offset": 312, "vocab_size": 4},
        "audio_config": {**audio, "vocab_size": 4},
    }
    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    names |= {"audio_token": "<audio_soft_token>", "boa_token": "<start_of_audio>", "eoa_token": "<end_of_audio>"}
    preprocessor = square("SiglipImageProcessor", 256)
    processor = {"image_seq_length": 256}
    image = "<image_soft_token>"
    more = {"fixed": placed, **names}
    vlm(folder, "gemma3n", config, special, image, preprocessor, processor, seed, quiet, **more)


WIDE: dict[str, Callable[..., None]] = {
    "gemma3n": gemma3n,
    "kimi_k25": kimi_k25,
    "llava": llava,
    "mage_vl": mage_vl,
    "minicpmv4_7": minicpmv4_7,
    "molmo2": molmo2,
    "zaya1_vl": zaya1_vl,
}
