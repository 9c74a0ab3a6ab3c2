"""Many clients for long: the server's memory and open descriptors stay flat, and every answer is the right one.

8 clients and 200 requests in the ordinary run; OMLX_TORTURE_CLIENTS and OMLX_TORTURE_REQUESTS set other numbers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from omlx_jupyter import SamplingParams, connect

from ..conftest import noise_image
from .conftest import Served, end, start, until

CLIENTS = int(os.environ.get("OMLX_TORTURE_CLIENTS", "8"))
REQUESTS = int(os.environ.get("OMLX_TORTURE_REQUESTS", "200"))
WARM = 0.2  # of the requests: until caches, pools and buffers have their sizes
GROWS_MIB, GROWS_SHARE = 16.0, 0.03  # that the second half may have over the first after that
DESCRIPTORS = 8
STAYS = 25  # requests of a connection
SHORT = SamplingParams(max_tokens=4)


@pytest.fixture(scope="module")
def served(checkpoint: Callable[..., Path]) -> Iterator[Served]:
    # so little memory that the prefix cache's RAM tier is full in the warm-up: prompts that are new each fill it
    made = start(f"m{os.getpid()}", [str(checkpoint("qwen2_vl"))], "--memory-mib", "24")
    yield made
    end(made)


@dataclass
class Watch:
    """The server's process, looked at while requests end."""

    process: psutil.Process
    done: int = 0
    seen: list[tuple[float, int, int]] = field(
        default_factory=list
    )  # share of the requests, resident bytes, descriptors
    stop: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        while not self.stop.wait(0.02):
            look = (self.done / REQUESTS, self.process.memory_info().rss, self.process.num_fds())
            self.seen.append(look)

    def most(self, since: float, until: float) -> tuple[float, int]:
        """(MiB, descriptors) of a span of the requests."""
        found = [look for look in self.seen if since <= look[0] <= until]
        return max(look[1] for look in found) / 2**20, max(look[2] for look in found)


def asked(number: int) -> tuple[str, list[Any]]:
    """Every third has a picture of eight, every other words that no other request has."""
    picture = [noise_image(32, 32, number % 8)] if number % 3 == 0 else []
    return (f"Question {number}" if number % 2 else f"Question {number % 24}"), picture


def test_memory_and_descriptors_stay_flat(served: Served) -> None:
    watch, lock = Watch(psutil.Process(served.process.pid)), threading.Lock()
    numbers, right, wrong = iter(range(REQUESTS)), dict[tuple[str, int], list[int]](), list[int]()

    def take(count: int) -> list[int]:
        with lock:
            return list(islice(numbers, count))

    def client(_: int) -> int:
        ended = 0
        while some := take(STAYS):
            with connect(served.name) as engine:
                for number in some:
                    words, pictures = asked(number)
                    handle = engine.submit(words, pictures, SHORT)
                    if number % 10 == 9:  # a client that changes its mind
                        handle.cancel()
                    answer = handle.result(120)
                    with lock:
                        watch.done += 1
                        if number % 2 == 0 and answer.finish_reason != "cancelled":
                            known = right.setdefault((words, number % 24 if pictures else -1), list(answer.token_ids))
                            wrong.extend([number] if known != list(answer.token_ids) else [])
                ended += len(some)
        return ended

    looking = threading.Thread(target=watch.go_on)
    looking.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert sum(pool.map(client, range(CLIENTS))) == REQUESTS
    finally:
        watch.stop.set()
        looking.join()
    middle = WARM + (1 - WARM) / 2
    (first, first_open), (second, second_open) = watch.most(WARM, middle), watch.most(middle, 1.0)
    seconds = time.monotonic() - began
    print(
        f"{CLIENTS} clients, {REQUESTS} requests in {seconds:.0f} s: {first:.1f} then {second:.1f} MiB "
        f"resident, {first_open} then {second_open} descriptors at most; at the start {watch.seen[0][1:]}"
    )
    assert not wrong
    assert len(right) >= min(12, REQUESTS // 10)
    assert second <= first * (1 + GROWS_SHARE) + GROWS_MIB
    assert second_open <= first_open + DESCRIPTORS
    until(lambda: watch.process.num_fds() <= watch.seen[0][2] + DESCRIPTORS)  # who has left holds nothing
