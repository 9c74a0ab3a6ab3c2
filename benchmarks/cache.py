"""Time to first token cold, from RAM and from SSD, beside mlx-vlm's own prefix cache, in one run.

    python -m benchmarks.cache [--json FILE] [--plot FILE]

A prompt of about 4,000 tokens with two pictures, a random model of about 34 M parameters in fp32. Every
figure is a ratio to the cold run of the same engine in the same process kind: the machine may be noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()

from PIL import Image  # noqa: E402

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams  # noqa: E402
from omlx_jupyter.cache import check  # noqa: E402
from omlx_jupyter.cache.files import SegmentReader  # noqa: E402
from omlx_jupyter.cache.prefix_cache import CacheSettings  # noqa: E402
from tests.conftest import noise_image  # noqa: E402

from . import model as bench_model  # noqa: E402

LONG = "The quick brown fox jumps over the lazy dog, and then it rests. " * 48
ONE = SamplingParams(temperature=0, max_tokens=1)


def pictures() -> list[Image.Image]:
    return [noise_image(616, 448, seed) for seed in range(3)]


def turn(*parts: Any) -> list[Message]:
    return [Message("user", [ImagePart(p) if isinstance(p, Image.Image) else p for p in parts])]


def conversations() -> dict[str, list[Message]]:
    a, b, c = pictures()
    first = turn(a, b, LONG, "What do they show?")
    return {
        "same": first,
        "new question": turn(a, b, LONG, "How many colours?"),
        "next turn": [*first, Message("assistant", ["Blocks."]), Message("user", ["Which colours?"])],
        "added picture": [*first, Message("assistant", ["Blocks."]), Message("user", [ImagePart(c), "And this?"])],
    }


def ours(path: Path, cache: CacheSettings, names: list[str], settle: bool = True) -> list[dict[str, float]]:
    with Engine.load(path, cache=cache) as engine:
        engine.generate("warm up", sampling=ONE)
        rows = []
        for name in names:
            made = engine.generate(conversations()[name], sampling=ONE)
            rows.append({
                "ttft": made.usage.ttft_s - made.usage.prepare_s,
                "whole": made.usage.ttft_s,
                "tokens": made.usage.prompt_tokens,
                "cached": made.usage.cached_tokens,
                "encoded": made.usage.images_encoded,
            })  # fmt: skip
            if settle:
                time.sleep(1.5)
        return rows


def theirs(path: Path, names: list[str], disk: Path | None, manager: Any = "make") -> list[dict[str, float]]:
    """mlx-vlm's stream_generate with its APC; `manager` None is plain generation."""
    import mlx_vlm
    from mlx_vlm import apc

    from omlx_jupyter.models.loader import load_model

    model, processor = mlx_vlm.load(str(path))
    loaded = load_model(path)
    if manager == "make":
        store = apc.DiskBlockStore(disk, namespace="bench") if disk else None
        manager = apc.APCManager(num_blocks=1024, block_size=16, disk=store)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        list(mlx_vlm.stream_generate(model, processor, "warm up", max_tokens=1))
        done: list[str] = []
        for name in names:
            messages = conversations()[name]
            prompt, _ = loaded.tokenizer.render(messages)
            files = []
            for part in (p for m in messages for p in m.parts if isinstance(p, ImagePart)):
                files.append(f"{folder}/{len(files)}.png")
                part.source.save(files[-1])
            extra = {} if manager is None else {"apc_manager": manager}
            began = time.perf_counter()
            for item in mlx_vlm.stream_generate(model, processor, prompt, image=files, max_tokens=1, **extra):
                if len(rows) < len(done) + 1:  # go on to the end: its cache stores only then
                    rows.append({"ttft": time.perf_counter() - began, "cached": getattr(item, "cached_tokens", 0) or 0})
            done.append(name)
            time.sleep(1.5)
    if manager is not None and getattr(manager, "disk", None) is not None:
        time.sleep(3)
    return rows


def child(what: str, path: Path, folder: Path, names: list[str]) -> Any:
    """The same in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.cache", "--child", what, str(path), str(folder), ",".join(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_child(what: str, path: Path, folder: Path, names: list[str]) -> None:
    if what == "ours":
        rows = ours(path, CacheSettings(2**31, 2**33, folder), names, settle=False)
    elif what == "plain":
        rows = theirs(path, names, None, manager=None)
    else:
        rows = theirs(path, names, folder if what == "apc-disk" else None)
    print(json.dumps(rows))


def restore_speed(path: Path, folder: Path) -> dict[str, float]:
    """Bytes per second of a restore's reads and checks against a plain read of the same files."""
    from omlx_jupyter.cache.index import Index
    from omlx_jupyter.cache.ssd import SYMBOLS, SsdTier

    index = Index(folder)
    tier = SsdTier(folder, 2**33, "bench", "bench")
    runs = [rows for s, _, ready, *_ in index.segments() if ready == 1 and (rows := index.segment_blocks(s))]
    paths = [folder / "segments" / f"{rows[0].segment:012x}.safetensors" for rows in runs]
    size = sum(p.stat().st_size for p in paths)
    with SegmentReader(paths[0]) as reader:
        names = sorted(n for n in reader.entries if n != SYMBOLS and n.count(".") == 1 and len(n) < 8)

    def plain() -> None:
        for p in paths:
            p.read_bytes()

    def restore() -> None:
        for rows in runs:
            assert tier.read(sorted(rows, key=lambda r: r.start), names) is not None

    found: dict[str, float] = {"bytes": size}
    for name, read in (("plain", plain), ("restore", restore)):
        found[name] = size / min(_seconds(read, paths, cold=False) for _ in range(5))
        found[f"{name}, disk"] = size / min(_seconds(read, paths, cold=True) for _ in range(3))
    return found


def _seconds(read: Callable[[], None], paths: list[Path], cold: bool) -> float:
    """`cold`: the kernel forgets the files first, so that they come from the disk."""
    for p in paths if cold else ():
        handle = os.open(p, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    began = time.perf_counter()
    read()
    return time.perf_counter() - began


def decode_speed(path: Path, folder: Path) -> dict[str, float]:
    """Tokens per second at four rows with the tiers on and off, alternating."""
    found: dict[str, list[float]] = {"on": [], "off": []}
    for round_ in range(3):
        for name, cache in (("off", CacheSettings(0)), ("on", CacheSettings(2**30, 2**32, folder / f"d{round_}"))):
            with Engine.load(path, cache=cache) as engine:
                forbid = dict.fromkeys(engine._loop.model.end_tokens, -1e9)
                sampling = SamplingParams(temperature=0, max_tokens=300, logit_bias=forbid)
                handles = [engine.submit(f"{n} " * 200, sampling=sampling) for n in range(4)]
                while min(h.progress.tokens for h in handles) < 2:
                    time.sleep(0.001)
                first, began = sum(h.progress.tokens for h in handles), time.perf_counter()
                while max(h.progress.tokens for h in handles) < 290:
                    time.sleep(0.001)
                found[name].append((sum(h.progress.tokens for h in handles) - first) / (time.perf_counter() - began))
                for handle in handles:
                    handle.cancel()
    return {name: max(values) for name, values in found.items()}


def measure() -> dict[str, Any]:
    path = bench_model.make()
    work = Path(tempfile.mkdtemp(prefix="omlx-bench-cache-"))
    cases = ["new question", "next turn", "added picture"]
    names = ["same", "same", *cases]
    ram = ours(path, CacheSettings(2**31, 2**33, work / "ours"), names)
    (stored,) = check.entries(work / "ours")
    ssd = {name: child("ours", path, work / "ours", [name])[0] for name in ("same",)}
    for name in cases:  # what the first turn alone left on disk, in a process that knows nothing
        fresh = work / f"fresh-{name}".replace(" ", "-")
        child("ours", path, fresh, ["same"])
        ssd[name] = child("ours", path, fresh, [name])[0]
    apc_ram = child("apc-ram", path, work / "apc", names)
    child("apc-disk", path, work / "apc", ["same"])
    apc_ssd = [child("apc-disk", path, work / "apc", [name])[0] for name in ["same", *cases]]
    config = json.loads((path / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    raw = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * 4
    return {
        "tokens": ram[0]["tokens"],
        "ours": {"cold": ram[0], "ram": dict(zip(["same", *cases], ram[1:], strict=True)), "ssd": ssd},
        "plain": child("plain", path, work / "apc", ["same"])[0],
        "apc": {
            "cold": apc_ram[0],
            "ram": dict(zip(["same", *cases], apc_ram[1:], strict=True)),
            "ssd": dict(zip(["same", *cases], apc_ssd, strict=True)),
        },
        "restore": restore_speed(path, work / "ours"),
        "decode": decode_speed(path, work),
        "disk": {"bytes": stored.bytes, "tokens": stored.tokens, "of_raw": stored.bytes / (stored.tokens * raw)},
        "cores": os.cpu_count(),
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        f"prompt of {found['tokens']:,} tokens with two pictures, {found['cores']} cores",
        "",
        "| first token after | omlx_jupyter | of cold | cached | mlx-vlm APC | of cold | cached |",
        "|---|---|---|---|---|---|---|",
    ]
    cold, apc = found["ours"]["cold"]["ttft"], found["apc"]["cold"]["ttft"]
    lines.append(f"| cold | {cold:.2f} s | 1 | 0 | {apc:.2f} s | 1 | 0 |")
    for tier, label in (("ram", "RAM"), ("ssd", "SSD, fresh process")):
        for name, row in found["ours"][tier].items():
            other = found["apc"][tier][name]
            lines.append(
                f"| {label}: {name} | {row['ttft'] * 1000:.0f} ms | {row['ttft'] / cold:.4f} | {row['cached']:,} "
                f"| {other['ttft'] * 1000:.0f} ms | {other['ttft'] / apc:.4f} | {other['cached']:,} |"
            )
    speed, decode = found["restore"], found["decode"]
    lines += [
        "",
        f"- mlx-vlm's plain generate: {found['plain']['ttft']:.2f} s",
        *(
            f"- restore, {where}: {speed['restore' + key] / 2**20:,.0f} MiB/s, checksums included; a plain read of the "
            f"same files {speed['plain' + key] / 2**20:,.0f} MiB/s: {speed['restore' + key] / speed['plain' + key]:.2f}"
            for where, key in (("from the page cache", ""), ("from the disk", ", disk"))
        ),
        f"- on disk {found['disk']['bytes'] / 2**20:,.0f} MiB for {found['disk']['tokens']:,} tokens, pictures' "
        f"features included: {found['disk']['of_raw']:.3f} of their raw KV",
        f"- decode at four rows with the cache on / off: {decode['on'] / decode['off']:.3f}",
    ]
    return "\n".join(lines)


def plot(found: dict[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(found["ours"]["ram"])
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    series = (("omlx_jupyter, RAM", "ours", "ram"), ("omlx_jupyter, SSD", "ours", "ssd"),
              ("mlx-vlm APC, RAM", "apc", "ram"), ("mlx-vlm APC, SSD", "apc", "ssd"))  # fmt: skip
    for index, (label, who, tier) in enumerate(series):
        values = [found[who][tier][name]["ttft"] / found[who]["cold"]["ttft"] for name in names]
        axes.bar([at + 0.2 * index for at in range(len(names))], values, 0.19, label=label)
    axes.set_yscale("log")
    axes.set_ylabel("first token, share of the cold run")
    axes.set_xticks([at + 0.3 for at in range(len(names))], names)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--child", nargs=4)
    args = parser.parse_args()
    if args.child:
        what, path, folder, names = args.child
        run_child(what, Path(path), Path(folder), names.split(","))
        return
    found = measure()
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(found, args.plot)


if __name__ == "__main__":
    main()
