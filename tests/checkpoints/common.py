"""Tiny random-weight checkpoints that the real loaders take: shared parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel

WORDS = 256  # byte-level ids come first


def byte_tokenizer(specials: list[str], vocabulary: int, fixed: dict[str, int] | None = None) -> Tokenizer:
    """256 bytes, then the special tokens, then reserved rows: every row of the vocabulary has a token.

    `fixed` puts a token at an id of its own (some processors hard-code one).
    """
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    placed = {identity: text for text, identity in (fixed or {}).items()}
    waiting = [s for s in specials if s not in (fixed or {})]
    tokens = []
    for identity in range(WORDS, vocabulary):
        if identity in placed:
            tokens.append(AddedToken(placed[identity], special=True))
        elif waiting:
            tokens.append(AddedToken(waiting.pop(0), special=True))
        else:
            tokens.append(AddedToken(f"<|reserved_{identity}|>", special=True))
    tokenizer.add_tokens(tokens)
    assert tokenizer.get_vocab_size() == vocabulary
    return tokenizer


def write_json(folder: Path, name: str, value: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_weights(
    folder: Path,
    package: str,
    config: dict[str, Any],
    scale: Callable[[str], float],
    seed: int = 0,
    dtype: str = "float32",
) -> None:
    """Random weights of `mlx_vlm.models.<package>.Model`, matrices at `scale(name)` / sqrt(fan in).

    mlx-vlm loads what its own modules name, so no renaming is needed.
    """
    import importlib

    import mlx.core as mx
    from mlx_vlm.utils import update_module_configs

    mx.random.seed(seed)  # some modules begin with random vectors, which are kept
    architecture = importlib.import_module(f"mlx_vlm.models.{package}")
    copied = json.loads(json.dumps(config))
    model_config = architecture.ModelConfig.from_dict(copied)  # some fill in the parts of what they are given
    update_module_configs(model_config, architecture, copied, ["text", "vision", "perceiver", "projector", "audio"])
    save_random(folder, architecture.Model(model_config), scale, seed, dtype)


def write_text_weights(
    folder: Path, package: str, config: dict[str, Any], scale: Callable[[str], float], seed: int
) -> None:
    """The same for `mlx_lm.models.<package>`."""
    import importlib

    architecture = importlib.import_module(f"mlx_lm.models.{package}")
    model = architecture.Model(architecture.ModelArgs.from_dict(json.loads(json.dumps(config))))
    save_random(folder, model, scale, seed, "float32")


def save_random(folder: Path, model: Any, scale: Callable[[str], float], seed: int, dtype: str) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    weights = {}
    for index, (name, value) in enumerate(sorted(tree_flatten(model.parameters()))):
        weights[name] = _random(name, value, scale(name), seed * 10_007 + index).astype(getattr(mx, dtype))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def _random(name: str, value: Any, factor: float, seed: int) -> Any:
    import mlx.core as mx

    if name.endswith("A_log"):  # a slow decay, so that the state remembers the picture
        return mx.full(value.shape, -4.0)
    if ".w_lora." in name and name.endswith("bias"):  # the same of rwkv7
        return mx.full(value.shape, -6.0)
    if value.ndim < 2:
        if name.endswith("_gate"):  # mllama's begin closed, and no picture would come in
            return mx.ones(value.shape)
        if name.endswith("bias"):
            return mx.random.normal(value.shape, key=mx.random.key(seed)) * 0.1
        return value.astype(mx.float32)
    fan_in = value.size // value.shape[0]
    if "embed" in name and value.ndim == 2 and "patch" not in name:
        fan_in = 1
    return mx.random.normal(value.shape, key=mx.random.key(seed)) * factor / fan_in**0.5


def default_scale(name: str) -> float:
    """Sharp attention and strong pictures, so that a wrong cache, position or picture changes tokens."""
    if "q_proj" in name or "k_proj" in name or "qkv" in name:
        return 2.5
    if "merger" in name or "projector" in name:
        return 2.0
    if "lm_head" in name:
        return 3.0
    return 1.0
