"""`python -m benchmarks.memory`: what requests were estimated to take, beside what they took, over six mixes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()

import mlx.core as mx  # noqa: E402

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams  # noqa: E402
from omlx_jupyter.cache.prefix_cache import CacheSettings  # noqa: E402
from omlx_jupyter.visible import size  # noqa: E402
from tests.conftest import noise_image  # noqa: E402

from . import model  # noqa: E402

_ANSWER = 24


def mixes() -> dict[str, list[list[Any]]]:
    """Parts of each request, by the mix's name."""
    return {
        "one long text": [["z" * 3000]],
        "8 texts of 300": [[f"{n} " + "x" * 300] for n in range(8)],
        "one of 2,000 and 7 short": [["z" * 2000], *([f"{n} short"] for n in range(7))],
        "one large picture": [[ImagePart(noise_image(896, 896, 1)), "what"]],
        "4 with a picture": [[ImagePart(noise_image(448, 448, n)), f"{n} what"] for n in range(4)],
        "pictures and texts": [
            *([ImagePart(noise_image(560, 560, n)), f"{n} what"] for n in range(10, 12)),
            *([f"{n} " + "y" * 700] for n in range(3)),
        ],
    }


def measure(path: Path) -> Iterator[tuple[str, int, int]]:
    """(mix, estimated, measured) in bytes: weights, KV, features and activations, at the peak."""
    for name, requests in mixes().items():
        mx.clear_cache()
        base = mx.get_active_memory()
        with Engine.load(path, cache=CacheSettings(0), feature_bytes=0) as engine:
            keeper, weights = engine._loop._stepper.keeper, engine._loop.runner.weights
            engine.generate("warm", sampling=SamplingParams(max_tokens=2))
            mx.clear_cache()
            mx.reset_peak_memory()
            ends = dict.fromkeys(engine._loop.model.end_tokens, -100.0)
            settings = SamplingParams(temperature=0, max_tokens=_ANSWER, logit_bias=ends)
            handles = [engine.submit([Message("user", parts)], sampling=settings) for parts in requests]
            promised = 0
            while not all(handle.done for handle in handles):
                promised = max(promised, keeper.ledger.promised.total)
                time.sleep(0.005)
            measured = mx.get_peak_memory() - base
        yield name, weights + promised, measured
        del handles, keeper, engine


def main() -> None:
    print(f"{'mix':<26} {'estimated':>10} {'measured':>10} {'ratio':>6}")
    for name, estimated, measured in measure(model.make()):
        print(f"{name:<26} {size(estimated):>10} {size(measured):>10} {estimated / measured:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
