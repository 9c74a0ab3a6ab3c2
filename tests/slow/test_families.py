"""Every picture family of mlx-vlm that a tiny checkpoint can be made of: what the engine answers is what mlx-vlm
answers, alone, beside others and from the cache. `make families` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, Message
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.models.found import FoundModel

from ..checkpoints.wide import WIDE
from ..conftest import no_cache
from ..parity.test_matrix import GREEDY, Family

pytestmark = pytest.mark.slow

LONG = "Tell me about it. " * 6
SEES_ALWAYS = ("paligemma",)  # its processor refuses a prompt without a picture
ROWS: list[tuple[str, tuple[tuple[int, int, int], ...]]] = [
    ("What is it?", ((90, 60, 1),)),
    (LONG, ((60, 140, 2),)),
    ("Say something.", ()),
]
SEVERAL = ("Compare", ((90, 60, 1), (60, 140, 2)))


@dataclass
class Loaded:
    """An engine over a family's checkpoint."""

    family: Family
    engine: Any

    @property
    def shared(self) -> bool:
        return isinstance(self.engine._loop.model, FoundModel)

    def asked(self) -> list[tuple[list[Message], list[int]]]:
        """Prompts of different lengths, and mlx-vlm's own answers."""
        found = []
        for text, images in [*ROWS, SEVERAL] if self.shared else ROWS:
            seen = ((40, 90, 3),) if not images and self.family.name in SEES_ALWAYS else images
            messages = self.family.messages(text, seen)
            found.append((messages, self.family.reference(messages, (text, seen))))
        return found


@pytest.fixture(scope="module", params=WIDE)
def loaded(request: Any, checkpoint: Callable[..., Path], tmp_path_factory: Any) -> Iterator[Loaded]:
    path = checkpoint(request.param)
    family = Family(request.param, path, tmp_path_factory.mktemp("pictures"))
    with Engine.load(path, cache=no_cache()) as engine:
        yield Loaded(family, engine)


def test_it_is_shared_or_says_why(loaded: Loaded) -> None:
    assert loaded.engine.sees
    model = loaded.engine._loop.model
    assert model.family.batchable == loaded.shared
    assert loaded.shared or model.alone_because


def test_it_sees(loaded: Loaded) -> None:
    """Were pictures left out, all answers would be one."""
    variants = [loaded.family.messages("What is it?", ((90, 60, seed),)) for seed in range(3)]
    answers = [tuple(loaded.engine.generate(m, sampling=GREEDY).token_ids) for m in variants]
    assert len(set(answers)) > 1


def test_alone(loaded: Loaded) -> None:
    for messages, tokens in loaded.asked():
        assert loaded.engine.generate(messages, sampling=GREEDY).token_ids == tokens


def test_together(loaded: Loaded) -> None:
    todo = loaded.asked()
    handles = [loaded.engine.submit(messages, sampling=GREEDY) for messages, _ in todo]
    assert [h.result(60).token_ids for h in handles] == [tokens for _, tokens in todo]
    assert (max(h.usage.peak_rows for h in handles) > 1) == loaded.shared


def test_from_ram(loaded: Loaded) -> None:
    with Engine.load(loaded.family.path, cache=CacheSettings(2**26)) as engine:
        for again in (False, True):
            for messages, tokens in loaded.asked():
                made = engine.generate(messages, sampling=GREEDY)
                assert made.token_ids == tokens
                assert (made.usage.cached_tokens > 0) == loaded.shared or not again
