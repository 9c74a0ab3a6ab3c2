"""Sizes of the embedded model, its special tokens and its character set."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel

PATCH = 8
MERGE = 2
CELL = PATCH * MERGE  # one image token covers CELL x CELL pixels
VOCAB_SIZE = 280
OCR_PROMPT = "Text Recognition:"
SLOTS = 12  # 2 half rows x 4 characters in order, then 4 sub-columns
LINE_CLASSES = 12
ASCII = "".join(chr(code) for code in range(32, 127))
# Latin-1's letters and signs, and the signs outside it that ordinary pages hold.
ACCENTED = "".join(chr(code) for code in range(0xC0, 0x100) if code not in (0xD7, 0xF7))
SIGNS = "€£§°±×÷©®µ¿¡«»·½¼•–—‘’“”…"
CHARACTERS = ASCII + ACCENTED + SIGNS
CHAR_CLASS = {char: index + 1 for index, char in enumerate(CHARACTERS)}  # 0 = nothing there
CHAR_CLASSES = len(CHARACTERS) + 1

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|video|>",
)


@dataclass(frozen=True)
class ModelSizes:
    """Widths and depths; the names follow GLM-OCR's config."""

    vision_hidden: int = 128
    vision_heads: int = 4
    vision_intermediate: int = 256
    vision_depth: int = 3
    hidden: int = 128
    heads: int = 4
    head_dim: int = 32
    intermediate: int = 384
    layers: int = 3
    mrope_section: tuple[int, int, int] = (2, 6, 8)
    rope_theta: float = 30.0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def build_tokenizer() -> Tokenizer:
    """Byte-level tokenizer without merges: 256 bytes, GLM's special tokens, the OCR prompt."""
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(OCR_PROMPT, special=False, normalized=False)])
    reserved = VOCAB_SIZE - tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken(f"<|reserved_{i}|>", special=False) for i in range(reserved)])
    return tokenizer


TOKENIZER = build_tokenizer()


def token_id(text: str) -> int:
    found = TOKENIZER.token_to_id(text)
    if found is None:
        raise KeyError(text)
    return int(found)


END = token_id("<|endoftext|>")


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)
