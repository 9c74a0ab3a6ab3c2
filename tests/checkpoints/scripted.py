"""Checkpoints that say what a test wants: the next token is a function of the last one.

Qwen2-VL's tiny layout with a final projection made for it: the row of token n points where the embeddings of those
tokens point that n follows. Attention and MLPs are real and contribute a twentieth, so that positions, KV and pictures
still reach the logits and a wrong cache shows in the log-probabilities; the pieces of a script are tokens of their own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from . import families

END = "<|im_end|>"
_STRENGTH = 30.0


def write(
    folder: Path,
    chains: Sequence[Sequence[str]],
    template: str = families.CHATML,
    specials: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write a checkpoint. In each chain a token is followed by the next; the first is what a prompt ends with (a
    single byte, such as a line feed, or a token of the script). Tokens in `specials` aren't text when decoded."""
    families.qwen2_vl(folder, seed)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    words = [word for chain in chains for word in chain]
    ids = _name_tokens(folder, [*dict.fromkeys([*specials, *words])], set(specials))
    follows: dict[int, int] = {}
    for chain in chains:
        for last, following in itertools.pairwise(chain):
            if follows.setdefault(ids[last], ids[following]) != ids[following]:
                raise ValueError(f"two tokens follow {last!r}")
    point(folder, follows)
    return folder


def _name_tokens(folder: Path, words: list[str], specials: set[str]) -> dict[str, int]:
    """Give reserved rows of the vocabulary the script's texts; each word's id."""
    path = folder / "tokenizer.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    ids = {_byte(text): number for text, number in made["model"]["vocab"].items() if len(text) == 1}
    ids |= {token["content"]: token["id"] for token in made["added_tokens"]}
    free = [token for token in made["added_tokens"] if token["content"].startswith("<|reserved_")]
    for word in words:
        if word not in ids:
            token = free.pop(0)
            token["content"], token["special"] = word, word in specials
            ids[word] = token["id"]
    path.write_text(json.dumps(made), encoding="utf-8")
    return ids


def _byte(text: str) -> str:
    """The byte that a letter of the byte-level alphabet stands for, where it is ASCII."""
    code = ord(text)
    return chr(code - 256) if 256 <= code < 256 + 33 else text


def point(folder: Path, follows: dict[int, int]) -> None:
    """Make the token `follows[t]` come after token t, in a checkpoint of Qwen2-VL's layout."""
    path = next(folder.glob("*.safetensors"))
    weights = dict(mx.load(str(path)))
    embedded = np.array(weights["language_model.model.embed_tokens.weight"])
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True) / np.sqrt(embedded.shape[1])
    head = np.zeros_like(embedded)
    for last, following in follows.items():
        head[following] += embedded[last] * (_STRENGTH / embedded.shape[1])
    weights["language_model.model.embed_tokens.weight"] = mx.array(embedded)
    weights["language_model.lm_head.weight"] = mx.array(head)
    for name in weights:
        if name.startswith("language_model") and name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] = weights[name] * 0.05
    mx.save_safetensors(str(path), weights, {"format": "mlx"})
