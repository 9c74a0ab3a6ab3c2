"""Metal isn't here: the calls that it needs are watched in its place, in the engine that makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from omlx_jupyter import Engine
from omlx_jupyter.models import device

from ..conftest import endless, no_cache


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for name in ("set_wired_limit", "set_cache_limit"):
        monkeypatch.setattr(mx, name, lambda size, name=name: found.append((name, size)))
    real = mx.clear_cache
    monkeypatch.setattr(mx, "clear_cache", lambda: (found.append(("clear_cache", 0)), real())[1])
    return found


def test_a_held_model_is_wired_and_let_go(
    checkpoint: Callable[..., Path], calls: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(device, "working_set", lambda: 2**34)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    with Engine.load(checkpoint("qwen2"), cache=no_cache()) as engine:
        assert calls == [("set_wired_limit", 2**34), ("set_cache_limit", 2**30)]
        engine.generate("go on", sampling=endless(engine, max_tokens=520))
        assert calls.count(("clear_cache", 0)) == 2
    assert calls[-2:].count(("set_wired_limit", 0)) + calls[-3:].count(("set_wired_limit", 0)) >= 1


def test_a_cpu_is_left_alone(checkpoint: Callable[..., Path], calls: list[tuple[str, int]]) -> None:
    if device.on_gpu():
        pytest.skip("this machine has a GPU")
    with Engine.load(checkpoint("qwen2"), cache=no_cache()) as engine:
        engine.generate("go on", sampling=endless(engine, max_tokens=260))
        assert not calls
