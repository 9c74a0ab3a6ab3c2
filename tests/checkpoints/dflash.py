"""Drafter checkpoints of mlx-vlm's DFlash layout: random ones, and one that is right about a scripted target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from . import scripted
from .common import save_random, write_json

_THETA = 100.0  # of its positions: neighbours are easily told apart
MASK = "<|reserved_319|>"


def config_for(target: Path, layers: int, block: int, **more: Any) -> dict[str, Any]:
    """A drafter's config.json for a target's."""
    whole = json.loads((target / "config.json").read_text(encoding="utf-8"))
    text = {**whole, **whole.get("text_config", {})}
    made = {
        "model_type": "qwen3",
        "architectures": ["DFlashDraftModel"],
        "hidden_size": text["hidden_size"],
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": text["vocab_size"],
        "rope_theta": 10000.0,
        "block_size": block,
        "num_target_layers": text["num_hidden_layers"],
        "dflash_config": {"mask_token_id": text["vocab_size"] - 1, "target_layer_ids": [0, 2]},
    }
    return {**made, **more}


def _model(config: dict[str, Any]) -> Any:
    from mlx_vlm.speculative.drafters.qwen3_dflash import Model, ModelConfig

    return Model(ModelConfig.from_dict(json.loads(json.dumps(config))))


def random(folder: Path, target: Path, seed: int = 0, **more: Any) -> Path:
    """Random weights, in which the target's hidden states weigh much: a wrong one changes the draft."""
    config = config_for(target, 2, 6, **more)
    write_json(folder, "config.json", config)
    save_random(folder, _model(config), lambda name: 3.0 if "_proj" in name else 1.0, seed, "float32")
    return folder


def scripted_pair(folder: Path, words: int = 40, layers: int = 4) -> tuple[Path, Path]:
    """A target that says `words` tokens, none twice, and a drafter that is right about the next `layers`."""
    said = [f" w{number}" for number in range(words)]
    target = scripted.write(folder / "target", [["\n", *said, scripted.END]])
    names = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in names["added_tokens"]}
    chain = [names["model"]["vocab"]["Ċ"], *(ids[word] for word in said), ids[scripted.END]]
    return target, right(folder / "drafter", target, chain, ids[MASK], layers)


def right(folder: Path, target: Path, chain: list[int], mask: int, layers: int) -> Path:
    """A drafter that is right about the next `layers` tokens of a target that says `chain`; modifies its mask's row.

    In each layer a place of the block looks at the one before it. The first layer copies that one's token, the others
    put the token that follows in its place, so that after n layers the first n places know what they come behind.
    """
    folder.mkdir()
    embedded = _with_mask(target, chain, mask)
    size = embedded.shape[1]
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": size}
    config = config_for(target, layers, layers + 1, rope_theta=_THETA, **heads)
    config["dflash_config"]["mask_token_id"] = mask
    write_json(folder, "config.json", config)
    weights = _right(config, embedded, chain, mask)
    mx.save_safetensors(str(folder / "model.safetensors"), {k: mx.array(v) for k, v in weights.items()})
    return folder


def _with_mask(target: Path, chain: list[int], mask: int) -> np.ndarray:
    """The target's embedding, in which the mask's token points nowhere near the script's."""
    path = next(target.glob("*.safetensors"))
    weights = dict(mx.load(str(path)))
    name = "language_model.model.embed_tokens.weight"
    embedded = np.array(weights[name])
    known, vector = embedded[chain], embedded[mask]
    vector = vector - known.T @ np.linalg.lstsq(known.T, vector, rcond=None)[0]
    embedded[mask] = vector * np.sqrt(len(vector)) / np.linalg.norm(vector)
    weights[name] = mx.array(embedded)
    mx.save_safetensors(str(path), weights, {"format": "mlx"})
    return embedded


def _right(config: dict[str, Any], embedded: np.ndarray, chain: list[int], mask: int) -> dict[str, np.ndarray]:
    from mlx.utils import tree_flatten

    size = embedded.shape[1]
    weights = {name: np.zeros(value.shape, np.float32) for name, value in tree_flatten(_model(config).parameters())}
    weights |= {name: np.ones_like(value) for name, value in weights.items() if "norm" in name}
    known = embedded[[*chain, mask]]
    same = np.linalg.lstsq(known, np.ones(len(known)), rcond=None)[0]  # of all tokens alike
    angles = _THETA ** (-np.arange(size // 2) * 2 / size)
    key, query = np.r_[np.ones(size // 2), np.zeros(size // 2)], np.r_[np.cos(angles), -np.sin(angles)]
    following = [*embedded[chain[1:]], np.zeros(size), np.zeros(size)]
    copied = [*embedded[chain], np.zeros(size)]
    for layer in range(config["num_hidden_layers"]):
        at = f"layers.{layer}.self_attn."
        weights[at + "q_proj.weight"] = np.outer(query, same)
        weights[at + "k_proj.weight"] = np.outer(key, same)
        weights[at + "q_norm.weight"] = np.full(size, 40.0)
        weights[at + "v_proj.weight"] = np.eye(size)
        moved = np.linalg.lstsq(known, np.array(copied if layer == 0 else following), rcond=None)[0].T
        weights[at + "o_proj.weight"] = moved * (2.0 if layer == 0 else 0.4)
    return {name: value.astype(np.float32) for name, value in weights.items()}
