"""A restore's reads and checks beside a plain read of the same bytes, both from the page cache, in turns.

    python -m benchmarks.restore [--tokens 4096]

The plain read is numpy's own (`fromfile`, memory made for it), and once more into memory that is there already.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from omlx_jupyter.cache.index import READY, Index
from omlx_jupyter.cache.keys import Chain, root_key, symbols_of
from omlx_jupyter.cache.shelf import segment_path
from omlx_jupyter.cache.ssd import Run, SsdTier

from .pairs import Pair, alternate

LAYERS, HEADS, WIDTH, BLOCK = 8, 8, 64, 256


def stored(folder: Path, tokens: int) -> SsdTier:
    """A tier with the KV of a prompt of `tokens` tokens, as the benchmarks' model makes it, fp32."""
    chain = Chain(symbols_of(list(range(tokens)), []), [], root_key("bench"))
    blocks = []
    while chain.done < tokens:
        blocks.append(chain.cut(min(tokens, chain.done + BLOCK)))
    random = np.random.default_rng(0)
    arrays = {
        f"{layer}.{part}": random.standard_normal((HEADS, tokens, WIDTH), np.float32)
        for layer in range(LAYERS)
        for part in ("k", "v")
    }
    tier = SsdTier(folder, 2**33, "bench", "bench")
    tier.store(Run(blocks, arrays, {}))
    return tier


def measure(tokens: int) -> dict[str, Any]:
    """Ratios above 1: the restore is faster."""
    folder = Path(tempfile.mkdtemp(prefix="omlx-restore-"))
    try:
        tier = stored(folder, tokens)
        index = Index(folder)
        segments = [row[0] for row in index.segments() if row[2] == READY]
        rows = [sorted(index.segment_blocks(s), key=lambda row: row.start) for s in segments]
        files = [segment_path(folder, s) for s in segments]
        size = sum(file.stat().st_size for file in files)
        names = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("k", "v")]
        kept = [np.empty(file.stat().st_size, np.uint8) for file in files]

        def restore() -> None:
            for run in rows:
                assert tier.read(run, names) is not None

        def plain() -> None:
            for file in files:
                np.fromfile(file, np.uint8)

        def plain_into() -> None:
            for file, out in zip(files, kept, strict=True):
                with open(file, "rb", buffering=0) as source:
                    assert source.readinto(out.data) == len(out)

        return {
            "bytes": size,
            "fresh memory": alternate(_seconds(plain), _seconds(restore)),
            "memory that is there": alternate(_seconds(plain_into), _seconds(restore)),
        }
    finally:
        shutil.rmtree(folder)


def _seconds(read: Callable[[], None]) -> Callable[[], float]:
    def once() -> float:
        began = time.perf_counter()
        read()
        return time.perf_counter() - began

    return once


def line(name: str, size: int, pair: Pair) -> str:
    speeds = f"{size / pair.second / 1e9:.1f} GB/s, plain {size / pair.first / 1e9:.1f}"
    return f"restore against a plain read into {name}: {pair.ratio:.2f} ({pair.low:.2f} to {pair.high:.2f}); {speeds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(asked.tokens)
    if asked.json:
        print(json.dumps({name: getattr(value, "__dict__", value) for name, value in found.items()}))
        return
    for name, pair in found.items():
        if isinstance(pair, Pair):
            print(line(name, found["bytes"], pair))


if __name__ == "__main__":
    main()
