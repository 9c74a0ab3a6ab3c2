"""All further picture families that a tiny checkpoint can be made of, and those that it can't.

Not made, as of mlx-vlm 0.7.10 with transformers 5.24 and without torch:

- llava: its processor passes `padding` on to the image processor, which refuses it
- phi4_siglip: its image processor wants torchvision
- gemma3n: its tower's layout is fixed in code, some 300 M parameters
- ernie4_5_moe_vl: its tokenizer is a SentencePiece file
- jina_vlm: its picture tokens' ids are fixed in code, beyond 150,000
- deepseek_vl_v2: its processor's own template writes a message's parts as Python writes a list
- florence2: an encoder with a decoder
- llava_bunny: its tokenizer and processor come as code in the checkpoint
"""

from __future__ import annotations

from collections.abc import Callable

from . import wide_more, wide_odd, wide_tiles

WIDE: dict[str, Callable[..., None]] = dict(sorted({**wide_tiles.WIDE, **wide_more.WIDE, **wide_odd.WIDE}.items()))
