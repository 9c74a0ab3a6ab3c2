"""Checkpoints of text families of mlx-lm, one of each kind of layer, mask and cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .families import CHATML, QWEN_TOKENS, qwen_ids, write
from .wide_more import quiet
from .wide_tiles import llama


def _remembers(name: str) -> float:
    """What the state holds outweighs the token at hand, also of rwkv7."""
    return 6.0 if "attn.o_proj" in name or "g_lora" in name else quiet(name) * (0.1 if "embeddings" in name else 1)


def text(folder: Path, seed: int = 0, *, model_type: str, **more: Any) -> None:
    config = {**llama(model_type), "eos_token_id": qwen_ids()["eos_token_id"], **more}
    write(
        folder,
        model_type,
        config,
        QWEN_TOKENS,
        CHATML,
        None,
        "<|im_end|>",
        seed,
        scale=_remembers if model_type == "rwkv7" else quiet,
    )


def _mamba(**more: Any) -> dict[str, Any]:
    return {"state_size": 16, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "n_groups": 1, **more}


_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
_LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "cohere2": {"head_dim": 16, "sliding_window": 64, "sliding_window_pattern": 4, "num_hidden_layers": 4}
    | {"layer_norm_eps": 1e-5, "logit_scale": 1.0},
    "deepseek_v2": {**_LATENT, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    | {"n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4}
    | {"topk_method": "greedy", "routed_scaling_factor": 1.0, "moe_layer_freq": 1}
    | {"rope_scaling": {"type": "linear", "factor": 1.0}},
    "falcon_h1": {"head_dim": 16, "mamba_d_conv": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 16}
    | {"mamba_expand": 1, "mamba_n_groups": 1, "mamba_n_heads": 4, "mamba_chunk_size": 16, "mamba_conv_bias": True}
    | {"mamba_proj_bias": False, "mamba_norm_before_gate": False, "mamba_rms_norm": False, "projectors_bias": False}
    | {"attention_bias": False, "mlp_bias": False, "attention_in_multiplier": 1.0, "attention_out_multiplier": 1.0}
    | {"embedding_multiplier": 1.0, "key_multiplier": 1.0, "lm_head_multiplier": 1.0, "mlp_multipliers": [1.0, 1.0]}
    | {"ssm_in_multiplier": 1.0, "ssm_out_multiplier": 1.0, "ssm_multipliers": [1.0] * 5},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0},
    "gpt_oss": {"head_dim": 16, "sliding_window": 64, "num_local_experts": 4, "num_experts_per_tok": 2}
    | {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4},
    "granite": {"embedding_multiplier": 1.0, "attention_multiplier": 0.25, "residual_multiplier": 1.0}
    | {"logits_scaling": 1.0, "attention_bias": False, "mlp_bias": False},
    "mamba": _mamba(intermediate_size=128, time_step_rank=4),
    "mamba2": _mamba(num_heads=4, head_dim=32, expand=2, chunk_size=16, time_step_limit=[0.001, 100.0])
    | {"layer_norm_epsilon": 1e-5, "time_step_rank": 4, "ssm_state_size": 16, "max_position_embeddings": 8192},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {},
    "phi3": {"partial_rotary_factor": 1.0, "original_max_position_embeddings": 4096, "rope_scaling": None},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, **_EXPERTS, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "rwkv7": {"head_dim": 16, "norm_eps": 1e-5, "norm_bias": True, "hidden_act": "sqrelu"}
    | {"decay_low_rank_dim": 8, "gate_low_rank_dim": 8, "a_low_rank_dim": 8, "v_low_rank_dim": 8},
    "smollm3": {"no_rope_layer_interval": 2},
    "starcoder2": {"norm_epsilon": 1e-5},
}
MORE_TEXT: dict[str, Callable[..., None]] = {
    name: partial(text, model_type=name, **settings) for name, settings in SETTINGS.items()
}
