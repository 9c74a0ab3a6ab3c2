"""Pictures that take more places in a prompt than they have tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.models import switched
from omlx_jupyter.models.places import NotFound, Places
from omlx_jupyter.models.prepared import ImageSpan, VisionInput

from ..conftest import noise_image
from ..parity.test_matrix import Family

GREEDY = SamplingParams(temperature=0, max_tokens=8)


def picture(crops: int = 1, size: int = 30, digest: str = "a") -> VisionInput:
    arrays = {
        "pixel_values": np.zeros((crops, 3, 8, 8), np.float32),
        "image_sizes": np.array([[size, size]]),
        "input_ids": np.zeros((1, size)),
        "start": np.array(4),
        "length": np.array(1),
    }
    return VisionInput(digest, (-1,), arrays, size, size)


def test_a_prompt_has_as_many_tokens_as_its_pictures_take_places() -> None:
    places = Places()
    places.learn(picture(), 2)
    ids, images, spans = places.taken(
        [5, -1, 6, -1, 7],
        [picture(), picture(size=40, digest="b")],
        [ImageSpan(1, 1, "a"), ImageSpan(3, 1, "b")],
    )
    assert ids == [5, -1, -1, -1, 6, -1, -1, -1, 7]
    assert [(s.start, s.length, s.digest) for s in spans] == [(1, 3, "a"), (5, 3, "b")]
    assert [image.tokens for image in images] == [(-1,) * 3] * 2


def test_nothing_changes_where_places_are_tokens() -> None:
    places = Places()
    places.learn(picture(), 0)
    spans, images = [ImageSpan(1, 1, "a")], [picture(crops=3)]
    assert places.taken([5, -1], images, spans) == ([5, -1], images, spans)
    assert not places.differ


def test_another_form_is_looked_at_first() -> None:
    places = Places()
    places.learn(picture(), 2)
    with pytest.raises(NotFound):
        places.taken([-1], [picture(crops=3)], [ImageSpan(0, 1, "a")])
    (asked,) = places.unknown()
    places.learn(asked, 8)
    assert not places.unknown()
    assert len(places.taken([-1], [picture(crops=3)], [ImageSpan(0, 1, "a")])[0]) == 9


def test_where_shapes_do_not_say_it_whole_numbers_do() -> None:
    places = Places()
    places.learn(picture(size=30), 2)
    places.learn(picture(size=40), 5)
    again = Places(places.known())  # the contradicted one is looked at anew
    again.learn(picture(size=30), 2)
    assert len(again.taken([-1], [picture(size=30)], [ImageSpan(0, 1, "a")])[0]) == 3
    assert len(again.taken([-1], [picture(size=40)], [ImageSpan(0, 1, "a")])[0]) == 6
    with pytest.raises(NotFound):
        again.taken([-1], [picture(size=50)], [ImageSpan(0, 1, "a")])


@pytest.mark.parametrize("known", [None, [], {"x": "y"}, {"x": -4}])
def test_what_was_remembered_may_be_anything(known: Any) -> None:
    assert not Places(known).differ


@pytest.fixture
def made(checkpoint: Callable[..., Path], tmp_path: Path) -> Family:
    return Family("fastvlm", checkpoint("fastvlm"), tmp_path)


def test_a_picture_of_an_unknown_form_runs_whole_once(made: Family) -> None:
    messages = made.messages("Tell me about it. " * 8, ((90, 60, 1),))
    tokens = made.reference(messages, "one")
    with Engine.load(made.path) as engine:
        vision: Any = engine._loop.model.vision  # type: ignore[union-attr]
        vision.places = Places({"another form": 3})
        seen = [engine.generate(messages, sampling=GREEDY) for _ in range(3)]
        assert [answer.token_ids for answer in seen] == [tokens[:8]] * 3
        assert [bool(answer.usage.cached_tokens) for answer in seen] == [False, False, True]
        assert seen[1].usage.prompt_tokens == seen[0].usage.prompt_tokens + 15
        assert engine.capabilities.cached


def test_a_wrong_number_of_places_costs_the_cache_and_no_answer(made: Family) -> None:
    messages = made.messages("What is it?", ((90, 60, 1),))
    tokens = made.reference(messages, "two")
    try:
        with Engine.load(made.path) as engine:
            vision: Any = engine._loop.model.vision  # type: ignore[union-attr]
            known = vision.places.known()
            vision.places = Places({form: more + 1 for form, more in known.items()})
            assert engine.generate(messages, sampling=GREEDY).token_ids == tokens[:8]
            assert "fault" in engine.capabilities.why["cached"]
            assert engine.generate("And now?", [noise_image(90, 60, 1)], sampling=GREEDY).token_ids
    finally:
        model = engine._loop.model
        if model is not None:
            switched.switch_on(model)
