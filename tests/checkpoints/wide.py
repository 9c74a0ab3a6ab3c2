"""All further picture families that a tiny checkpoint can be made of, and those that it can't."""

from __future__ import annotations

from collections.abc import Callable

from . import wide_more, wide_newest, wide_odd, wide_tiles

WIDE: dict[str, Callable[..., None]] = dict(
    sorted({**wide_tiles.WIDE, **wide_more.WIDE, **wide_newest.WIDE, **wide_odd.WIDE}.items())
)
UNSTEADY = wide_odd.UNSTEADY
# As of mlx-vlm 0.7.10 with transformers 5.24, without torch
NOT_MADE = {
    "deepseek_vl_v2": "made, but mlx-vlm itself doesn't always answer the same prompt alike; it runs alone",
    "ernie4_5_moe_vl": "its tokenizer is a SentencePiece file",
    "florence2": "an encoder with a decoder, which the engine refuses",
    "got": "its tokenizer comes as code in the checkpoint",
    "jina_vlm": "its picture tokens' ids are fixed in code, beyond 150,000",
    "llava_bunny": "its tokenizer and processor come as code in the checkpoint",
    "nemotron_parse": "an encoder with a decoder, which the engine refuses",
    "phi4_siglip": "its image processor wants torchvision",
    "youtu_vl": "its processor comes as code in the checkpoint",
}
UNTRIED = (
    *("deepseek_v4", "falcon_ocr", "glm5_next", "inkling", "llmjpvl", "locateanything", "mimo_v2", "minimax_m3_vl"),
    *("molmo_point", "moondream2", "moondream3", "multi_modality", "muse_glimmer", "muse_spark"),
    *("nemotron_h_nano_omni", "phi4mm", "plamo2vl", "qwen3_omni_moe", "step3p7"),
)
NOT_MADE |= dict.fromkeys(UNTRIED, "nobody has made a tiny checkpoint of it yet")
