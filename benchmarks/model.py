"""The random model that the benchmarks share: Qwen2-VL's layout, about 34 M parameters, fp32."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.checkpoints import dflash, families, scripted

_LAYERS: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-6,
    "vocab_size": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


# About 450 M parameters, 1.8 GB: what a process holds besides is little beside it
LARGE: dict[str, Any] = {
    "hidden_size": 1536,
    "num_hidden_layers": 16,
    "intermediate_size": 4096,
    "rope_scaling": {"type": "mrope", "mrope_section": [24, 36, 36]},
}


def make(folder: Path | None = None, other: dict[str, Any] | None = None) -> Path:
    """Write the checkpoint, with `other` sizes, and return its folder."""
    folder = folder or Path(tempfile.mkdtemp(prefix="omlx-bench-"))
    sizes = {**_LAYERS, "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}, **(other or {})}
    config: dict[str, Any] = {
        "model_type": "qwen2_vl",
        **families.qwen_ids(),
        **sizes,
        "vision_config": {
            "model_type": "qwen2_vl",
            "depth": 4,
            "embed_dim": 256,
            "hidden_size": sizes["hidden_size"],
            "num_heads": 4,
            "patch_size": 14,
            "mlp_ratio": 2,
            "spatial_patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
    preprocessor = {**families.qwen_preprocessor(14), "max_pixels": 28 * 28 * 1024}
    families.write(folder, "qwen2_vl", config, families.QWEN_TOKENS, families.CHATML, preprocessor, "<|im_end|>", 0)
    return folder


def make_saying(count: int) -> Path:
    """The same model, whose answer to everything is the same `count` tokens."""
    folder = make(Path(tempfile.mkdtemp(prefix="omlx-bench-saying-")))
    scripted.point(folder, dict(itertools.pairwise(_chain(folder, count))))
    return folder


def _chain(folder: Path, count: int) -> list[int]:
    names = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    line_feed, end = names["model"]["vocab"]["Ċ"], families.qwen_ids()["eos_token_id"]
    said = [token["id"] for token in names["added_tokens"] if token["id"] > end][100 : 100 + count - 1]
    return [line_feed, *said, end]


def make_with_drafter(count: int, layers: int = 4) -> tuple[Path, Path]:
    """The same, and a drafter of so many layers that is right about as many tokens: about 5 M parameters."""
    folder = make_saying(count)
    beside = Path(tempfile.mkdtemp(prefix="omlx-bench-drafter-")) / "drafter"
    return folder, dflash.right(beside, folder, _chain(folder, count), _LAYERS["vocab_size"] - 1, layers)


def make_random_drafter(target: Path) -> Path:
    """One that knows nothing, two layers wide enough to cost something."""
    folder = Path(tempfile.mkdtemp(prefix="omlx-bench-drafter-"))
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 1536}
    return dflash.random(folder, target, **heads)


def make_text() -> Path:
    """The same layers as a text model of mlx-lm's (qwen2)."""
    folder = Path(tempfile.mkdtemp(prefix="omlx-bench-text-"))
    config: dict[str, Any] = {
        "model_type": "qwen2",
        **_LAYERS,
        "eos_token_id": families.qwen_ids()["eos_token_id"],
    }
    families.write(folder, "qwen2", config, families.QWEN_TOKENS, families.CHATML, None, "<|im_end|>", 0)
    return folder
