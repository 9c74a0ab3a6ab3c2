"""Drafts from known text: where they are found, and when one is worth trying. Plain Python."""

from __future__ import annotations

import random

import pytest

from omlx_jupyter.engine.drafts import Costs, RowDrafts, Source, Text


def test_a_place_is_found_by_what_comes_before_it() -> None:
    text = Text([1, 2, 3, 4, 5, 9, 2, 3, 4, 6, 7])
    assert text.after([8, 2, 3, 4], 2) == ([6, 7], 3)  # the newest of the places that agree alike
    assert text.after([0, 1, 2, 3, 4], 3) == ([5, 9, 2], 4)  # the one that agrees longest
    assert text.after([2, 3], 2) == ([], 0)
    assert text.after([7, 7, 7], 2) == ([], 0)
    text.extend([2, 3, 4, 8])
    assert text.after([2, 3, 4], 1) == ([8], 3)


def test_a_picture_ends_a_draft() -> None:
    assert Text([1, 2, 3, 4, -7, -8, 5]).after([1, 2, 3], 9) == ([4], 3)


def answered(drafts: RowDrafts, prompt: list[int], answer: list[int]) -> tuple[int, int]:
    """(steps, tokens drafted) of an answer that comes out whatever is drafted."""
    said, steps, drafted = list(prompt), 0, 0
    while len(said) < len(prompt) + len(answer):
        rest = answer[len(said) - len(prompt) :]
        draft = drafts.offer(len(rest) - 1)
        right = 0
        if draft is not None:
            while right < len(draft.tokens) and draft.tokens[right] == rest[right]:
                right += 1
            draft.source.told(len(draft.tokens), right)
            drafted += len(draft.tokens)
        said += rest[: right + 1]
        for token in rest[: right + 1]:
            drafts.hear(token)
        steps += 1
    return steps, drafted


def other() -> Source:
    return Source("batch", 0.5, 1.0)


def test_an_answer_that_was_given_before_takes_few_steps() -> None:
    rng = random.Random(1)
    prompt, answer = list(range(50)), [rng.randrange(300) for _ in range(400)]
    drafts = RowDrafts(prompt, Costs(), other())
    drafts.know([*prompt[-3:], *answer])
    assert answered(drafts, prompt, answer)[0] <= 400 / 16


def test_it_finds_its_place_again_after_a_disagreement() -> None:
    rng = random.Random(2)
    prompt, old = list(range(50)), [rng.randrange(1000) for _ in range(300)]
    new = [token if i % 40 else 5000 + i for i, token in enumerate(old)]
    drafts = RowDrafts(prompt, Costs(), other())
    drafts.know([*prompt[-5:], *old])
    assert answered(drafts, prompt, new)[0] < 300 / 4


def test_text_that_nothing_is_known_of_is_hardly_drafted() -> None:
    rng = random.Random(3)
    prompt, answer = [rng.randrange(40) for _ in range(500)], [rng.randrange(40) for _ in range(500)]
    steps, drafted = answered(RowDrafts(prompt, Costs(), other()), prompt, answer)
    assert steps + 0.12 * drafted < 515  # in steps' time: three in a hundred


@pytest.mark.parametrize(("slope", "least", "most"), [(0.01, 32, 64), (0.1, 8, 32), (1.0, 0, 0)])
def test_a_width_follows_from_what_it_costs(slope: float, least: int, most: int) -> None:
    source = Source("text", 9.0, 0.5)
    assert least <= source.promise(8, 64, Costs(slope))[0] <= most


def test_a_step_ends_in_time() -> None:
    costs = Costs()
    assert costs.within(0.2, 128) == 128  # nothing was measured
    costs.drafted(2, 64, 0.64)
    assert costs.within(0.2, 128) == 20
    costs.drafted(2, 64, 64.0)
    assert costs.within(0.2, 128) == 8
    costs.drafted(2, 64, 0.001)
    assert costs.within(0.2, 128) == 128


def test_costs_are_measured() -> None:
    costs = Costs()
    for _ in range(30):
        costs.narrow(2, 0.01)
        costs.drafted(2, 12, 0.03)
    assert costs.of(10) == pytest.approx(3, rel=0.05)
    costs = Costs()
    costs.drafted(2, 12, 5.0)  # nothing to compare with
    assert costs.slope == 0.12
