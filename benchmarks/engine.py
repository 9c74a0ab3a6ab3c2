"""The engine beside its peers, in one run on a random model of about 34 M parameters (fp32).

    python -m benchmarks.engine [--json FILE] [--docs FILE] [--only NAME ...]

Each figure is a ratio of two things measured in turns, with its quartiles: the machine may be noisy. `--docs` writes
the table between the marks of a Markdown file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()

import mlx.core as mx  # noqa: E402

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams  # noqa: E402
from omlx_jupyter.cache.prefix_cache import CacheSettings  # noqa: E402
from omlx_jupyter.engine.scheduler import Limits  # noqa: E402
from tests.conftest import noise_image  # noqa: E402

from . import model as bench_model  # noqa: E402
from . import restore  # noqa: E402
from .pairs import PAIRS, Pair, alternate  # noqa: E402
from .peers import MlxLm, MlxVlm  # noqa: E402

PROMPT = "x" * 100
LONG = "x" * 4000
MARKS = "<!-- benchmarks.engine -->", "<!-- end -->"


@dataclass(frozen=True)
class Figure:
    """`unit` is of `first` and `second`; `aim` is what the ratio should be."""

    name: str
    first: str
    second: str
    unit: str
    pair: Pair
    aim: str


def greedy(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=tokens)


def rate(engine: Engine, rows: int, tokens: int) -> float:
    """Tokens per second while all rows decode: from the last row's second token on."""
    handles = [engine.submit(PROMPT, draft=False, sampling=greedy(5000)) for _ in range(rows)]
    while min(h.progress.tokens for h in handles) < 2:
        time.sleep(0.001)
    first, start = [h.progress.tokens for h in handles], time.perf_counter()
    while max(h.progress.tokens for h in handles) < max(first) + tokens:
        time.sleep(0.005)
    made = sum(h.progress.tokens for h in handles) - sum(first)
    seconds = time.perf_counter() - start
    for handle in handles:
        handle.cancel()
        handle.result()
    return made / seconds


class Bench:
    """Engines and peers, loaded once."""

    @cached_property
    def path(self) -> Path:
        return bench_model.make()

    @cached_property
    def text(self) -> Path:
        return bench_model.make_text()

    @contextmanager
    def engine(self, path: Path | None = None, ram: int = 0, **limits: Any) -> Iterator[Engine]:
        with Engine.load(path or self.path, limits=Limits(**limits), cache=CacheSettings(ram)) as engine:
            engine._loop.model.end_tokens = frozenset()  # no answer ends by itself
            yield engine

    def equal_rows(self) -> Iterator[Figure]:
        peer = MlxVlm(self.path, PROMPT)
        with self.engine(max_rows=32) as engine:
            bare = alternate(lambda: rate(engine, 1, 64), lambda: peer.bare(64))
            yield Figure("1 row", "engine", "bare forward loop", "tokens/s", bare, ">= 0.97")
            for rows, tokens in ((1, 48), (4, 24), (8, 16), (16, 12), (32, 8)):
                pair = alternate(
                    lambda rows=rows, tokens=tokens: rate(engine, rows, tokens),
                    lambda rows=rows, tokens=tokens: peer.rate(rows, tokens),
                )
                name = f"{rows} equal row{'s' * (rows > 1)}"
                yield Figure(name, "engine", "mlx-vlm BatchGenerator", "tokens/s", pair, ">= 1.03")

    def text_rows(self) -> Iterator[Figure]:
        peer = MlxLm(self.text, PROMPT)
        with self.engine(self.text, max_rows=32) as engine:
            for rows, tokens in ((1, 48), (8, 16), (32, 8)):
                pair = alternate(
                    lambda rows=rows, tokens=tokens: rate(engine, rows, tokens),
                    lambda rows=rows, tokens=tokens: peer.rate(rows, tokens),
                )
                name = f"text model, {rows} row{'s' * (rows > 1)}"
                yield Figure(name, "engine", "mlx-lm BatchGenerator", "tokens/s", pair, ">= 1.03")

    def mixed_rows(self) -> Iterator[Figure]:
        """Seven short rows beside one of 4,000 tokens."""
        with self.engine(max_rows=8) as engine:

            def short() -> float:
                began = time.perf_counter()
                for handle in [engine.submit("y" * 50 + str(k), draft=False, sampling=greedy(48)) for k in range(7)]:
                    handle.result()
                return time.perf_counter() - began

            bytes_alone: list[float] = []

            def beside() -> float:
                long = engine.submit(LONG, draft=False, sampling=greedy(5000))
                while not long.progress.tokens:
                    time.sleep(0.005)
                own = engine.stats().kv_bytes
                began = time.perf_counter()
                handles = [engine.submit("y" * 50 + str(k), draft=False, sampling=greedy(48)) for k in range(7)]
                most = 0
                while not all(handle.done for handle in handles):
                    most = max(most, engine.stats().kv_bytes)
                    time.sleep(0.01)
                seconds = time.perf_counter() - began
                shorts = sum(h.usage.prompt_tokens + h.usage.completion_tokens for h in handles)
                bytes_alone.append(most / (own + shorts * self.token_bytes))
                long.cancel()
                long.result()
                return seconds

            yield Figure("7 short rows", "beside a row of 4,000", "alone", "s", alternate(beside, short), "<= 1.7")
            kv = sorted(bytes_alone)[len(bytes_alone) // 2]
            yield Figure("KV of these 8 rows", "held", "the rows' own", "of own", Pair(kv, 1.0, kv, kv, kv), "<= 1.15")

    @cached_property
    def token_bytes(self) -> int:
        return 8 * 8 * 64 * 2 * 4  # layers, heads, width, keys and values, fp32

    def one_picture(self) -> Iterator[Figure]:
        """Ten requests at once with the same picture and text."""

        def asked(n: int, seed: int) -> list[Message]:
            return [Message("user", [ImagePart(noise_image(448, 448, seed)), "words " * 80, f"{n}?"])]

        seeds = iter(range(10_000))
        with self.engine(ram=2**28, max_rows=10) as engine:

            def ask(count: int) -> float:
                seed, began = next(seeds), time.perf_counter()
                handles = [engine.submit(asked(n, seed), draft=False, sampling=greedy(1)) for n in range(count)]
                for handle in handles:
                    handle.result()
                return time.perf_counter() - began - min(h.usage.prepare_s for h in handles)

            pair = alternate(lambda: ask(10), lambda: ask(1))
            yield Figure("prefill of ten that share", "ten at once", "one", "s", pair, "<= 1.3")

    def gaps(self) -> Iterator[Figure]:
        """The longest wait of a running row for a token, while 4,000 tokens are prefilled; the target beside it."""
        with self.engine(max_rows=4) as engine:
            target = engine._loop._runner.gap_s

            def longest() -> float:
                running = engine.submit(PROMPT, draft=False, sampling=greedy(5000))
                while running.progress.tokens < 5:
                    time.sleep(0.002)
                long = engine.submit(LONG, draft=False, sampling=greedy(1))
                found: list[float] = []
                watcher = threading.Thread(target=_watch, args=(running, long, found))
                watcher.start()
                long.result()
                watcher.join()
                running.cancel()
                running.result()
                return max(found)

            pair = alternate(longest, lambda: target)
            yield Figure("longest gap between tokens", "while 4,000 tokens prefill", "target", "s", pair, "<= 1.5")

    def restores(self) -> Iterator[Figure]:
        """KV from the page cache, with its checks, beside numpy's own read of the same bytes."""
        found = restore.measure(4096)
        size = found["bytes"] / 1e9
        for name in ("fresh memory", "memory that is there"):
            p = found[name]
            rates = Pair(size / p.second, size / p.first, p.ratio, p.low, p.high)
            aim = ">= 0.6" if name == "fresh memory" else ""
            yield Figure("restore of 4,096 tokens", "checked", f"numpy's read into {name}", "GB/s", rates, aim)

    def joins(self) -> Iterator[Figure]:
        """A short request that comes while another row decodes, beside one that comes to an idle engine."""
        numbers = iter(range(10_000))
        with self.engine(max_rows=4) as engine:

            def first_token() -> float:
                handle = engine.submit(f"{next(numbers)} {PROMPT}", draft=False, sampling=greedy(2))
                return float(handle.result().usage.ttft_s)

            def beside() -> float:
                running = engine.submit(PROMPT, draft=False, sampling=greedy(5000))
                while running.progress.tokens < 3:
                    time.sleep(0.002)
                seconds = first_token()
                running.cancel()
                running.result()
                return seconds

            yield Figure("first token of 100", "beside a running row", "alone", "s", alternate(beside, first_token), "")

    def pages(self) -> Iterator[Figure]:
        """64 small pictures with a short question, all at once, beside one after the other."""
        seeds = iter(range(10_000))
        with self.engine(max_rows=16) as engine:

            def asked() -> list[Message]:
                return [Message("user", [ImagePart(noise_image(112, 112, next(seeds))), "What is it?"])]

            def together() -> float:
                began = time.perf_counter()
                for handle in [engine.submit(asked(), draft=False, sampling=greedy(8)) for _ in range(64)]:
                    handle.result()
                return time.perf_counter() - began

            def one_by_one() -> float:
                began = time.perf_counter()
                for _ in range(64):
                    engine.submit(asked(), draft=False, sampling=greedy(8)).result()
                return time.perf_counter() - began

            pair = alternate(together, one_by_one)
            yield Figure("64 pages of 8 tokens", "at once", "one after the other", "s", pair, "< 1")


def _watch(running: Any, until: Any, found: list[float]) -> None:
    last = time.perf_counter()
    while not until.done:
        items, _ = running.poll(0.02)
        if items:
            now = time.perf_counter()
            found.append(now - last)
            last = now


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "equal": Bench.equal_rows,
    "text": Bench.text_rows,
    "mixed": Bench.mixed_rows,
    "picture": Bench.one_picture,
    "gaps": Bench.gaps,
    "joins": Bench.joins,
    "pages": Bench.pages,
    "restore": Bench.restores,
}


def device() -> str:
    name = str(mx.device_info().get("device_name") or mx.device_info().get("architecture") or "CPU")
    kind = mx.default_device().type.name.upper()
    return f"{kind} ({name}), {os.cpu_count()} cores, {platform.system()}, mlx {mx.__version__}"


def table(figures: list[Figure]) -> str:
    lines = [
        f"Measured on {device()}: medians of {PAIRS} alternated pairs, quartiles of the ratio in brackets.",
        "",
        "| | first | second | ratio | aim |",
        "|---|---|---|---|---|",
    ]
    for f in figures:
        p = f.pair
        lines.append(
            f"| {f.name} ({f.unit}) | {f.first}: {p.first:.3g} | {f.second}: {p.second:.3g} "
            f"| {p.ratio:.2f} ({p.low:.2f} to {p.high:.2f}) | {f.aim} |"
        )
    return "\n".join(lines)


def write_between(path: Path, made: str) -> None:
    """Replace what stands between the marks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    path.write_text(f"{before}{MARKS[0]}\n{made}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    bench, figures = Bench(), list[Figure]()
    for name in args.only:
        for figure in PARTS[name](bench):
            figures.append(figure)
            print(
                f"{figure.name:30} {figure.pair.ratio:6.2f} ({figure.pair.low:.2f} to {figure.pair.high:.2f})",
                flush=True,
            )
    if args.json:
        made = {"device": device(), "pairs": PAIRS, "figures": [asdict(f) for f in figures]}
        args.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    if args.docs:
        write_between(args.docs, table(figures))
    print(table(figures))


if __name__ == "__main__":
    main()
