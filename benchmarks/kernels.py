"""What three kernels that use one model hold in memory: over a server, beside one with an engine of its own.

    python -m benchmarks.kernels [--model M] [--kernels 3]

Linux: proportional set sizes, in which what processes share counts once. Elsewhere what is theirs alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.manager import start_new_kernel

from omlx_jupyter.visible import size

_ASK = "%%vlm --temperature 0 --max-tokens 8\nkernel {number}: what is it like?"


def held(pid: int) -> int:
    """Bytes of a process and those that it started."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    found = [one.memory_full_info() for one in family]
    return sum(int(getattr(info, "pss", 0) or info.uss) for info in found)


@contextmanager
def kernel(first: str, number: int) -> Iterator[int]:
    """A real kernel that has answered: its process."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        for code in ("%load_ext omlx_jupyter", first, _ASK.format(number=number)):
            reply = client.execute_interactive(code, timeout=600, output_hook=lambda message: None)
            if reply["content"]["status"] != "ok":
                raise RuntimeError("\n".join(reply["content"]["traceback"]))
        yield int(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextmanager
def server(model: str) -> Iterator[int]:
    """A real server: its process."""
    from omlx_jupyter.remote import place

    command = [sys.executable, "-m", "omlx_jupyter", "serve", "--name", "bench", "--model", model]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while place.read("bench") is None:
            if process.poll() is not None:
                raise RuntimeError("the server has ended")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="", help="a folder or a hub id; without one a model of 450 M is made")
    parser.add_argument("--kernels", type=int, default=3)
    args = parser.parse_args()
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="omlx-", dir="/tmp")
    made: Path | None = None
    if not args.model:
        from .model import LARGE, make

        made = make(other=LARGE)
        args.model = str(made)
    try:
        with kernel(f"%omlx load {args.model}", 0) as pid:
            one = held(pid)
        print(f"one kernel with its own engine: {size(one)}", flush=True)
        several = over_a_server(args.model, args.kernels)
        print(f"ratio {several / one:.2f}")
    finally:
        if made is not None:
            shutil.rmtree(made)


def over_a_server(model: str, count: int) -> int:
    """Bytes of a server and `count` kernels that are connected to it, all of which have answered."""
    with server(model) as pid:
        running: list[Any] = [kernel("%omlx connect bench", number) for number in range(1, count + 1)]
        pids = [each.__enter__() for each in running]
        try:
            parts = [held(pid), *map(held, pids)]
        finally:
            for each in running:
                each.__exit__(None, None, None)
    print(f"a server {size(parts[0])} and {count} kernels {', '.join(map(size, parts[1:]))}")
    return sum(parts)


if __name__ == "__main__":
    main()
