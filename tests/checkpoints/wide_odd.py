"""Checkpoints of further picture families: cross-attention, features from several layers, processors of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .families import VOCABULARY, qwen3_vision, qwen_preprocessor
from .wide_more import deepseek_text
from .wide_tiles import ids_of, llama, square, tower, vlm

GRID = [[112, 224], [224, 112], [224, 224]]


def granite_vision(folder: Path, seed: int = 0) -> None:
    """Features of two layers of the tower side by side."""
    config = {
        "image_token_index": ids_of(["<image>"])["<image>"],
        "vision_feature_layer": [-2, -1],
        "image_grid_pinpoints": GRID,
        "text_config": llama("granite", embedding_multiplier=1.0, attention_multiplier=0.25, residual_multiplier=1.0)
        | {"logits_scaling": 1.0},
        "vision_config": tower(),
    }
    processor = {"patch_size": 14, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0}
    preprocessor = square("LlavaNextImageProcessor", size={"shortest_edge": 112}, image_grid_pinpoints=GRID)
    preprocessor |= {"crop_size": {"height": 112, "width": 112}}
    vlm(folder, "granite_vision", config, ["<image>"], "<image>", preprocessor, processor, seed)


def granite4_vision(folder: Path, seed: int = 0) -> None:
    """Pictures enter several layers of the language model."""
    config = {
        "image_token_index": ids_of(["<image>"])["<image>"],
        "image_grid_pinpoints": GRID,
        "deepstack_layer_map": [[-2, 0], [-1, 1]],
        "spatial_target_layers": [2],
        "use_spatial_sampling": False,
        "text_config": llama("granitemoehybrid", embedding_multiplier=1.0, attention_multiplier=0.25)
        | {"logits_scaling": 1.0, "residual_multiplier": 1.0, "shared_intermediate_size": 128},
        "vision_config": tower(hidden_size=128),
    }
    processor = {"patch_size": 14, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0}
    processor |= {"downsample_rate": "4/8"}
    preprocessor = square("LlavaNextImageProcessor", size={"shortest_edge": 112}, image_grid_pinpoints=GRID)
    preprocessor |= {"crop_size": {"height": 112, "width": 112}}
    vlm(folder, "granite4_vision", config, ["<image>"], "<image>", preprocessor, processor, seed)


def llava_onevision(folder: Path, seed: int = 0) -> None:
    special = ["<image>", "<video>"]
    ids = ids_of(special)
    config = {
        "image_token_index": ids["<image>"],
        "video_token_index": ids["<video>"],
        "image_grid_pinpoints": GRID,
        "text_config": llama("qwen2"),
        "vision_config": tower(),
    }
    processor = {"num_image_tokens": 64, "vision_feature_select_strategy": "full"}
    preprocessor = square("LlavaOnevisionImageProcessor", image_grid_pinpoints=GRID)
    vlm(folder, "llava_onevision", config, special, "<image>", preprocessor, processor, seed)


def internvl(folder: Path, seed: int = 0) -> None:
    special = ["<img>", "</img>", "<IMG_CONTEXT>"]
    config = {
        "image_token_id": ids_of(special)["<IMG_CONTEXT>"],
        "max_dynamic_patch": 4,
        "text_config": llama("qwen3", head_dim=16),
        "vision_config": tower("internvl_vision"),
    }
    processor = {"image_seq_length": 16}
    vlm(folder, "internvl", config, special, "<IMG_CONTEXT>\n", square("GotOcr2ImageProcessor"), processor, seed)


def mllama(folder: Path, seed: int = 0) -> None:
    """Pictures come in by cross-attention."""
    special = ["<|image|>", "<|python_tag|>"]
    config = {
        "image_token_index": ids_of(special)["<|image|>"],
        "text_config": llama("mllama", cross_attention_layers=[1], num_hidden_layers=4),
        "vision_config": tower("mllama_vision_model", attention_heads=2, num_global_layers=1, max_num_tiles=4)
        | {"intermediate_layers_indices": [0, 1], "vision_output_dim": 96},
    }
    preprocessor = square("MllamaImageProcessor", max_image_tiles=4)
    vlm(folder, "mllama", config, special, "<|image|>", preprocessor, None, seed, bos_token="<|user|>")


def fastvlm(folder: Path, seed: int = 0) -> None:
    """Its tower's sizes are no part of the config, so that they are made small in its class."""
    from mlx_vlm.models.fastvlm.config import VisionConfig

    small: Any = VisionConfig
    small.layers, small.embed_dims = [1, 1, 1, 1, 1], [8, 16, 16, 32, 64]
    config = {
        **llama("llava_qwen2"),
        "mm_hidden_size": 128,
        "vision_config": {"model_type": "llava_qwen2", "image_size": 256, "projection_dim": 64},
        "text_config": llama("qwen2"),
    }
    preprocessor = square("CLIPImageProcessor", size={"shortest_edge": 256}, crop_size={"height": 256, "width": 256})
    vlm(folder, "fastvlm", config, ["<image>"], "<image>", preprocessor, None, seed)


def deepseek_vl_v2(folder: Path, seed: int = 0) -> None:
    """Experts, tiles, one picture a prompt. Its processor brings its own template, for messages that are strings."""
    special = ["<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<|User|>", "<|Assistant|>"]
    special += ["<｜▁pad▁｜>"]
    text = deepseek_text(model_type="deepseek_v2", topk_method="greedy", scoring_func="softmax")
    resolutions = [[112, 112], [112, 224], [224, 112]]
    config = {
        "image_token_index": ids_of(special)["<image>"],
        "candidate_resolutions": resolutions,
        "language_config": text,
        "projector_config": {"projector_type": "downsample_mlp_gelu", "input_dim": 32, "n_embed": 64},
        "vision_config": {
            "model_type": "vision",
            "layers": 2,
            "width": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
        },
    }
    processor = {
        "candidate_resolutions": resolutions,
        "patch_size": 14,
        "downsample_ratio": 2,
        "image_token": "<image>",
    }
    preprocessor = square("DeepseekVLV2Processor")
    bos = "<|system|>"
    vlm(folder, "deepseek_vl_v2", config, special, "<image>", preprocessor, processor, seed, bos_token=bos)


def molmo(folder: Path, seed: int = 0) -> None:
    """One picture a prompt, before all text."""
    special = ["<im_patch>", "<im_col>", "<im_start>", "<im_end>"]
    text = {
        "model_type": "molmo",
        "d_model": 64,
        "n_heads": 4,
        "n_kv_heads": 2,
        "n_layers": 3,
        "mlp_hidden_size": 128,
        "vocab_size": VOCABULARY,
        "embedding_size": VOCABULARY,
        "additional_vocab_size": 8,
    }
    vision = {
        "model_type": "molmo",
        "hidden_size": 128,
        "image_emb_dim": 32,
        "image_num_heads": 2,
        "image_num_key_value_heads": 2,
        "image_num_layers": 2,
        "image_head_dim": 16,
        "image_mlp_dim": 64,
        "d_model": 64,
        "vit_layers": [-1, -2],
    }
    preprocessor = {"image_processor_type": "MolmoImageProcessor", "max_crops": 2}
    config = {"text_config": text, "vision_config": vision}
    vlm(folder, "molmo", config, special, "", preprocessor, None, seed)


def minicpmo(folder: Path, seed: int = 0) -> None:
    special = ["<image>", "</image>", "<unk>", "<image_id>", "</image_id>", "<slice>", "</slice>"]
    special += ["<audio>", "</audio>", "<|audio_start|>", "<|audio|>", "<|audio_end|>"]
    config = {
        **llama("minicpmo", head_dim=16, rope_scaling={"type": "default", "mrope_section": [4, 2, 2]}),
        "query_num": 16,
        "image_size": 112,
        "init_audio": False,
        "init_tts": False,
        "vision_config": tower(),
    }
    preprocessor = {"image_processor_type": "MiniCPMOImageProcessor", "scale_resolution": 112, "image_feature_size": 16}
    preprocessor["unk"] = "<|audio|>"  # any token
    image = "<image>./</image>"
    vlm(folder, "minicpmo", config, special, image, preprocessor, None, seed, unk_token="<unk>")


def hunyuan_vl(folder: Path, seed: int = 0) -> None:
    """Positions on four axes. The token ids of pictures are no part of its config, so that its class gets ours."""
    from mlx_vlm.models.hunyuan_vl.processing_hunyuan_vl import HunYuanVLProcessor

    special = ["<im_start>", "<im_end>", "<image>", "<newline>"]
    ids = ids_of(special)
    kind: Any = HunYuanVLProcessor
    kind.IMAGE_TOKEN_ID, kind.IM_START_TOKEN_ID, kind.IM_END_TOKEN_ID = (
        ids["<image>"],
        ids["<im_start>"],
        ids["<im_end>"],
    )
    kind.PAD_TOKEN_ID = ids_of([])["<|endoftext|>"]
    text = llama("hunyuan_vl", head_dim=16, attention_head_dim=16, org_vocab_size=VOCABULARY)
    text["rope_scaling"] = {"alpha": 1000.0, "type": "xdrope", "factor": 1.0, "xdrope_section": [2, 2, 2, 2]}
    config = {
        **text,
        "image_token_id": ids["<image>"],
        "image_start_token_id": ids["<im_start>"],
        "image_end_token_id": ids["<im_end>"],
        "image_newline_token_id": ids["<newline>"],
        "vision_config": tower("hunyuan_vl", out_hidden_size=64, max_image_size=512, patch_size=16),
    }
    preprocessor = {"image_processor_type": "HunYuanVLImageProcessor", "min_pixels": 1024, "max_pixels": 16384}
    vlm(folder, "hunyuan_vl", config, special, "<im_start><image><im_end>", preprocessor, None, seed)


def cohere_compass(folder: Path, seed: int = 0) -> None:
    special = ["<|IMAGE_PAD|>", "<|VISION_START|>", "<|VISION_END|>"]
    ids = ids_of(special)
    config = {
        "image_token_id": ids["<|IMAGE_PAD|>"],
        "vision_start_token_id": ids["<|VISION_START|>"],
        "vision_end_token_id": ids["<|VISION_END|>"],
        "text_config": llama("cohere_compass_text", head_dim=16, layer_norm_eps=1e-5),
        "vision_config": qwen3_vision("cohere_compass_vision", [0]),
    }
    preprocessor = {**qwen_preprocessor(14), "image_processor_type": "CohereCompassImageProcessor"}
    image = "<|VISION_START|><|IMAGE_PAD|><|VISION_END|>"
    vlm(folder, "cohere_compass", config, special, image, preprocessor, None, seed)


def minicpmv4_6(folder: Path, seed: int = 0) -> None:
    """A recurrent language model behind slices of a picture."""
    special = ["<image>", "</image>", "<unk>", "<image_id>", "</image_id>", "<slice>", "</slice>", "<|image_pad|>"]
    special += ["<|video_pad|>"]
    text = llama("qwen3_5_text", head_dim=32, num_hidden_layers=4, full_attention_interval=2)
    text |= {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 32}
    text |= {"linear_value_head_dim": 16, "rope_scaling": {"type": "default", "mrope_section": [2, 1, 1]}}
    config = {
        "query_num": 4,
        "image_size": 112,
        "insert_layer_id": 1,
        "image_token_id": ids_of(special)["<|image_pad|>"],
        "text_config": text,
        "vision_config": tower("minicpmv4_6_vision"),
    }
    preprocessor = {"image_processor_type": "MiniCPMVImageProcessor", "scale_resolution": 112, "max_slice_nums": 4}
    preprocessor |= {"image_feature_size": 4}
    image = "<image>./</image>"
    vlm(folder, "minicpmv4_6", config, special, image, preprocessor, None, seed, unk_token="<unk>")


WIDE: dict[str, Callable[..., None]] = {
    "cohere_compass": cohere_compass,
    "fastvlm": fastvlm,
    "granite4_vision": granite4_vision,
    "granite_vision": granite_vision,
    "hunyuan_vl": hunyuan_vl,
    "internvl": internvl,
    "llava_onevision": llava_onevision,
    "minicpmo": minicpmo,
    "minicpmv4_6": minicpmv4_6,
    "mllama": mllama,
    "molmo": molmo,
}
# The same prompt doesn't always get the same answer, of mlx-vlm 0.7.10 itself: nothing to compare with.
UNSTEADY: dict[str, Callable[..., None]] = {"deepseek_vl_v2": deepseek_vl_v2}
