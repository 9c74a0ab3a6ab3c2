"""One fault boundary: wherever something raises, only the requests concerned end, and the next one is right."""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.errors import OmlxError
from omlx_jupyter.models import switched

from ..conftest import noise_image
from .faults import Place, fault, functions_of, traced

EVERYWHERE = bool(os.environ.get("OMLX_TORTURE_FAULTS"))
ONLY = os.environ.get("OMLX_TORTURE_PLACES", "")  # a pattern that a place's name holds, to try a few again
PATIENCE_S = 30 if EVERYWHERE else 8  # the long run shares its machine
SAMPLE = 14  # places a family in an ordinary run
ERRORS = (
    RuntimeError("injected"),
    OSError(5, "injected"),
    ValueError("injected"),
    MemoryError(),
    TimeoutError("injected"),
)
# The boundary itself, and what ends a request. A fault there may end the engine; nobody may wait for ever.
BOUNDARY = (
    *("engine/guard.py", "engine/loop.py", "engine/events.py", "engine/request.py", "engine/phase.py"),
    *("engine/state.py", "engine/process.py"),
)
# What one row has to itself: its pictures, its prompt, its text, its sampling.
OWN = ("images/", "engine/row.py", "engine/stops.py", "engine/repetition.py", "models/tokenizer.py:TextStream")
CACHE = ("cache/", "engine/reuse.py", "models/kv_records.py", "models/identity.py", "os.")


HUNG = (-1,)


@dataclass(frozen=True)
class Outcome:
    tokens: tuple[tuple[int, ...] | None, ...]  # None where the request failed with an error of ours
    seconds: float


def requests() -> list[tuple[list[Message], SamplingParams]]:
    """Eight rows of every kind: long and short, pictures, a stop, a seed, penalties, logprobs, a grammar."""
    picture = ImagePart(noise_image(60, 64, 1))
    asks: list[tuple[list[Any], dict[str, Any]]] = [
        (["Be brief. " * 70, "What is it?"], {}),
        ([picture, "What is it?"], {}),
        (["Be brief. " * 70, picture, "And this?"], {"logprobs": 2}),
        ([ImagePart(noise_image(90, 64, 2)), picture, "Compare."], {}),
        (["Tell me."], {"temperature": 1.0, "seed": 5, "top_p": 0.9}),
        (["Tell me more."], {"repetition_penalty": 1.3, "max_tokens": 30}),
        (
            ["As JSON."],
            {"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
        ),
        (["Stop early."], {"stop": ("q", "zz"), "max_tokens": 30}),
    ]
    return [
        ([Message("user", parts)], SamplingParams(**{"temperature": 0, "max_tokens": 10, **s})) for parts, s in asks
    ]


def run(engine: Any) -> Outcome:
    """All of them at once; every handle ends, and what fails fails with an error of ours."""
    started = time.monotonic()
    handles = []
    for messages, sampling in requests():
        with contextlib.suppress(OmlxError):
            handles.append(engine.submit(messages, sampling=sampling))
    found: list[tuple[int, ...] | None] = [None] * (8 - len(handles))
    for handle in handles:
        try:
            found.append(tuple(handle.result(timeout=PATIENCE_S).token_ids))
        except OmlxError:
            found.append(None)
        except TimeoutError:
            found.append(HUNG)
    return Outcome(tuple(found), time.monotonic() - started)


class Bench:
    """An engine over a cache folder that is kept busy, reopened where a fault has ended it."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._settings = path, CacheSettings(2**25, 2**27, folder)
        self._engine: Any = None
        with traced() as self.places:
            self.expected = self.run_fresh()
            assert self.run().tokens == self.expected.tokens  # from RAM
            self.forget()
            assert self.run().tokens == self.expected.tokens  # from disk
            self.close()

    @property
    def engine(self) -> Any:
        if self._engine is None or self._engine.stats().state == "closed":
            self._engine = Engine.load(self._path, limits=Limits(prefill_chunk=64), cache=self._settings)
        return self._engine

    def run(self) -> Outcome:
        return run(self.engine)

    def run_fresh(self) -> Outcome:
        with Engine.load(self._path, limits=Limits(prefill_chunk=64), cache=CacheSettings(0)) as plain:
            return run(plain)

    def forget(self) -> None:
        self.engine.forget()
        deadline = time.monotonic() + 5
        while self.engine.stats().cache.ram_entries and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def chosen(self, seed: int) -> list[tuple[Place, int, bool]]:
        """(place, call, always) to try: a sample, or everything."""
        known = functions_of(p.code for p in self.places if p.code is not None)
        places = sorted((p for p in self.places if p.code is None or id(p.code) in known), key=lambda p: p.name)
        tries = [
            (p, first, always)
            for p in places
            for first, always in ((1, False), (4, False), (1, True))
            if not (always and p.name.startswith(BOUNDARY))  # a boundary that always fails is none
        ]
        if ONLY:
            return [each for each in tries if re.search(ONLY, each[0].name)]
        return tries if EVERYWHERE else random.Random(seed).sample(tries, 2 * SAMPLE)


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen3_5"])
def bench(
    request: pytest.FixtureRequest, checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    made = Bench(checkpoint(request.param), tmp_path_factory.mktemp("faults"))
    yield made
    made.close()


def check(bench: Bench, place: Place, outcome: Outcome, always: bool, fired: int) -> list[str]:
    """What went further than it may."""
    wrong = [
        f"row {i} {'hangs' if tokens == HUNG else 'has wrong tokens'}"
        for i, tokens in enumerate(outcome.tokens)
        if tokens not in (None, bench.expected.tokens[i])
    ]
    failed = outcome.tokens.count(None)
    if failed and not fired:
        wrong.append(f"{failed} failed without a fault")
    if failed and place.name.startswith(CACHE):
        wrong.append(f"a fault of the cache ended {failed} requests")
    if failed > 1 and not always and place.name.startswith(OWN):
        wrong.append(f"a fault of one row ended {failed} requests")
    return wrong


@pytest.mark.timeout(7200 if EVERYWHERE else 300)
def test_a_fault_goes_no_further_than_it_may(bench: Bench, capsys: Any) -> None:
    process = psutil.Process()
    bench.run()
    bench.close()
    threads, descriptors = threading.active_count(), process.num_fds()
    problems: dict[str, list[str]] = {}
    fired = 0
    for number, (place, first, always) in enumerate(bench.chosen(11)):
        if not EVERYWHERE and number >= SAMPLE and fired > SAMPLE // 3:
            break  # not every place is passed again once prompts are known
        bench.forget()
        with fault(place, ERRORS[number % len(ERRORS)], first, always) as armed:
            outcome = bench.run()
        fired += bool(armed.fired)
        wrong = check(bench, place, outcome, always, armed.fired)
        if HUNG in outcome.tokens or switched._off:  # what a fault switched off would spare the next places
            bench.close()
            switched._off.clear()
        if bench.engine.stats().decoding or bench.engine.stats().prefilling:
            wrong.append("a row is left")
        after = bench.run()
        if after.tokens != bench.expected.tokens:
            wrong.append(f"afterwards {after.tokens.count(None)} requests fail or are wrong")
        if wrong and EVERYWHERE:
            with capsys.disabled():
                print(place.name, first, always, ERRORS[number % len(ERRORS)], wrong, flush=True)
        if wrong:
            problems[f"{place.name} {first} {'always' if always else 'once'} ({ERRORS[number % len(ERRORS)]!r})"] = (
                wrong
            )
    bench.close()
    with capsys.disabled():
        print(f"\n{fired} faults in {len(bench.places)} places")
    assert not problems
    assert fired > (0 if ONLY else SAMPLE // 3)
    assert threading.active_count() <= threads
    assert process.num_fds() <= descriptors
