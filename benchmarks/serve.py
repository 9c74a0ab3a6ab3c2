"""What it costs to have the engine in another process: first token and tokens a second, over the socket against in the
kernel, in alternated pairs.

    python -m benchmarks.serve [--model M] [--pairs 9] [--clients 8] [--tokens 64]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()  # before anything imports MLX, which keeps the BLAS that it meets


def measured(engine: Any, clients: int, tokens: int, salt: str) -> tuple[float, float]:
    """(median seconds to the first token, tokens a second in all) of `clients` requests at once."""
    from omlx_jupyter import SamplingParams

    sampling = SamplingParams(max_tokens=tokens, temperature=0)
    began = time.perf_counter()
    handles = [engine.submit(f"{salt} {number}: tell me", sampling=sampling) for number in range(clients)]
    made = [handle.result(300) for handle in handles]
    took = time.perf_counter() - began
    return statistics.median(one.usage.ttft_s for one in made), sum(len(one.token_ids) for one in made) / took


def first_token(engine: Any, salt: str) -> float:
    """Seconds until this side has the first token."""
    from omlx_jupyter import SamplingParams

    sampling = SamplingParams(max_tokens=2, temperature=0)
    began = time.perf_counter()
    handle = engine.submit(f"{salt}: tell me about it, please", sampling=sampling)
    while not handle.poll(None)[0]:
        pass
    took = time.perf_counter() - began
    handle.result(60)
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="", help="a folder or a hub id; without one a 34 M model is made")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    if not args.model:
        from .model import make

        args.model = str(make())
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="omlx-", dir="/tmp")
    from omlx_jupyter import Engine, connect
    from omlx_jupyter.remote import place

    command = [sys.executable, "-m", "omlx_jupyter", "serve", "--name", "bench", "--model", args.model]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while place.read("bench") is None:
            time.sleep(0.05)
        began = time.perf_counter()
        there = connect("bench")
        connected = time.perf_counter() - began
        here = Engine.load(args.model)
        for where, engine in (("here", here), ("there", there)):  # kernels are compiled, libraries imported
            measured(engine, args.clients, args.tokens, f"warm {where}")
        firsts: dict[str, list[float]] = {"kernel": [], "served": []}
        rates: dict[str, list[float]] = {"kernel": [], "served": []}
        for pair in range(args.pairs):  # never the same prompt twice: both keep what was said in one cache
            order = (("kernel", here), ("served", there))
            for where, engine in order if pair % 2 else order[::-1]:
                firsts[where].append(statistics.median(first_token(engine, f"{where} f{pair}-{n}") for n in range(5)))
                rates[where].append(measured(engine, args.clients, args.tokens, f"{where} r{pair}")[1])
        ratio = [s / k for s, k in zip(firsts["served"], firsts["kernel"], strict=True)]
        speed = [s / k for s, k in zip(rates["served"], rates["kernel"], strict=True)]
        said = {
            "model": args.model,
            "pairs": args.pairs,
            "clients": args.clients,
            "connect_ms": round(1000 * connected, 1),
            "first_token_ms": {k: round(1000 * statistics.median(v), 2) for k, v in firsts.items()},
            "first_token_ratio": round(statistics.median(ratio), 3),
            "tokens_per_s": {k: round(statistics.median(v), 1) for k, v in rates.items()},
            "tokens_ratio": round(statistics.median(speed), 3),
        }
        print(json.dumps(said, indent=2))
        there.close()
        here.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
