"""Checkpoints of further picture families: resamplers, sliding windows, experts, and towers of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .common import default_scale
from .families import VOCABULARY
from .wide_tiles import ids_of, llama, square, tower, vlm


def quiet(name: str) -> float:
    """Tied embeddings at full size make a token only repeat itself."""
    return 0.1 if "embed_tokens" in name else default_scale(name)


def calm(name: str) -> float:
    """And with attention that isn't sharp: rounding grows less."""
    return 1.5 if "q_proj" in name or "k_proj" in name else quiet(name)


def idefics2(folder: Path, seed: int = 0) -> None:
    special = ["<image>", "<fake_token_around_image>", "<end_of_utterance>"]
    config = {
        "image_token_id": ids_of(special)["<image>"],
        "text_config": llama("mistral"),
        "vision_config": tower("idefics2", num_key_value_heads=2),
        "perceiver_config": {
            "model_type": "idefics2_perceiver",
            "num_key_value_heads": 2,
            "resampler_depth": 1,
            "resampler_head_dim": 16,
            "resampler_n_heads": 4,
            "resampler_n_latents": 8,
        },
    }
    preprocessor = square("Idefics2ImageProcessor") | {
        "size": {"longest_edge": 112, "shortest_edge": 56},
        "do_image_splitting": False,
    }
    processor = {"processor_class": "Idefics2Processor", "image_seq_len": 8}
    vlm(folder, "idefics2", config, special, "<image>", preprocessor, processor, seed)


def aya_vision(folder: Path, seed: int = 0) -> None:
    """Tiles, and sliding windows in three of four layers."""
    special = ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"]
    text = llama("cohere2", head_dim=16, layer_norm_eps=1e-5, logit_scale=1.0, num_hidden_layers=4)
    text |= {"sliding_window": 64, "sliding_window_pattern": 4}
    config = {
        "image_token_index": ids_of(special)["<|IMG_PATCH|>"],
        "downsample_factor": 2,
        "alignment_intermediate_size": 128,
        "text_config": text,
        "vision_config": tower(),
    }
    preprocessor = square("GotOcr2ImageProcessor", crop_to_patches=True, min_patches=1, max_patches=4)
    processor = {"processor_class": "AyaVisionProcessor", "patch_size": 14, "img_size": 112, "downsample_factor": 2}
    vlm(folder, "aya_vision", config, special, "<image>", preprocessor, processor, seed, scale=calm)


def paligemma(folder: Path, seed: int = 0) -> None:
    """The whole prompt sees itself."""
    config = {
        "image_token_index": ids_of(["<image>"])["<image>"],
        "hidden_size": 64,
        "projection_dim": 64,
        "text_config": llama("gemma", head_dim=16),
        "vision_config": tower(projection_dim=64),
        "pad_token_id": ids_of([])["<|endoftext|>"],
    }
    preprocessor = square("SiglipImageProcessor", image_seq_length=64)
    vlm(folder, "paligemma", config, ["<image>"], "<image>", preprocessor, None, seed, quiet, bos_token="<|user|>")


GEMMA4 = ["<|image>", "<|image|>", "<image|>", "<|audio>", "<|audio|>", "<audio|>", "<|video|>"]


def _gemma4_ids() -> dict[str, Any]:
    ids = ids_of(GEMMA4)
    return {
        "image_token_id": ids["<|image|>"],
        "audio_token_id": ids["<|audio|>"],
        "video_token_id": ids["<|video|>"],
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "boa_token_id": ids["<|audio>"],
        "eoa_token_id": ids["<audio|>"],
        "hidden_size": 64,
        "vision_soft_tokens_per_image": 70,
    }


GEMMA4_NAMES = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}


def gemma4(folder: Path, seed: int = 0) -> None:
    """A share of each layer's input goes by the token, and later layers use earlier layers' KV."""
    text = llama("gemma4_text", head_dim=16, global_head_dim=32, num_hidden_layers=6)
    text |= {"vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8}
    text |= {"sliding_window": 64, "sliding_window_pattern": 3, "tie_word_embeddings": True}
    _gemma4(folder, text, seed)


def _gemma4(folder: Path, text: dict[str, Any], seed: int) -> None:
    vision = tower("gemma4_vision", num_key_value_heads=2, head_dim=16, global_head_dim=16, pooling_kernel_size=2)
    vision |= {"default_output_length": 70, "position_embedding_size": 64}
    config = {**_gemma4_ids(), "text_config": text, "vision_config": vision}
    picture = {"patch_size": 14, "max_soft_tokens": 70, "pooling_kernel_size": 2}
    preprocessor = {"image_processor_type": "Gemma4ImageProcessor", **picture}
    processor = {"processor_class": "Gemma4Processor", "image_seq_length": 70, "image_processor": preprocessor}
    vlm(folder, "gemma4", config, GEMMA4, "<|image|>", preprocessor, processor, seed, quiet, **GEMMA4_NAMES)


def gemma4_both_ways(folder: Path, seed: int = 0) -> None:
    """The larger models: a picture's tokens see one another, and no input goes by the token."""
    text = llama("gemma4_text", head_dim=16, global_head_dim=32, num_hidden_layers=6)
    text |= {"hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision", "num_kv_shared_layers": 0}
    text |= {"sliding_window": 64, "sliding_window_pattern": 3, "tie_word_embeddings": True}
    _gemma4(folder, text, seed)


def gemma4_unified(folder: Path, seed: int = 0) -> None:
    """No tower: patches go into the language model, where those of a picture see each other."""
    text = llama("gemma4_unified_text", head_dim=16, global_head_dim=32, num_hidden_layers=6)
    text |= {"sliding_window": 64, "sliding_window_pattern": 3, "tie_word_embeddings": True}
    text |= {"num_global_key_value_heads": 1}
    vision = {"model_type": "gemma4_unified_vision", "mm_embed_dim": 64, "output_proj_dims": 64}
    config = {**_gemma4_ids(), "text_config": text, "vision_config": vision}
    config["audio_config"] = {"audio_embed_dim": 32, "hidden_size": 32, "output_proj_dims": 32}
    processor = {"processor_class": "Gemma4UnifiedProcessor"}  # mlx-vlm 0.7.10 reads no sizes of pictures from it
    preprocessor = {"image_processor_type": "Gemma4UnifiedImageProcessor"}
    vlm(folder, "gemma4_unified", config, GEMMA4, "<|image|>", preprocessor, processor, seed, quiet, **GEMMA4_NAMES)


def llama4(folder: Path, seed: int = 0) -> None:
    """Experts, chunks of attention, layers without positions. Pictures aren't split: mlx-vlm 0.7.10 writes tokens
    for a whole view beside the tiles and makes none, so that its answer depends on what lies behind in memory."""
    special = ["<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>"]
    special += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    text = llama("llama4_text", head_dim=16, num_hidden_layers=4, intermediate_size_mlp=128, num_local_experts=4)
    text |= {"attention_chunk_size": 8192, "interleave_moe_layer_step": 2}
    vision = tower("llama4_vision_model", image_size=112, initializer_range=0.02, norm_eps=1e-5, num_channels=3)
    vision |= {"pixel_shuffle_ratio": 0.5, "projector_dropout": 0.0, "projector_input_dim": 64}
    vision |= {"projector_output_dim": 64, "rope_theta": 10000, "vision_feature_layer": -1}
    vision |= {"vision_feature_select_strategy": "default", "vision_output_dim": 64, "intermediate_size": 128}
    config = {"image_token_index": ids_of(special)["<|patch|>"], "text_config": text, "vision_config": vision}
    preprocessor = square("Llama4ImageProcessor", max_patches=1)
    vlm(folder, "llama4", config, special, "<|image|>", preprocessor, None, seed)


def deepseek_text(**more: Any) -> dict[str, Any]:
    made = llama("deepseek_v3", num_key_value_heads=4, moe_intermediate_size=32, n_shared_experts=1)
    made |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    made |= {"kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 16}
    return {**made, **more}


MOONVIT = {
    "model_type": "moonvit",
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "patch_size": 14,
    "init_pos_emb_height": 8,
    "init_pos_emb_width": 8,
}


def kimi_vl(folder: Path, seed: int = 0) -> None:
    """Latent attention and experts."""
    special = ["<|media_pad|>", "<|im_assistant|>"]
    ids = ids_of(special)
    config = {
        "media_placeholder_token_id": ids["<|media_pad|>"],
        "text_config": deepseek_text(),
        "vision_config": MOONVIT,
    }
    preprocessor = {"image_processor_type": "KimiVLImageProcessor", "patch_size": 14, "in_token_limit": 256}
    vlm(folder, "kimi_vl", config, special, "<|media_pad|>", preprocessor, None, seed)


def lfm2_vl(folder: Path, seed: int = 0) -> None:
    """Convolutions with a state in two of three layers."""
    special = ["<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    special += [f"<|img_row_{row}_col_{column}|>" for row in (1, 2) for column in (1, 2)]
    text = llama("lfm2", norm_eps=1e-5, block_dim=64, conv_dim=64, conv_dim_out=64, num_heads=4, block_multiple_of=32)
    text |= {"layer_types": ["conv", "full_attention", "conv"], "block_ff_dim": 128, "tie_word_embeddings": True}
    config = {
        "image_token_id": ids_of(special)["<image>"],
        "encoder_patch_size": 14,
        "projector_hidden_size": 64,
        "text_config": text,
        "vision_config": tower("siglip2_vision_model", num_patches=64),
    }
    preprocessor = square("Lfm2VlImageProcessor", encoder_patch_size=14, downsample_factor=2, min_image_tokens=4)
    preprocessor |= {"max_image_tokens": 16, "tile_size": 112, "do_image_splitting": False}
    processor = {"processor_class": "Lfm2VlProcessor"}
    more = {
        "image_token": "<image>",
        "image_start_token": "<|image_start|>",
        "image_end_token": "<|image_end|>",
        "image_thumbnail": "<|img_thumbnail|>",
    }
    vlm(folder, "lfm2_vl", config, special, "<image>", preprocessor, processor, seed, quiet, **more)


def paddleocr_vl(folder: Path, seed: int = 0) -> None:
    special = ["<|IMAGE_PLACEHOLDER|>", "<|IMAGE_START|>", "<|IMAGE_END|>", "<|video_pad|>"]
    ids = ids_of(special)
    config = {
        **llama("paddleocr_vl", head_dim=16, use_bias=False, hidden_size=1024),  # its projector makes 1,024
        "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [4, 2, 2]},
        "image_token_id": ids["<|IMAGE_PLACEHOLDER|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|IMAGE_START|>"],
        "vision_end_token_id": ids["<|IMAGE_END|>"],
        "vision_config": tower("paddleocr_vl"),
    }
    preprocessor = {
        "image_processor_type": "PaddleOCRVLImageProcessor",
        "min_pixels": 28 * 28,
        "max_pixels": 28 * 28 * 64,
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 1,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    image = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    vlm(folder, "paddleocr_vl", config, special, image, preprocessor, None, seed)


def phi3_v(folder: Path, seed: int = 0) -> None:
    """Its tower is CLIP's in full but for the number of layers; pictures have negative token ids."""
    from mlx_vlm.models.phi3_v.vision import VisionModel

    VisionModel.CLIP_VIT_LARGE_PATCH14_336_CONFIG.num_hidden_layers = 2
    VisionModel.CLIP_VIT_LARGE_PATCH14_336_CONFIG.intermediate_size = 64
    config = {**llama("phi3_v"), "vision_config": {"model_type": "phi3_v"}, "text_config": {}}
    preprocessor = {"image_processor_type": "Phi3VImageProcessor", "num_crops": 1, "num_img_tokens": 144}
    vlm(folder, "phi3_v", config, [], "", preprocessor, None, seed)  # mlx-vlm numbers its pictures


WIDE: dict[str, Callable[..., None]] = {
    "aya_vision": aya_vision,
    "gemma4": gemma4,
    "gemma4_both_ways": gemma4_both_ways,
    "gemma4_unified": gemma4_unified,
    "idefics2": idefics2,
    "kimi_vl": kimi_vl,
    "lfm2_vl": lfm2_vl,
    "llama4": llama4,
    "paddleocr_vl": paddleocr_vl,
    "paligemma": paligemma,
    "phi3_v": phi3_v,
}
