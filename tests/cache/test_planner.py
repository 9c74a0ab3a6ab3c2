"""The planner against a slow reference that stores whole prefixes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx_jupyter.cache.keys import Block, Chain, Span, block_key, root_key, symbols_of
from omlx_jupyter.cache.planner import Child, Needs, Plan, Step, plan_restore

ROOT = root_key("a model")
BLOCK = 4


@dataclass
class Store:
    """An index in a dictionary, and every prefix that its blocks hold."""

    blocks: dict[bytes, Block] = field(default_factory=dict)
    states: set[bytes] = field(default_factory=set)

    def children(self, parent: bytes, first: int) -> list[Child]:
        return [
            Child(b.key, b.length, True, b.window, b.key in self.states)
            for b in self.blocks.values()
            if b.parent == parent and b.first == first
        ]

    def symbols(self, key: bytes) -> np.ndarray:
        return self.blocks[key].symbols

    def add(self, prompt: tuple[list[int], list[Span]], needs: Needs, state_every: int = 1) -> None:
        """Store a prompt as the engine does: go on from what is known, cut into blocks."""
        ids, spans = prompt
        chain = Chain(symbols_of(ids, spans), spans, ROOT)
        for step in plan_restore(self, ROOT, chain.symbols, spans, len(ids), needs).steps:
            if step.take == step.child.length:
                chain.parent, chain.done = step.child.key, step.end
        count = 0
        while chain.done < len(ids):
            block = chain.cut(min(len(ids), chain.done + BLOCK))
            self.blocks[block.key] = block
            count += 1
            if needs.stateful and (count % state_every == 0 or chain.done == len(ids)):
                self.states.add(block.key)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[list[int], list[Span]]:
    """Few tokens and few pictures, so that prefixes are shared."""
    ids: list[int] = []
    spans: list[Span] = []
    for _ in range(draw(st.integers(1, 4))):
        ids += draw(st.lists(st.integers(0, 1), min_size=1, max_size=6))
        if draw(st.booleans()):
            length = draw(st.integers(1, 5))
            spans.append(Span(len(ids), length, draw(st.sampled_from("ab"))))
            ids += [9] * length
    return [*ids, 0], spans


def common(one: tuple[list[int], list[Span]], other: tuple[list[int], list[Span]]) -> int:
    """Tokens that both begin with, pictures compared by name and place; the slow way."""

    def cells(prompt: tuple[list[int], list[Span]]) -> list[object]:
        made: list[object] = list(prompt[0])
        for span in prompt[1]:
            for offset in range(span.length):
                made[span.start + offset] = (span.digest, span.length, offset)
        return made

    count = 0
    for a, b in zip(cells(one), cells(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def floor(end: int, spans: list[Span]) -> int:
    return next((s.start for s in spans if s.start < end < s.end), end)


@settings(max_examples=300)
@given(st.lists(prompts(), min_size=1, max_size=6), prompts())
def test_longest_prefix_of_anything_stored(stored: list, asked: tuple) -> None:
    store = Store()
    for prompt in stored:
        store.add(prompt, Needs())
    limit = len(asked[0]) - 1
    plan = plan_restore(store, ROOT, symbols_of(*asked), asked[1], limit, Needs())
    want = floor(min(limit, max(common(asked, prompt) for prompt in stored)), asked[1])
    assert plan.length == want
    assert sum(step.take for step in plan.steps) == want


@settings(max_examples=200)
@given(st.lists(prompts(), min_size=1, max_size=6), prompts(), st.integers(1, 3))
def test_states_only_where_they_were_kept(stored: list, asked: tuple, every: int) -> None:
    store = Store()
    for prompt in stored:
        store.add(prompt, Needs(stateful=True), every)
    limit = len(asked[0]) - 1
    plan = plan_restore(store, ROOT, symbols_of(*asked), asked[1], limit, Needs(stateful=True))
    symbols = symbols_of(*asked)
    at, parent = 0, ROOT
    for step in plan.steps:
        assert step.take == step.child.length
        assert step.child.key == block_key(parent, symbols, at, at + step.take, asked[1])
        at, parent = at + step.take, step.child.key
    assert at == plan.length <= limit
    assert floor(at, asked[1]) == at
    assert not plan.steps or parent in store.states
    # a whole prompt asked again is found up to its last kept state
    again = plan_restore(store, ROOT, symbols_of(*stored[-1]), stored[-1][1], len(stored[-1][0]), Needs(stateful=True))
    assert again.length == len(stored[-1][0])


@given(prompts(), st.integers(1, 12), st.integers(0, 3))
def test_windows_are_covered(prompt: tuple, window: int, missing: int) -> None:
    """Blocks whose sliding layers lack their first tokens end a plan only where the window needs them not."""
    store = Store()
    store.add(prompt, Needs(window))
    blocks = sorted(store.blocks.values(), key=lambda b: b.start)
    for block in blocks:
        object.__setattr__(block, "window", min(missing, block.length))
    ids, spans = prompt
    plan = plan_restore(store, ROOT, symbols_of(ids, spans), spans, len(ids), Needs(window))
    for block in blocks:
        if block.start < plan.length:
            needed = max(block.start, plan.length - window)
            assert block.start + block.window <= needed or needed >= block.start + block.length


def test_keys_tell_pictures_apart() -> None:
    ids = [1, 9, 9, 9, 2]
    one, other = [Span(1, 3, "a" * 64)], [Span(1, 3, "b" * 64)]
    for cut in (2, 3, 4, 5):
        keys = {block_key(ROOT, symbols_of(ids, spans), 0, cut, spans) for spans in (one, other, [])}
        assert len(keys) == 3
    # a block before the picture doesn't know of it
    assert block_key(ROOT, symbols_of(ids, one), 0, 1, one) == block_key(ROOT, symbols_of(ids, other), 0, 1, other)


def test_the_same_picture_at_another_offset_is_another_block() -> None:
    ids = [9] * 8
    whole, shifted = [Span(0, 8, "a")], [Span(0, 4, "a"), Span(4, 4, "a")]
    assert block_key(ROOT, symbols_of(ids, whole), 0, 8, whole) != block_key(
        ROOT, symbols_of(ids, shifted), 0, 8, shifted
    )


def test_a_conversation_that_forks_and_goes_on_deeper() -> None:
    """The longest match isn't the greedy one: a short block may lead further than its longer sibling."""
    store = Store()
    store.add(([1, 2], []), Needs())
    store.add(([1, 2, 3, 4, 5, 6, 7, 8, 9], []), Needs())  # goes on from [1, 2]
    key = block_key(ROOT, symbols_of([1, 2, 3, 4], []), 0, 4, [])
    store.blocks[key] = Block(key, ROOT, 0, symbols_of([1, 2, 3, 4], []))
    asked = symbols_of([1, 2, 3, 4, 5, 6, 7, 8, 0], [])
    assert plan_restore(store, ROOT, asked, [], 8, Needs()).length == 8


class Counted(Store):
    """Blocks on disk, whose reads are counted."""

    reads = 0
    unreadable: frozenset[bytes] = frozenset()

    def children(self, parent: bytes, first: int) -> list[Child]:
        return [Child(c.key, c.length, False, c.window, c.state) for c in super().children(parent, first)]

    def symbols(self, key: bytes) -> np.ndarray | None:  # type: ignore[override]
        self.reads += 1
        return None if key in self.unreadable else super().symbols(key)


def test_so_many_blocks_are_read_to_compare_them() -> None:
    store = Counted()
    for number in range(40):
        store.add(([1, 2, 100 + number, 3], []), Needs())
    store.reads = 0
    plan = plan_restore(store, ROOT, symbols_of([1, 2, 9, 9, 9], []), [], 4, Needs())
    assert (plan.length, store.reads) == (2, 16)
    assert [(step.start, step.take, step.end) for step in plan.steps] == [(0, 2, 2)]
    assert (plan.tokens(ram=False), plan.tokens(ram=True), plan.stateful) == (2, 0, False)
    store.unreadable = frozenset(store.blocks)
    assert plan_restore(store, ROOT, symbols_of([1, 2, 9, 9, 9], []), [], 4, Needs()) == Plan(0, (), False)


def test_no_block_is_read_that_could_not_lead_further() -> None:
    store = Counted()
    store.add(([1, 2, 3, 4], []), Needs())
    store.add(([1, 2], []), Needs())
    store.reads = 0
    asked = symbols_of([1, 2, 3, 4, 5], [])
    assert (plan_restore(store, ROOT, asked, [], 4, Needs()).length, store.reads) == (4, 0)


def test_what_a_child_and_a_plan_are_by_default() -> None:
    child = Child(b"k", 4, True)
    assert (child.window, child.state) == (0, False)
    assert Needs() == Needs(0, False)
    assert Plan() == Plan(0, (), False)
    for value in (child, Step(child, 0, 4), Plan(), Needs()):
        with pytest.raises(AttributeError):
            setattr(value, next(iter(value.__dataclass_fields__)), 1)
    two = Plan(7, (Step(child, 0, 4), Step(Child(b"l", 4, False), 4, 3)))
    assert (two.tokens(ram=True), two.tokens(ram=False), two.steps[1].end) == (4, 3, 7)


def test_blocks_in_ram_are_compared_without_bound() -> None:
    store = Store()
    for number in range(40):
        store.add(([1, 2, 100 + number, 3, 4, 5], []), Needs())
    reads: list[bytes] = []
    known = store.symbols
    store.symbols = lambda key: (reads.append(key), known(key))[1]  # type: ignore[method-assign]
    assert plan_restore(store, ROOT, symbols_of([1, 2, 9, 9, 9], []), [], 4, Needs()).length == 2
    assert len(reads) > 30


class Mixed(Counted):
    """Blocks of four tokens are in RAM; reads of others are counted."""

    def children(self, parent: bytes, first: int) -> list[Child]:
        return [Child(c.key, c.length, c.length == 4) for c in Store.children(self, parent, first)]

    def symbols(self, key: bytes) -> np.ndarray | None:  # type: ignore[override]
        self.reads += len(self.blocks[key].symbols) != 4
        return Store.symbols(self, key)


def test_blocks_in_ram_leave_the_bound_of_reads_as_it_is() -> None:
    store = Mixed()
    for number in range(20):
        store.add(([1, 2, 100 + number, 3], []), Needs())
        store.add(([1, 2, 200 + number], []), Needs())
    store.reads = 0
    assert plan_restore(store, ROOT, symbols_of([1, 2, 9, 9, 9], []), [], 4, Needs()).length == 2
    assert store.reads == 16


def test_a_plan_goes_back_to_the_last_state() -> None:
    store = Store()
    ids = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    store.add((ids, []), Needs())
    asked = symbols_of(ids, [])
    assert plan_restore(store, ROOT, asked, [], 8, Needs(stateful=True)) == Plan()
    store.states = {block.key for block in store.blocks.values() if block.start == 0}
    plan = plan_restore(store, ROOT, asked, [], 8, Needs(stateful=True))
    assert (plan.length, plan.stateful, len(plan.steps)) == (4, True, 1)
    assert plan_restore(store, ROOT, asked, [], 8, Needs()).length == 8


def test_a_plan_ends_before_the_picture_that_it_would_cut() -> None:
    store, within = Store(), ([1, 2, 9, 9, 9, 9, 3], [Span(2, 4, "a")])
    store.add(within, Needs())
    plan = plan_restore(store, ROOT, symbols_of(*within), within[1], 4, Needs())
    assert [(step.start, step.take) for step in plan.steps] == [(0, 2)]
    behind = ([5, 6, 7, 8, 9, 9, 9, 9, 9, 3], [Span(4, 5, "a")])
    store.add(behind, Needs())
    plan = plan_restore(store, ROOT, symbols_of(*behind), behind[1], 8, Needs())
    assert [(step.start, step.take) for step in plan.steps] == [(0, 4)]
