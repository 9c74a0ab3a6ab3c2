"""`n`: several answers to one prompt, in one batch over one prefill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from omlx_jupyter import Engine
from omlx_jupyter.cache.prefix_cache import CacheSettings

ASKED = [{"role": "user", "content": "Say something. " * 30}]
OPTIONS = {"temperature": 1.0, "seed": 8, "max_tokens": 12, "messages": ASKED}


@pytest.fixture(scope="module")
def engine(checkpoint: Callable[..., Path]) -> Iterator[Any]:
    with Engine.load(checkpoint("qwen2_vl"), cache=CacheSettings(2**26)) as made:
        yield made


def test_several_choices(engine: Any) -> None:
    found = engine.chat.completions.create(n=4, **OPTIONS)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    texts = [choice.message.content for choice in found.choices]
    assert len(set(texts)) == 4
    assert engine.chat.completions.create(n=4, **OPTIONS).choices[2].message.content == texts[2]
    assert engine.chat.completions.create(**OPTIONS).choices[0].message.content == texts[0]
    one = engine.chat.completions.create(**OPTIONS).usage
    assert found.usage.prompt_tokens == one.prompt_tokens
    assert found.usage.completion_tokens > 2 * one.completion_tokens


def test_they_share_the_prompt_s_prefill(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=CacheSettings(2**26)) as made:
        made.chat.completions.create(n=5, **OPTIONS)
        assert made.stats().cache.tokens_ram >= 4 * (made.stats().cache.tokens_asked // 5 - 1)


def joined(chunks: list[Any], index: int) -> str:
    parts = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(part.delta.content or "" for part in parts)


def test_streams(engine: Any) -> None:
    whole = engine.chat.completions.create(n=3, **OPTIONS)
    chunks = list(engine.chat.completions.create(n=3, stream=True, **OPTIONS))

    async def stream() -> list[Any]:
        return [chunk async for chunk in await engine.async_chat.completions.create(n=3, stream=True, **OPTIONS)]

    for made in (chunks, anyio.run(stream)):
        assert [joined(made, i) for i in range(3)] == [choice.message.content for choice in whole.choices]
        ends = [choice.finish_reason for chunk in made for choice in chunk.choices if choice.finish_reason]
        assert len(ends) == 3
        assert [chunk.usage is not None for chunk in made].count(True) == 1
        assert made[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_reader_that_leaves_ends_them_all(engine: Any) -> None:
    stream = engine.chat.completions.create(n=3, stream=True, **{**OPTIONS, "max_tokens": 5000})
    next(stream)
    stream.close()
    deadline = time.monotonic() + 10
    while engine.requests() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine.requests()
