"""What followed a prefix before: the tokens of stored blocks, for drafts. Their KV isn't read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .ram import RamTier
from .ssd import SsdTier

MOST = 4  # continuations of one prefix, the newest
TOKENS = 8192  # of one continuation

Followers = Callable[[bytes], Iterable[tuple[bytes, np.ndarray | None]]]


def in_ram(ram: RamTier, parent: bytes) -> list[list[int]]:
    """Symbols of the newest chains of blocks after `parent`. The engine thread."""
    return _chains(lambda key: [(block.key, block.symbols) for block in ram.after(key)[:MOST]], parent)


def on_disk(ssd: SsdTier, parent: bytes) -> list[list[int]]:
    """The same from disk. Any thread."""
    return _chains(lambda key: ((child, ssd.symbols(child, drop=False)) for child in ssd.after(key, MOST)), parent)


def _chains(followers: Followers, parent: bytes) -> list[list[int]]:
    made = []
    for key, symbols in followers(parent):
        if symbols is None:
            continue
        chain, at = symbols.tolist(), key
        while len(chain) < TOKENS:
            found = next(((k, s) for k, s in followers(at) if s is not None), None)
            if found is None:
                break
            at = found[0]
            chain += found[1].tolist()
        made.append(chain[:TOKENS])
    return made
