"""A layout detector of PP-DocLayoutV3's kind, tiny, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

LABELS = ("doc_title", "paragraph_title", "text", "table", "formula", "image", "chart", "header", "footer", "number")
CONFIG = {
    "model_type": "pp_doclayout_v3",
    "id2label": {str(n): label for n, label in enumerate(LABELS)},
    "backbone_config": {
        "stage_mid_channels": [8, 8, 8, 8],  # the others are fixed in mlx-vlm
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
    },
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 4,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 32,
    "num_queries": 12,
    "global_pointer_head_size": 8,
}


def write(folder: Path, seed: int = 0) -> Path:
    """Random weights, large enough that some scores are over a half."""
    from mlx_vlm.models.pp_doclayout_v3 import Model, ModelConfig

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    mx.random.seed(seed)
    model = Model(ModelConfig.from_dict(CONFIG))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder
