"""Tiny DeepSeek-OCR checkpoints. Upstream hard-codes an 86 M SAM encoder (and OCR-2 a 24-layer Qwen2
encoder); `shrink` puts small ones in their place in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTH = 32


def shrink() -> None:
    """Replace the hard-coded encoders; what a picture's tokens are and how they merge stays upstream's."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_vlm.models.deepseekocr import deepseekocr as first
    from mlx_vlm.models.deepseekocr_2 import deepseekocr_2 as second
    from mlx_vlm.models.deepseekocr_2 import vision

    class SmallSam(nn.Module):
        """(B, H, W, 3) -> (B, H / 64, W / 64, WIDTH), like SAM's neck."""

        def __init__(self, **_: Any) -> None:
            super().__init__()
            self.proj = nn.Linear(8 * 8 * 3, WIDTH)

        def __call__(self, pixels: mx.array) -> mx.array:
            batch, height, width, _ = pixels.shape
            blocks = pixels.reshape(batch, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4))
            blocks = blocks.reshape(batch, height // 64, 8, width // 64, 8, 3).transpose(0, 1, 3, 2, 4, 5)
            return self.proj(blocks.reshape(batch, height // 64, width // 64, -1))

    def small_encoder(**_: Any) -> Any:
        return encoder(dim=WIDTH, layers=1, heads=2, kv_heads=2, intermediate_size=64)

    if not hasattr(vision, "small"):
        encoder = vision.Qwen2EncoderConfig
        vision.Qwen2EncoderConfig = small_encoder
        vision.small = True
    first.SAMEncoder = second.SAMEncoder = SmallSam


def config(model_type: str, vocabulary: int, ids: dict[str, int]) -> dict[str, Any]:
    linear = {"projector_type": "linear", "n_embed": 64}
    text = {
        "model_type": "deepseek_v2",
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 8192,
        "qk_nope_head_dim": 0,
    }
    vision: dict[str, Any] = {"model_type": "vision"}
    if model_type == "deepseekocr":
        vision |= {"layers": 1, "width": WIDTH, "hidden_size": WIDTH, "num_attention_heads": 2}
        vision |= {"intermediate_size": 64, "image_size": 224, "patch_size": 14}
    else:
        vision |= {"width": {"qwen2-0-5b": {"dim": WIDTH}}, "hidden_size": WIDTH}
    return {
        "model_type": model_type,
        "vocab_size": vocabulary,
        "image_token_index": ids["<image>"],
        "eos_token_id": ids["<eos>"],
        "text_config": text,
        "vision_config": vision,
        "projector_config": {**linear, "input_dim": 2 * WIDTH if model_type == "deepseekocr" else WIDTH},
    }


PROCESSOR = {"candidate_resolutions": [[1024, 1024]], "patch_size": 16, "downsample_ratio": 4}
TOKENS = ["<pad>", "<eos>", "<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"]
TOKENS += ["<|User|>", "<|Assistant|>", "<|endoftext|>"]


def reference(path: Path, pieces: list[Any], count: int) -> list[int]:
    """Greedy tokens by upstream's own processor, merge and model, a picture at a time.

    mlx-vlm takes one picture a prompt here: deepseekocr raises for two, deepseekocr_2 ignores the second.
    `pieces` are strings and PIL pictures.
    """
    import mlx.core as mx
    import mlx_vlm
    from mlx_vlm.models.cache import make_prompt_cache

    model, processor = mlx_vlm.load(str(path))
    ids = mx.array([[0]])
    embeds = [model.get_input_embeddings(ids).inputs_embeds]
    for piece in pieces:
        if isinstance(piece, str):
            ids = mx.array([processor.tokenizer.encode(piece, add_special_tokens=False)])
            embeds.append(model.get_input_embeddings(ids).inputs_embeds)
            continue
        made = processor(text=["<image>x"], images=[piece])
        whole = model.get_input_embeddings(
            made["input_ids"], made["images"], made["images_spatial_crop"], made["images_seq_mask"]
        ).inputs_embeds
        embeds.append(whole[:, 1:])  # without the begin token
    cache = make_prompt_cache(model.language_model)
    joined = mx.concatenate(embeds, axis=1)
    logits = model.language_model(mx.zeros(joined.shape[:2], mx.int32), inputs_embeds=joined, cache=cache).logits
    tokens = [int(mx.argmax(logits[0, -1]).item())]
    while len(tokens) < count and tokens[-1] != model.config.eos_token_id:
        logits = model.language_model(mx.array([[tokens[-1]]]), cache=cache).logits
        tokens.append(int(mx.argmax(logits[0, -1]).item()))
    return tokens
