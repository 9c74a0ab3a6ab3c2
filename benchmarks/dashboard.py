"""What an open dashboard costs while four rows decode: the share of the engine's speed, and of one core.

python -m benchmarks.dashboard
"""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

from omlx_jupyter.models.blas import preload_openblas

preload_openblas()

from omlx_jupyter.notebook.watch.dashboard import UPDATES_PER_S  # noqa: E402
from omlx_jupyter.notebook.watch.state import Watcher  # noqa: E402
from omlx_jupyter.notebook.work import session  # noqa: E402

from . import model as bench_model  # noqa: E402
from .engine import ours  # noqa: E402


def watch(stop: threading.Event, costs: list[float]) -> None:
    """What the dashboard's thread does, without a front end."""
    watcher = Watcher()
    while not stop.wait(1 / UPDATES_PER_S):
        began = time.thread_time()
        watcher.snapshot()
        costs.append(time.thread_time() - began)


def main() -> None:
    engine: Any = session.engine(str(bench_model.make()))
    engine._loop.model.end_tokens = frozenset()
    speeds: dict[bool, list[float]] = {True: [], False: []}
    costs: list[float] = []
    for _ in range(4):
        for shown in (False, True):
            stop = threading.Event()
            thread = threading.Thread(target=watch, args=(stop, costs))
            if shown:
                thread.start()
            speeds[shown].append(ours(engine, 4, 400))
            stop.set()
            if shown:
                thread.join()
    session.unload()
    ratio = statistics.median(speeds[True]) / statistics.median(speeds[False])
    print(f"decode at four rows with the dashboard / without: {ratio:.3f}")
    print(f"a snapshot takes {1e3 * statistics.median(costs):.2f} ms of CPU, {UPDATES_PER_S:g} a second: ", end="")
    print(f"{100 * UPDATES_PER_S * statistics.median(costs):.2f} % of one core")


if __name__ == "__main__":
    main()
