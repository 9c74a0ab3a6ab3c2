"""One bound of memory: what fits runs, what doesn't waits, what gives way goes first, and nothing leaks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.budget import Account, Ledger, Need
from omlx_jupyter.engine.pixels import Pixels
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.engine.shares import Others, Shares
from omlx_jupyter.engine.watch import MemoryWatch
from omlx_jupyter.errors import RequestError
from omlx_jupyter.models.prepared import Prepared, VisionInput

from ..conftest import endless, no_cache, noise_image

MIB = 2**20


def settled(engine: Any, done: Callable[[Any], bool], timeout: float = 10) -> Any:
    """The engine's memory, once it is as `done` wants it."""
    deadline = time.monotonic() + timeout
    while not done(engine.stats().memory) and time.monotonic() < deadline:
        time.sleep(0.02)
    return engine.stats().memory


# -- the ledger ---------------------------------------------------------------------------------


class Holder:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def allow(self, most: int) -> None:
        self.nbytes = min(self.nbytes, most)


def test_the_ram_tier_goes_first_then_features() -> None:
    ram, features = Holder(50), Holder(30)
    ledger = Ledger(
        200, {Account.WEIGHTS: lambda: 100}, lambda: 0, [(Account.RAM_TIER, ram), (Account.FEATURES, features)]
    )
    found = []
    for kv in (0, 40, 80, 100):
        ledger.promise(Need(kv))
        found.append((ram.nbytes, features.nbytes))
    assert found == [(50, 30), (30, 30), (0, 20), (0, 0)]
    assert ledger.room() == 100


def test_pressure_shrinks_the_ram_tier_alone(monkeypatch: Any) -> None:
    ram, features = Holder(50), Holder(30)
    ledger = Ledger(1000, {}, lambda: 0, [(Account.RAM_TIER, ram), (Account.FEATURES, features)])
    told: list[int] = []
    watch = MemoryWatch(ledger, Shares(None), 0, lambda: told.append(1))

    class Memory:
        total, available = 1000, 90  # 100 should be

    monkeypatch.setattr("omlx_jupyter.engine.watch.psutil.virtual_memory", lambda: Memory)
    watch.look()
    ledger.settle()
    assert (ram.nbytes, features.nbytes, ledger.pressure, ledger.stats().pressed, told) == (40, 30, 40, True, [1])
    Memory.available = 120  # not yet easy
    watch.look()
    assert ledger.pressure == 40
    Memory.available = 200
    watch.look()
    assert (ledger.pressure, told) == (None, [1, 1])


def test_a_picture_of_many_requests_counts_once() -> None:
    def prompt(*seeds: int) -> Prepared:
        return Prepared([1], [pictures[seed] for seed in seeds])

    pictures = {n: VisionInput(str(n), (1,), {"pixel_values": np.zeros(n, np.float32)}, 1, 1) for n in (10, 20)}
    pixels = Pixels()
    pixels.add(1, prompt(10))
    pixels.add(2, prompt(10, 20))
    assert (pixels.nbytes, pixels.of(2), pixels.largest) == (120, 120, 120)
    pixels.drop(1)
    pixels.drop(1)
    assert pixels.nbytes == 120
    pixels.drop(2)
    assert pixels.nbytes == 0


# -- several kernels ----------------------------------------------------------------------------


def test_kernels_see_each_other_and_the_dead_are_dropped(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from omlx_jupyter.engine.shares import Shares;"
        "s = Shares(Path(sys.argv[1])); s.publish(100, 20, 3); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        mine, second = Shares(tmp_path), Shares(tmp_path)
        assert mine.publish(7, 0) == Others(100, 20, 3, 1)
        assert second.publish(1, 1) == Others(107, 20, 3, 2)
        mine.leave()
        assert second.publish(1, 1).count == 1
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert second.publish(1, 1) == Others()
    assert (tmp_path / "memory.json").stat().st_mode & 0o777 == 0o600


def test_a_lock_that_the_dead_held_is_free(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); fcntl.flock(f, fcntl.LOCK_EX);"
        "os.write(f, b'{\"half'); print('locked', flush=True); time.sleep(60)"
    )
    path = tmp_path / "memory.json"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    shares = Shares(tmp_path)
    try:
        assert other.stdout.readline() == "locked\n"
        began = time.monotonic()
        assert shares.publish(1, 1) == Others()  # doesn't wait for ever
        assert time.monotonic() - began < 1
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    shares.publish(5, 6)
    assert [e["fixed"] for e in json.loads(path.read_text()).values()] == [5]


@pytest.mark.parametrize(
    "content", ["", "[]", "nonsense", '{"a": 3}', '{"a": {"pid": "x"}}', '{"a": {"pid": -1}}', "[" * 5000]
)
def test_whatever_the_file_says(tmp_path: Path, content: str) -> None:
    (tmp_path / "memory.json").write_text(content)
    shares = Shares(tmp_path)
    assert shares.publish(1, 2) == Others()
    assert Shares(tmp_path).publish(0, 0) == Others(1, 2, 0, 1)


def test_a_folder_that_cannot_be_written(tmp_path: Path, checkpoint: Callable[..., Path]) -> None:
    place = tmp_path / "file"
    place.write_text("no folder")
    assert Shares(place).publish(1, 2) == Others()
    assert Shares(None).publish(1, 2) == Others()
    with Engine.load(checkpoint("qwen2_vl"), cache=CacheSettings(MIB, 0, place)) as engine:
        assert engine.generate("go", sampling=endless(engine, max_tokens=3)).token_ids


def test_defaults_of_two_engines_do_not_add_up(
    tmp_path: Path, checkpoint: Callable[..., Path], monkeypatch: Any
) -> None:
    """What one holds is missing to the other; it waits, and goes on when the first has ended."""
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        runner = engine._loop.runner
        together = (
            2 * runner.weights + int(2.5 * (runner._kv(20, 800) * (1 + runner.copied) + runner.step_bytes)) + MIB // 4
        )
    monkeypatch.setattr("omlx_jupyter.models.memory.shared_bytes", lambda: together)
    monkeypatch.setattr("omlx_jupyter.engine.runner._LEAST_ROOM", 0)
    settings = CacheSettings(0, 0, tmp_path)
    first = Engine.load(checkpoint("qwen2_vl"), cache=settings)
    with Engine.load(checkpoint("qwen2_vl"), cache=settings) as second:
        weights = second.stats().memory.accounts["weights"]
        assert second.stats().memory.others >= weights
        sampling = endless(second, max_tokens=800)
        alone = first.generate("go", sampling=endless(first, max_tokens=20)).token_ids
        long = [first.submit("go", sampling=sampling, draft=False) for _ in range(2)]
        while not all(handle.progress.tokens for handle in long[:1]):
            time.sleep(0.01)
        waits = second.submit("go", sampling=sampling)
        seen = ""
        for _ in range(200):
            seen = second.stats().waiting_for or seen
            if "other kernels hold" in seen:
                break
            time.sleep(0.01)
        assert "other kernels hold" in seen
        first.close()
        out = waits.result(60)
        assert out.token_ids[:20] == alone
        assert second.stats().memory.others == 0


# -- requests -----------------------------------------------------------------------------------


def test_what_can_never_fit_is_refused_with_both_numbers(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(memory_bytes=4 * MIB), cache=no_cache()) as engine:
        with pytest.raises(RequestError, match=r"needs about [\d.]+ MiB, but at most [\d.]+ MiB are there.*shorten it"):
            engine.generate("x" * 6000)
        with pytest.raises(RequestError, match=r"use fewer or smaller pictures, or allow the engine more memory"):
            engine.generate("x", [noise_image(900, 900)])
        out = engine.generate("go", sampling=endless(engine, max_tokens=100_000))
        assert out.finish_reason == "length"
        assert "memory" in out.detail
        assert engine.stats().failed == 2


def test_a_row_that_was_dropped_goes_on_with_the_same_tokens(checkpoint: Callable[..., Path], monkeypatch: Any) -> None:
    """A background row gives its memory to a cell; sampling, a stop string and a grammar are the same afterwards."""
    from omlx_jupyter.engine.runner import Runner

    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 4},
        {"temperature": 1.0, "repetition_penalty": 1.2},
        {"json_schema": schema, "temperature": 1.0, "seed": 1},
        {"logprobs": 1},
    ]
    path = checkpoint("qwen2_vl")
    dropped: list[int] = []
    drop = Runner.drop
    monkeypatch.setattr(
        Runner, "drop", lambda self, row: (dropped.append(len(row.request.answer.token_ids)), drop(self, row))[1]
    )
    with Engine.load(path, cache=no_cache()) as engine:
        one = engine.submit("go" * 300, sampling=endless(engine, max_tokens=80))
        need = one._request  # its prompt state stays
        one.result(60)
        keeper = engine._loop._stepper.keeper
        budget = engine._loop.runner.weights + keeper.together([need.prompt.need]).total + MIB // 8
    for number, kind in enumerate(kinds):
        dropped.clear()
        draft = "logprobs" not in kind  # whose last bits depend on how wide a step is
        with Engine.load(path, limits=Limits(memory_bytes=budget), cache=no_cache()) as engine:
            sampling = endless(engine, max_tokens=80, **kind)
            if kind.get("json_schema"):
                sampling = SamplingParams(max_tokens=80, **kind)
            seeded = kind.get("seed") is not None or not kind.get("temperature")
            alone = engine.submit("go" * 300, sampling=sampling, draft=draft).result(60) if seeded else None
            handle = engine.submit("go" * 300, sampling=sampling, draft=draft).in_background()
            told = []
            while handle.progress.tokens < 5:
                told += handle.poll(0.001)[0]
            other = engine.generate("cell" * 150, sampling=endless(engine, max_tokens=80))
            assert len(other.token_ids) == 80
            out = handle.result(60)
            told += handle.poll()[0]
            if alone is not None and len(alone.token_ids) > 40:
                assert dropped, number
            if alone is not None:
                assert (out.token_ids, out.text, out.logprobs) == (alone.token_ids, alone.text, alone.logprobs)
            assert [t for d in told for t in d.token_ids] == out.token_ids
            assert "".join(d.text for d in told) == out.text
            assert settled(engine, lambda m: not m.promised).accounts[Account.PARKED] == 0


def test_pictures_of_those_that_wait_are_bounded_together(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(max_rows=1), cache=no_cache()) as engine:
        held = engine._loop._held
        one = engine.submit("x", [noise_image(200, 200, 99)], sampling=endless(engine, max_tokens=5))
        one.result(30)
        bound = 3 * held.pixels.largest
        held.pixel_room = lambda: bound
        blocker = engine.submit("go", sampling=endless(engine, max_tokens=300))
        handles = [
            engine.submit("x", [noise_image(200, 200, seed)], sampling=endless(engine, max_tokens=5))
            for seed in range(12)
        ]
        text = engine.submit("no picture", sampling=endless(engine, max_tokens=5))
        most, ready = 0, False
        while not all(h.done for h in handles):
            most = max(most, held.pixels.nbytes)
            ready = ready or (text._request in held.ready and held.unprepared != [])
            time.sleep(0.002)
        assert blocker.result(30)
        assert held.pixels.largest < most <= bound
        assert ready  # text isn't held up by pictures
        assert all(len(h.result(1).token_ids) == 5 for h in [*handles, text])
        assert held.pixels.nbytes == 0


# -- many requests at half their sum ------------------------------------------------------------


def mixed(count: int, seed: int) -> list[tuple[list[Message], int, bool]]:
    """(messages, tokens to say, in the background) of every kind."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        parts: list[Any] = [f"{number} " + "word " * rng.choice((1, 10, 60, 200))]
        for _ in range(rng.choice((0, 0, 1, 2))):
            size = rng.choice((56, 112, 224))
            parts.insert(0, ImagePart(noise_image(size, size, rng.randrange(6))))
        made.append(([Message("user", parts)], rng.choice((2, 8, 30)), rng.random() < 0.3))
    return made


def run_at_half(path: Path, count: int, folder: Path) -> None:
    asked = mixed(count, 5)
    with Engine.load(path, cache=no_cache()) as engine:
        runner = engine._loop.runner
        alone, needs = [], []
        for messages, tokens, _ in asked:
            handle = engine.submit(messages, sampling=endless(engine, max_tokens=tokens))
            request = handle._request
            alone.append(handle.result(60).token_ids)
            needs.append(request.prompt.need)
        weights, copied, step = runner.weights, runner.copied, runner.step_bytes
        del runner, handle, request
    mx.clear_cache()
    base = mx.get_active_memory()
    side_by_side = sum(sorted((need.kv for need in needs), reverse=True)[:8])
    largest = max(need.compute + int(need.kv * (1 + copied)) for need in needs) + step + 3 * MIB  # and its pixels
    budget = max(weights + max(need.compute for need in needs) + side_by_side // 2, weights + largest)
    limits = Limits(memory_bytes=budget)
    with Engine.load(path, limits=limits, cache=CacheSettings(64 * MIB, 64 * MIB, folder)) as engine:
        before = settled(engine, lambda m: not m.promised).accounts
        mx.reset_peak_memory()
        handles, peak, waited = [], 0, ""
        over = threading.Event()

        def watch() -> None:
            nonlocal peak, waited
            while not over.is_set():
                stats = engine.stats()
                peak = max(peak, mx.get_active_memory() - base)
                waited = stats.waiting_for if "memory" in stats.waiting_for else waited
                time.sleep(0.002)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for messages, tokens, later in asked:
                handle = engine.submit(messages, sampling=endless(engine, max_tokens=tokens))
                handles.append(handle.in_background() if later else handle)
            found = [handle.result(600).token_ids for handle in handles]
        finally:
            over.set()
            watcher.join()
        measured = max(peak, mx.get_peak_memory() - base)  # its processors give views of MLX arrays as pixels
        assert found == alone
        assert "memory" in waited
        print(f"budget {budget / MIB:.1f} MiB, peak {measured / MIB:.1f} MiB")
        assert measured <= 1.1 * budget
        engine.forget()
        after = settled(
            engine, lambda m: not m.promised and not m.accounts[Account.STAGING] and not m.accounts[Account.RAM_TIER]
        )
        left = {k: v for k, v in after.accounts.items() if k not in (Account.REMEMBERED, Account.FEATURES)}
        assert left == {k: v for k, v in before.items() if k in left}


def test_mixed_requests_at_half_their_memory(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    run_at_half(checkpoint("qwen2_vl"), 24, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
def test_two_hundred_mixed_requests_at_half_their_memory(
    checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    run_at_half(checkpoint(family), 200, tmp_path)


@pytest.mark.parametrize("error", [OSError("gone"), MemoryError(), RuntimeError("anything")])
@pytest.mark.parametrize("call", ["pread", "pwrite", "fstat", "open"])
def test_a_fault_of_what_kernels_share_is_worth_no_request(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = Shares(tmp_path), Shares(tmp_path)
    other.publish(7, 1)
    before = mine.publish(1, 1)
    assert before.fixed == 7

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        assert mine.publish(1, 1) == before
    assert mine.publish(1, 1).fixed == 7


def test_a_holder_that_fails_to_give_way_costs_no_request() -> None:
    class Broken:
        nbytes = 5

        def allow(self, most: int) -> None:
            raise RuntimeError("no")

    class Willing(Broken):
        most = 0

        def allow(self, most: int) -> None:
            self.most = most

    willing = Willing()
    ledger = Ledger(100, {}, lambda: 0, [(Account.RAM_TIER, Broken()), (Account.FEATURES, willing)])
    ledger.settle()
    assert willing.most > 0
