"""A new picture is encoded while the disk is read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.cache.ssd import SsdTier
from omlx_jupyter.models.loaded import LoadedModel

from ..conftest import no_cache, noise_image

GREEDY = SamplingParams(temperature=0, max_tokens=8)
OLD, NEW = (ImagePart(noise_image(84, 84, seed)) for seed in (1, 2))
FIRST = [Message("user", [OLD, "What is it? " * 20])]
NEXT = [*FIRST, Message("assistant", ["A thing."]), Message("user", [NEW, "And this?"])]


@pytest.mark.parametrize("damaged", [False, True])
def test_the_disk_and_the_tower_work_side_by_side(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: Any, damaged: bool
) -> None:
    path, settings = checkpoint("qwen2_vl"), CacheSettings(2**26, 2**28, tmp_path / "cache")
    with Engine.load(path, cache=no_cache()) as plain:
        wanted = plain.generate(NEXT, sampling=GREEDY).token_ids
    with Engine.load(path, cache=settings) as engine:
        engine.generate(FIRST, sampling=GREEDY)
    encoded, beside = threading.Event(), []
    read, encode = SsdTier.read, LoadedModel.encode_image

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        beside.append(encoded.wait(10))
        return None if damaged and len(beside) == 1 else read(self, *args, **kwargs)

    def seen(self: Any, image: Any) -> Any:
        made = encode(self, image)
        encoded.set()
        return made

    monkeypatch.setattr(SsdTier, "read", slow)
    monkeypatch.setattr(LoadedModel, "encode_image", seen)
    with Engine.load(path, cache=settings) as engine:
        found = engine.generate(NEXT, sampling=GREEDY)
    assert beside[0]
    assert found.token_ids == wanted
    assert found.usage.cached_tokens_ssd
    assert found.usage.images_encoded == 1
