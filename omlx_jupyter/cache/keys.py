"""What names a block: a chain of hashes over the model, the tokens and the pictures before its end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

KEY_BYTES = 16
BLOCK_TOKENS = 256
_IMAGE_BITS = 62


@dataclass(frozen=True)
class Span:
    """A picture's tokens: [start, start + length) of the prompt."""

    start: int
    length: int
    digest: str

    @property
    def end(self) -> int:
        return self.start + self.length


def root_key(identity: str) -> bytes:
    """The parent of a model's first blocks. `identity` says what model, processor and KV dtype it is."""
    return hashlib.blake2b(identity.encode(), digest_size=KEY_BYTES, person=b"omlx root").digest()


def feature_key(identity: str, digest: str) -> bytes:
    """Names the vision features of one picture under one model and processor."""
    return hashlib.blake2b(f"{identity}\n{digest}".encode(), digest_size=KEY_BYTES, person=b"omlx image").digest()


def symbols_of(ids: Sequence[int], spans: Sequence[Span]) -> np.ndarray:
    """(N,) int64: a text token's id; for a picture's token a negative number of its hash and offset.

    So that comparing symbols compares pictures too.
    """
    symbols = np.array(ids, np.int64)
    for span in spans:
        raw = hashlib.blake2b(f"{span.digest}:{span.length}".encode(), digest_size=8, person=b"omlx symbol").digest()
        base = int.from_bytes(raw, "little") >> (64 - _IMAGE_BITS)
        symbols[span.start : span.end] = -1 - base - np.arange(span.length, dtype=np.int64)
    return symbols


def block_key(parent: bytes, symbols: np.ndarray, start: int, end: int, spans: Sequence[Span]) -> bytes:
    """BLAKE2b-128 of parent, tokens [start, end) and, for each picture in it, its whole hash and place."""
    made = hashlib.blake2b(parent, digest_size=KEY_BYTES, person=b"omlx block")
    made.update(symbols[start:end].tobytes())
    for span in spans:
        if span.start < end and span.end > start:
            made.update(f"|{span.digest}:{start - span.start}:{span.length}".encode())
    return made.digest()


@dataclass(frozen=True)
class Block:
    """A block's name and place: tokens [start, start + length) of a chain."""

    key: bytes
    parent: bytes
    start: int
    symbols: np.ndarray  # (length,) int64
    window: int = 0  # sliding-window layers have their KV from this token of the block on

    @property
    def length(self) -> int:
        return len(self.symbols)

    @property
    def first(self) -> int:
        return int(self.symbols[0])


@dataclass
class Chain:
    """A request's tokens and how far they are cut into blocks."""

    symbols: np.ndarray
    spans: Sequence[Span]
    parent: bytes
    done: int = 0
    blocks: list[bytes] = field(default_factory=list)

    def extend(self, ids: Sequence[int]) -> None:
        """Append the answer's tokens, which are text."""
        self.symbols = np.concatenate([self.symbols, np.array(ids, np.int64)])

    def cut(self, end: int, window: int = 0) -> Block:
        """The block [done, end); the chain goes on from there."""
        part = self.symbols[self.done : end]
        block = Block(
            block_key(self.parent, self.symbols, self.done, end, self.spans), self.parent, self.done, part, window
        )
        self.parent, self.done = block.key, end
        self.blocks.append(block.key)
        return block
