"""What RAM keeps: no view of an array that a row may still write, nothing that a user can change, and so many bytes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from omlx_jupyter import ImagePart, Message, SamplingParams
from omlx_jupyter.cache.features import FeatureCache
from omlx_jupyter.cache.keys import Block, root_key
from omlx_jupyter.cache.ram import RamTier
from omlx_jupyter.engine.reuse import make_room
from omlx_jupyter.engine.runner import Runner
from omlx_jupyter.models import kv_records, vision
from omlx_jupyter.models.kv_records import Room

from ..conftest import noise_image
from ..stress import work

ROOT = root_key("model")


def block(number: int = 0) -> Block:
    return Block(bytes([number]) * 16, ROOT, 0, np.arange(4, dtype=np.int64))


def entries(engine: Any) -> dict[int, tuple[Any, dict[str, bytes]]]:
    """Every payload of the RAM tier by its identity, which lives as long, and its arrays letter for letter."""
    held = engine._loop._runner.reuse.cache.ram._entries.values()
    return {id(entry.payload): (entry.payload, letters(entry.payload)) for entry in held}


def letters(payload: Any) -> dict[str, bytes]:
    return {name: bytes(np.array(array)) for name, array in payload.items()}


def uses(engine: Any) -> None:
    """Everything that restores: alone and together, in part, with more after it, greedy and drawn."""
    for numbers in ((1,), (5,), (1, 5, 9), (2, 6, 1)):
        handles = [engine.submit(work.prompt(n, engine.sees), sampling=work.GREEDY) for n in numbers]
        drawn = SamplingParams(temperature=1.0, seed=numbers[0], max_tokens=40)
        handles.append(engine.submit([*work.prompt(numbers[0], engine.sees)], sampling=drawn))
        for handle in handles:
            handle.result(30)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5", "gemma3_text", "llama_sliding"])
def test_no_row_changes_what_ram_holds(family: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    with work.open_engine(checkpoint(family), tmp_path / "cache") as engine:
        uses(engine)
        before = entries(engine)
        assert before
        for forget in (False, True, True):  # from RAM, then from disk, then from what came from disk
            if forget:
                assert engine._loop._runner.reuse.cache.writer.flush()
                engine.forget()
            for _ in range(2):
                uses(engine)
                for payload, were in before.values():  # forgotten ones too: a row may have them
                    assert letters(payload) == were
                before |= {key: entry for key, entry in entries(engine).items() if key not in before}


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5", "gemma3_text"])
def test_what_came_from_disk_is_read_only(family: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    work.answers(checkpoint(family), tmp_path / "cache", [1, 2, 5])
    found = []
    with work.open_engine(checkpoint(family), tmp_path / "cache") as engine:
        for _ in range(2):
            uses(engine)
        for entry in engine._loop._runner.reuse.cache.ram._entries.values():
            with pytest.raises(TypeError):
                entry.payload["0.k"] = 1  # type: ignore[index]
            found += [array for array in entry.payload.values() if isinstance(array, np.ndarray)]
    assert found
    for array in found:
        with pytest.raises(ValueError):
            array.setflags(write=True)
        with pytest.raises(ValueError):
            array[:] = 0


def test_a_view_of_a_rows_array_is_copied() -> None:
    ram = RamTier(10**6)
    row = mx.zeros((2, 4, 8))
    mx.eval(row)
    view = np.array(row, copy=False)
    ram.put_block(block(), {"0.k": view[:, :2]})
    ram.put_state(b"state", {"0.0": np.frombuffer(bytearray(16), np.uint8)})
    view[:] = 7
    held = ram.block(block().key)
    assert held is not None
    assert not held["0.k"].any()
    for array in (held["0.k"], (ram.state(b"state") or {})["0.0"]):
        with pytest.raises(ValueError):
            array.setflags(write=True)


class Watched:
    """numpy as `kv_records` sees it; remembers each view of an MLX array's memory."""

    def __init__(self) -> None:
        self.views: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def array(self, *args: Any, **kwargs: Any) -> Any:
        made = np.array(*args, **kwargs)
        if kwargs.get("copy", True) is False:
            self.views.append(weakref.ref(made))
        return made


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5", "gemma3_text"])
def test_no_view_is_left_when_a_row_writes(
    family: str, checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the arrays that a restore was read into, and of those that it was gathered in."""
    work.answers(checkpoint(family), tmp_path / "cache", [1, 2, 5])
    watched = Watched()
    left: list[int] = []
    monkeypatch.setattr(kv_records, "np", watched)

    def looked(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            deadline = time.monotonic() + 2  # the reader's thread may just be leaving
            while any(view() is not None for view in watched.views) and time.monotonic() < deadline:
                time.sleep(0.001)
            left.append(sum(view() is not None for view in watched.views))
            return original(*args)

        return run

    for name in ("_prefill", "decode"):
        monkeypatch.setattr(Runner, name, looked(getattr(Runner, name)))
    with work.open_engine(checkpoint(family), tmp_path / "cache") as engine:
        for number in (1, 5, 9, 1):  # from disk, in part from RAM, from RAM
            engine.generate(work.prompt(number, engine.sees), sampling=work.GREEDY, timeout=30)
    assert watched.views
    assert left
    assert not any(left)


def test_a_room_that_can_not_be_made_tells_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room({f"{n}.k": ((2, 8, 4), np.dtype(np.float32)) for n in range(2)}, 16)
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            room["1.k"]
        except RuntimeError as error:
            failed.append(error)

    reader = threading.Thread(target=wait)
    reader.start()
    monkeypatch.setattr(mx, "zeros", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    with pytest.raises(MemoryError):
        make_room(room)
    reader.join(5)
    assert "no room" in str(failed[0])


# -- pictures -------------------------------------------------------------------------------


def test_features_keep_to_their_budget() -> None:
    cache = FeatureCache(1000)
    for number in range(40):
        cache.put(str(number % 13), np.zeros(1 + number * 37 % 1300, np.uint8))
        held = sum(item.nbytes for item in cache._items.values())
        assert cache.nbytes == held <= 1000
    assert len(cache) > 1


def test_prepared_pictures_keep_to_their_budget(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of pictures that processors made, which a follow-up would else make again."""
    monkeypatch.setattr(vision, "_KEEP_BYTES", 8_000_000)
    with work.open_engine(checkpoint("qwen2_vl"), None) as engine:
        known = engine._loop.model.vision
        most = 0
        for number in range(12):
            picture = noise_image(200 + 28 * number, 280, number)
            message = [Message("user", [ImagePart(picture), "What is it?"])]
            engine.generate(message, sampling=SamplingParams(max_tokens=1), timeout=30)
            held = [sum(a.nbytes for a in item.arrays.values()) for item in known._known.values()]
            assert known.nbytes == sum(held) <= 8_000_000
            most = max(most, len(held))
        assert 1 < most < 12
        before = known.nbytes
        engine.generate(message, sampling=SamplingParams(max_tokens=1), timeout=30)  # the last one is known
        assert known.nbytes == before
        engine.generate(  # larger than the budget: computed, not kept
            [Message("user", [ImagePart(noise_image(1000, 1000)), "And this?"])], sampling=SamplingParams(max_tokens=1)
        )
        assert known.nbytes <= 8_000_000


def test_a_finished_request_holds_no_pictures(checkpoint: Callable[..., Path]) -> None:
    """Its handle may be kept for long; what was prepared for it isn't."""
    with work.open_engine(checkpoint("qwen2_vl"), None) as engine:
        made: list[Any] = []
        original = engine._loop.model.vision._run

        def run(image: Any) -> Any:
            found = original(image)
            made.extend(weakref.ref(array) for array in found.arrays.values())
            return found

        engine._loop.model.vision._run = run
        picture = noise_image(300, 300, 3)
        handle = engine.submit([Message("user", [ImagePart(picture), "What?"])], sampling=work.GREEDY)
        handle.result(30)
        engine._loop.model.vision._known.clear()
        deadline = time.monotonic() + 3
        while any(ref() is not None for ref in made) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        assert made
        assert not any(ref() is not None for ref in made)
        assert handle.done


def test_ram_keeps_to_its_budget_and_the_oldest_goes_first() -> None:
    tier = RamTier(10_000)
    for number in range(20):
        tier.put_block(block(number), {"k": mx.zeros((250,))})
        assert tier.nbytes <= 10_000
    assert tier.evictions > 0
    assert not tier.has_block(block(0).key)
    assert tier.has_block(block(19).key)
    assert len(tier.children(ROOT, 0)) == len(tier.after(ROOT)) == len(tier)
    tier.allow(2_000)
    assert tier.nbytes <= 2_000
    tier.clear()
    assert (tier.nbytes, len(tier)) == (0, 0)
