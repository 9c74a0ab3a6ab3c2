"""The RAM tier by its own door: what it holds, hands out, counts and lets go."""

from __future__ import annotations

import numpy as np
import pytest

from omlx_jupyter.cache.keys import Block, root_key
from omlx_jupyter.cache.planner import Child
from omlx_jupyter.cache.ram import RamTier, kept, payload_bytes

ROOT = root_key("model")


def block(number: int, parent: bytes = ROOT, first: int = 0, window: int = 0) -> Block:
    return Block(bytes([number]) * 16, parent, 0, np.array([first, 1, 2, 3], np.int64), window)


def payload(count: int = 68) -> dict[str, np.ndarray]:
    return {"k": np.ones(count, np.uint8)}


def test_bytes_of_arrays_and_symbols_count() -> None:
    tier = RamTier(1000)
    assert (tier.budget, tier.nbytes, tier.evictions, len(tier)) == (1000, 0, 0, 0)
    assert payload_bytes({"a": np.ones(3, np.uint16), "b": np.ones(4, np.uint8)}) == 10
    tier.put_block(block(1), payload())
    assert tier.nbytes == 68 + 4 * 8
    tier.put_state(b"s", payload(50))
    assert (tier.nbytes, len(tier)) == (150, 2)
    tier.put_state(b"s", payload(20))  # in the place of the one before
    assert (tier.nbytes, len(tier)) == (120, 2)


def test_it_is_filled_to_the_last_byte_and_the_least_recently_used_goes() -> None:
    tier = RamTier(300)
    for number in (1, 2, 3):
        tier.put_block(block(number, first=number % 2), payload())
    assert (tier.nbytes, tier.evictions) == (300, 0)
    assert tier.block(block(1).key) is not None  # used: 2 is the oldest now
    tier.put_block(block(4), payload())
    assert [tier.has_block(block(n).key) for n in (1, 2, 3, 4)] == [True, False, True, True]
    assert (tier.nbytes, tier.evictions) == (300, 1)
    assert tier.block(block(2).key) is None
    assert tier.symbols(block(2).key) is None
    assert [child.key for child in tier.children(ROOT, 0)] == [block(4).key]
    assert [b.key for b in tier.after(ROOT)] == [block(4).key, block(3).key, block(1).key]
    tier.allow(200)
    assert (tier.nbytes, tier.has_block(block(3).key)) == (200, False)
    tier.put_block(block(5), payload())
    assert tier.nbytes == 200
    tier.allow(10**6)
    for number in range(6, 12):
        tier.put_block(block(number), payload())
    assert tier.nbytes == 300
    tier.put_state(b"large", payload(301))
    assert (tier.nbytes, len(tier)) == (0, 0)
    assert tier._children == tier._after == {}


def test_children_say_what_is_there() -> None:
    tier = RamTier(1000)
    one, two = block(1, first=7, window=2), block(2, parent=b"p", first=7)
    tier.put_block(one, payload())
    tier.put_block(two, payload())
    assert tier.children(ROOT, 7) == [Child(one.key, 4, True, 2, False)]
    tier.put_state(one.key, payload(1))
    assert tier.children(ROOT, 7) == [Child(one.key, 4, True, 2, True)]
    assert tier.children(ROOT, 8) == tier.children(b"x", 7) == tier.after(b"x") == []
    assert tier.after(b"p") == [two]
    assert np.array_equal(tier.symbols(one.key), one.symbols)
    assert tier.state(two.key) is None
    state = tier.state(one.key)
    assert state is not None
    assert state["k"].tolist() == [1]
    tier.clear()
    assert (tier.nbytes, len(tier), tier.children(ROOT, 7), tier.after(b"p")) == (0, 0, [], [])


def test_what_is_kept_is_nobodys_to_change() -> None:
    own = np.arange(4)
    held = kept({"own": own, "view": own[1:3], "foreign": np.frombuffer(bytearray(b"ab"), np.uint8), "other": [1]})
    assert held["other"] == [1]
    for name in ("own", "view", "foreign"):
        with pytest.raises(ValueError, match="read-only"):
            held[name][0] = 9
        with pytest.raises(ValueError):
            held[name].setflags(write=True)
    assert np.shares_memory(held["own"], own)
    assert np.shares_memory(held["view"], own)
    with pytest.raises(ValueError, match="read-only"):
        own[0] = 9
    memory = bytearray(b"ab")
    copied = kept({"x": np.frombuffer(memory, np.uint8)})["x"]
    memory[0] = 0
    assert copied.tolist() == [97, 98]
