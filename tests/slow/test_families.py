"""Every picture family of mlx-vlm that a tiny checkpoint can be made of, and text families of mlx-lm: what the engine
answers is what these answer, alone, beside others and from the cache. `make families` runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.scheduler import Limits

from ..checkpoints.families import TEXT, VISION, make
from ..checkpoints.more import ALONE, MOE, SHOWN
from ..checkpoints.text import MORE_TEXT
from ..checkpoints.wide import WIDE
from ..conftest import endless, no_cache, noise_image
from ..parity.test_matrix import GREEDY, Family
from ..stress import work
from ..stress.conftest import processes  # noqa: F401

pytestmark = pytest.mark.slow

PROVED = Limits(prove_s=float("inf"))  # before the first answer, however slow the machine is just now
LONG = "Tell me about it. " * 6
ROWS: list[tuple[str, tuple[tuple[int, int, int], ...]]] = [
    ("What is it?", ((90, 60, 1),)),
    (LONG, ((60, 140, 2),)),
    ("Say something.", ()),
]
WORDS: list[tuple[str, tuple[tuple[int, int, int], ...]]] = [
    ("Hi", ()),
    ("What is it?", ()),
    (LONG, ()),
    (LONG * 2, ()),
]
SEVERAL = ("Compare", ((90, 60, 1), (60, 140, 2)))


@dataclass
class Loaded:
    """An engine over a family's checkpoint."""

    family: Family
    engine: Any
    seconds: float  # that it took to load, its proof included

    @property
    def model(self) -> Any:
        return self.engine._loop.model

    @property
    def shared(self) -> bool:
        return bool(self.model.family.batchable) and not self.model.alone_because

    @property
    def cached(self) -> bool:
        return bool(self.model.family.batchable) and not self.model.whole_because

    def asked(self) -> list[tuple[list[Message], list[int]]]:
        """Prompts of different lengths that the family takes, and mlx-vlm's own answers."""
        found = []
        for text, images in [*ROWS, SEVERAL] if self.family.sees else WORDS:
            messages = self.family.messages(text, images)
            try:
                found.append((messages, self.family.reference(messages, (text, images))))
            except Exception:  # a picture at a time, or one always, is what some take
                assert images != ROWS[0][1], "it takes no picture"
        assert len(found) > 1
        return found


@pytest.fixture(
    scope="module", params=[*sorted({**VISION, **MOE, **SHOWN, **ALONE, **WIDE}), *sorted({**TEXT, **MORE_TEXT})]
)
def loaded(request: Any, checkpoint: Callable[..., Path], tmp_path_factory: Any) -> Iterator[Loaded]:
    path = checkpoint(request.param)
    family = Family(request.param, path, tmp_path_factory.mktemp("pictures"))
    began = time.monotonic()
    with Engine.load(path, limits=PROVED, cache=no_cache()) as engine:
        yield Loaded(family, engine, time.monotonic() - began)


def test_loads(loaded: Loaded, record_property: Callable[[str, object], None]) -> None:
    """What it may not do is told, in words; what it may is noted for docs/families.md."""
    able = loaded.engine.capabilities
    record_property("requests", "batched" if loaded.shared else "alone")
    record_property("prompts", "cached" if loaded.cached else "whole")
    record_property("why", loaded.model.alone_because or loaded.model.whole_because)
    record_property("seconds", f"{loaded.seconds:.1f}")
    assert loaded.engine.sees == loaded.family.sees
    assert able.batched == loaded.shared
    for because in (loaded.model.alone_because, loaded.model.whole_because):
        assert "Error" not in because
    assert able.batched or able.why["batched"] == loaded.model.alone_because != ""
    with Engine.load(loaded.family.path, limits=PROVED, cache=CacheSettings(2**26)) as engine:
        able = engine.capabilities
        assert able.cached == loaded.cached
        assert able.cached or able.why["cached"]


def test_sees(loaded: Loaded) -> None:
    """Were pictures left out, all answers would be one."""
    if loaded.family.sees:
        variants = [loaded.family.messages("What is it?", ((90, 60, seed),)) for seed in range(3)]
    else:
        variants = [loaded.family.messages(text, ()) for text in ("one", "two", "three")]
    answers = [tuple(loaded.engine.generate(m, sampling=GREEDY).token_ids) for m in variants]
    assert len(set(answers)) > 1


def test_alone(loaded: Loaded) -> None:
    for messages, tokens in loaded.asked():
        assert loaded.engine.generate(messages, sampling=GREEDY).token_ids == tokens


def test_together(loaded: Loaded) -> None:
    todo = loaded.asked()
    company = [loaded.engine.submit(todo[0][0], sampling=endless(loaded.engine))] if loaded.shared else []
    handles = [loaded.engine.submit(messages, sampling=GREEDY) for messages, _ in todo]
    assert [h.result(60).token_ids for h in handles] == [tokens for _, tokens in todo]
    assert (max(h.usage.peak_rows for h in handles) > 1) == loaded.shared
    for row in company:
        row.cancel()


def test_beside_a_cancelled_row(loaded: Loaded) -> None:
    todo = loaded.asked()
    doomed = loaded.engine.submit(todo[-1][0], sampling=endless(loaded.engine))
    while doomed.progress.tokens < 3:
        time.sleep(0.002)
    handles = [loaded.engine.submit(messages, sampling=GREEDY) for messages, _ in todo]
    while loaded.shared and not any(h.progress.tokens >= 4 for h in handles):
        time.sleep(0.002)
    doomed.cancel()
    assert [h.result(60).token_ids for h in handles] == [tokens for _, tokens in todo]
    assert doomed.result(5).finish_reason == "cancelled"


def test_from_ram(loaded: Loaded) -> None:
    with Engine.load(loaded.family.path, limits=PROVED, cache=CacheSettings(2**26)) as engine:
        for again in (False, True):
            for messages, tokens in loaded.asked():
                made = engine.generate(messages, sampling=GREEDY)
                assert made.token_ids == tokens
                in_pieces = made.usage.images <= (getattr(loaded.model.vision, "most", 0) or made.usage.images)
                assert (made.usage.cached_tokens > 0) == (loaded.cached and in_pieces) or not again


def test_next_turn(loaded: Loaded) -> None:
    """A conversation goes on, from the cache where there is one; with a further picture where it takes two."""
    first = loaded.family.messages("What is it?", ((90, 60, 7),) if loaded.family.sees else ())
    turns: list[list[Any]] = [["And now?"]]
    turns += [[ImagePart(noise_image(120, 80, 8)), "And this?"]] if loaded.family.sees else []
    asked = 0
    with Engine.load(loaded.family.path, limits=PROVED, cache=CacheSettings(2**26)) as engine:
        said = engine.generate(first, sampling=GREEDY).text
        for index, turn in enumerate(turns):
            messages = [*first, Message("assistant", [said]), Message("user", turn)]
            try:
                tokens = loaded.family.reference(messages, f"turn {index}")
            except Exception:  # as in `asked`
                continue
            assert engine.generate(messages, sampling=GREEDY).token_ids == tokens
            asked += 1
    assert asked


def test_from_ssd_in_another_process(loaded: Loaded, tmp_path: Path, processes: Any) -> None:  # noqa: F811
    todo = loaded.asked()
    out = processes.Queue()
    for again in (False, True):
        args = (loaded.family.name, loaded.family.path, tmp_path, [m for m, _ in todo], out)
        child = processes.Process(target=_answers, args=args)
        child.start()
        answers = out.get(timeout=120)
        child.join(30)
        assert [tokens for tokens, _ in answers] == [tokens for _, tokens in todo]
        assert (answers[0][1] > 0) == (loaded.cached and again)


def _answers(family: str, path: Path, folder: Path, prompts: list[list[Message]], out: Any) -> None:
    """In a process of its own: (tokens, cached tokens) a prompt."""
    make(family, folder / "small")  # sizes that are no part of a config are made small in the family's classes
    with work.open_engine(path, folder, ram=1) as engine:
        made = [engine.generate(messages, sampling=GREEDY) for messages in prompts]
    out.put([(m.token_ids, m.usage.cached_tokens) for m in made])
