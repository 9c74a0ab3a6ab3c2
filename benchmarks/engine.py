"""Decode speed, fairness and the cost of joins, in one run on a random model of about 34 M parameters.

    python -m benchmarks.engine [--json FILE] [--tokens 64]

Figures are ratios within the run: the machine may be noisy. mlx-vlm's BatchGenerator and a bare
forward loop run in the same process on the same weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()

import mlx.core as mx  # noqa: E402

from omlx_jupyter import Engine, SamplingParams  # noqa: E402
from omlx_jupyter.cache.prefix_cache import CacheSettings  # noqa: E402
from omlx_jupyter.engine.scheduler import Limits  # noqa: E402
from omlx_jupyter.models.kv_state import SlotBatch, new_row_cache  # noqa: E402

from . import model as bench_model  # noqa: E402

PROMPT = "x" * 100


def greedy(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=tokens)


def bare_loop(path: Path, tokens: int) -> float:
    """Tokens per second of one row: forward, argmax, async_eval, nothing else."""
    import mlx_vlm

    model, processor = mlx_vlm.load(str(path))
    ids = processor.tokenizer.encode(PROMPT)
    caches = new_row_cache(model.language_model)
    positions = mx.broadcast_to(mx.arange(len(ids))[None, None], (3, 1, len(ids)))
    logits = model.language_model(mx.array([ids]), cache=caches, position_ids=positions).logits
    token = mx.argmax(logits[:, -1], axis=-1)
    mx.eval(token)
    start = time.perf_counter()
    for step in range(tokens):
        position = mx.full((3, 1, 1), len(ids) + step)
        following = mx.argmax(
            model.language_model(token[:, None], cache=caches, position_ids=position).logits[:, -1], axis=-1
        )
        mx.async_eval(following)
        token.item()
        token = following
    return tokens / (time.perf_counter() - start)


def theirs(path: Path, rows: int, tokens: int) -> float:
    """Tokens per second of mlx-vlm's BatchGenerator, all rows decoding."""
    import mlx_vlm
    from mlx_vlm.generate.ar import BatchGenerator

    model, processor = mlx_vlm.load(str(path))
    ids = processor.tokenizer.encode(PROMPT)
    generator = BatchGenerator(model.language_model, processor, max_tokens=tokens, stop_tokens=set())
    embeds = model.get_input_embeddings(mx.array([ids]), None).inputs_embeds
    generator.insert([ids] * rows, max_tokens=tokens, prompt_kwargs=[{"inputs_embeds": embeds}] * rows)
    made, start = 0, 0.0
    while made < rows * tokens:
        _, responses = generator.next()
        if responses and not start:
            start = time.perf_counter()
            continue
        made += len(responses)
        if start and not responses:
            break
    return made / (time.perf_counter() - start)


def mlx_lms(path: Path, rows: int, tokens: int) -> float:
    """Tokens per second of mlx-lm's BatchGenerator, all rows decoding."""
    import mlx_lm
    from mlx_lm.generate import BatchGenerator

    model, tokenizer = mlx_lm.load(str(path))[:2]
    generator = BatchGenerator(model, max_tokens=tokens, stop_tokens=[])
    generator.insert([tokenizer.encode(PROMPT)] * rows, max_tokens=[tokens] * rows)
    made, start = 0, 0.0
    while True:
        _, responses = generator.next()
        if len(responses) == rows and not start:
            start = time.perf_counter()
            continue
        made += len(responses) if start else 0
        if start and not responses:
            break
    generator.close()
    return made / (time.perf_counter() - start)


def host_ms(engine: Any, tokens: int) -> float:
    """CPU milliseconds of the engine thread for a decode step at eight rows: Python, sampling, text. The forward
    pass runs on MLX's own threads."""
    loop, taken = engine._loop, []
    decode = loop._decode

    def timed() -> None:
        start = time.thread_time()
        decode()
        taken.append(time.thread_time() - start)

    loop._decode = timed
    try:
        ours(engine, 8, tokens)
    finally:
        loop._decode = decode
    return statistics.median(taken) * 1e3


def ours(engine: Any, rows: int, tokens: int) -> float:
    """Tokens per second while all rows decode: from the last row's first token to the first row's last."""
    handles = [engine.submit(PROMPT, sampling=greedy(tokens + 40)) for _ in range(rows)]
    while min(h.progress.tokens for h in handles) < 2:
        time.sleep(0.001)
    first, start = [h.progress.tokens for h in handles], time.perf_counter()
    while max(h.progress.tokens for h in handles) < tokens:
        time.sleep(0.005)
    made = sum(h.progress.tokens for h in handles) - sum(first)
    rate = made / (time.perf_counter() - start)
    for handle in handles:
        handle.cancel()
        handle.result()
    return rate


def fairness(engine: Any) -> dict[str, float]:
    """A running row and a short request, while a 4,096-token prompt prefills."""
    running = engine.submit(PROMPT, sampling=greedy(5000))
    gaps: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            items, _ = running.poll(0.02)
            if items:
                now = time.perf_counter()
                gaps.append(now - last)
                last = now

    while running.progress.tokens < 5:
        time.sleep(0.002)
    started = time.perf_counter()
    long = engine.submit("y" * 4000, sampling=greedy(2))
    while not long.progress.done:
        time.sleep(0.001)
    watcher = threading.Thread(target=watch)
    watcher.start()
    short = engine.submit("z" * 16, sampling=greedy(2))
    short.result()
    long.result()
    prefill = time.perf_counter() - started
    stop.set()
    watcher.join()
    running.cancel()
    running.result()
    chunk = prefill / (long.usage.prompt_tokens / 256)
    return {
        "prefill_4k_s": prefill,
        "chunk_s": chunk,
        "short_ttft_chunks": short.usage.ttft_s / chunk,
        "longest_gap_chunks": max(gaps) / chunk,
    }


def slots(path: Path) -> dict[str, float]:
    """Milliseconds for a row to join and to leave eight rows of 4,096 tokens (537 MB, 67 MB a row)."""
    import mlx_vlm

    model, _ = mlx_vlm.load(str(path))

    def row() -> list[Any]:
        caches = new_row_cache(model.language_model)
        for cache in caches:
            shape = (1, 4, 4096, 64)
            cache.update_and_fetch(mx.random.normal(shape), mx.random.normal(shape))
        mx.eval([c.state for c in caches])
        return caches

    store = SlotBatch(8)
    for slot in range(8):
        store.put(slot, row())
        mx.eval([c.state for c in store.caches])
    joins, leaves = [], []
    for _ in range(5):
        start = time.perf_counter()
        store.remove(3)
        leaves.append(time.perf_counter() - start)
        newcomer = row()
        start = time.perf_counter()
        store.put(3, newcomer)
        mx.eval([c.state for c in store.caches])
        joins.append(time.perf_counter() - start)
    return {"join_ms": statistics.median(joins) * 1e3, "leave_ms": statistics.median(leaves) * 1e3}


def one_round(
    path: Path, text: Path, tokens: int, rounds: dict[str, list[float]], table: dict[str, Any] | None
) -> None:
    """Every generator once; fairness and host time go into `table` where there is one."""

    def note(name: str, value: float) -> None:
        rounds.setdefault(name, []).append(value)

    note("bare loop, 1 row, tokens/s", bare_loop(path, tokens))
    with Engine.load(path, limits=Limits(max_rows=8), cache=CacheSettings(0)) as engine:
        engine._loop.model.end_tokens = frozenset()  # no answer ends by itself
        for rows in (1, 2, 4, 8):
            note(f"engine, {rows} rows, tokens/s", ours(engine, rows, tokens))
        if table is not None:
            table["host ms a step, 8 rows"] = host_ms(engine, tokens)
            table.update(fairness(engine))
    for rows in (1, 2, 4, 8):
        note(f"mlx-vlm BatchGenerator, {rows} rows, tokens/s", theirs(path, rows, tokens))
    with Engine.load(text, limits=Limits(max_rows=8), cache=CacheSettings(0)) as engine:
        engine._loop.model.end_tokens = frozenset()
        for rows in (1, 8):
            note(f"text model: engine, {rows} rows, tokens/s", ours(engine, rows, tokens))
    for rows in (1, 8):
        note(f"text model: mlx-lm BatchGenerator, {rows} rows, tokens/s", mlx_lms(text, rows, tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    path, text = bench_model.make(), bench_model.make_text()
    rounds: dict[str, list[float]] = {}
    table: dict[str, Any] = {}
    for last in (False, False, True):  # in turns, so that a slow minute hits everyone
        one_round(path, text, args.tokens, rounds, table if last else None)
    table = {name: statistics.median(values) for name, values in rounds.items()} | table
    table.update(slots(path))
    table["ratio to the bare loop, 1 row"] = table["engine, 1 rows, tokens/s"] / table["bare loop, 1 row, tokens/s"]
    table["ratio to mlx-vlm, 8 rows"] = (
        table["engine, 8 rows, tokens/s"] / table["mlx-vlm BatchGenerator, 8 rows, tokens/s"]
    )
    table["ratio to mlx-lm, text model, 8 rows"] = (
        table["text model: engine, 8 rows, tokens/s"] / table["text model: mlx-lm BatchGenerator, 8 rows, tokens/s"]
    )
    for name, value in table.items():
        print(f"{name:48} {value:10.2f}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
