"""Boxes in each family's coordinates are pixels of the picture, and those that answers name are found."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from omlx_jupyter import Engine
from omlx_jupyter.images import toolkit
from omlx_jupyter.images.grounding import THOUSANDTHS, Grounding, grounding_of, places
from omlx_jupyter.images.source import open_images
from omlx_jupyter.notebook.answers.boxes import boxes_html
from omlx_jupyter.notebook.answers.result import Result
from omlx_jupyter.types import Generation, Usage

from ..conftest import noise_image


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([0, 0, 1000, 1000], (0, 0, 200, 100)),
        ([500, 0, 1000, 500], (100, 0, 200, 50)),
        ([-50, -5, 5000, 250], (0, 0, 200, 25)),
        ([0, 0, 1, 1], (0, 0, 1, 1)),
        ([999.9, 999.9, 1000, 1000], (199, 99, 200, 100)),
    ],
)
def test_thousandths(box: list[float], pixels: tuple[int, ...]) -> None:
    assert THOUSANDTHS.pixels(box, 200, 100) == pixels
    (picture,) = open_images(noise_image(200, 100, 2))
    left, top, right, bottom = pixels
    np.testing.assert_array_equal(toolkit.crop(picture, box).pixels, picture.pixels[top:bottom, left:right])


# The right half's upper quarter of a picture of 1,120 x 560 pixels, as each kind of model writes it
@pytest.mark.parametrize(
    ("family", "box", "said"),
    [
        ("qwen2_vl", [500, 0, 1000, 250], "[left, top, right, bottom], 0 to 1000"),
        ("qwen3_vl", [500, 0, 1000, 250], "0 to 1000"),
        ("glm4v", [500, 0, 1000, 250], "0 to 1000"),
        ("gemma4", [0, 500, 250, 1000], "[top, left, bottom, right], 0 to 1000"),
        ("deepseekocr", [499.5, 0, 999, 249.75], "0 to 999"),
        ("lfm2_vl", [0.5, 0, 1, 0.25], "0 to 1 over"),
        ("molmo", [50, 0, 100, 25], "0 to 100 over"),
        ("paligemma", [0, 512, 256, 1024], "[top, left, bottom, right], 0 to 1024"),
        ("qwen2_5_vl", [280, 0, 560, 70], "in pixels of the picture as you see it"),
        ("nobody_knows", [500, 0, 1000, 250], "0 to 1000"),
    ],
)
def test_each_family_counts_its_own_way(family: str, box: list[float], said: str) -> None:
    files = {"patch_size": 14, "merge_size": 2, "min_pixels": 784, "max_pixels": 560 * 280}
    grounding = grounding_of(family, files)
    assert grounding.pixels(box, 1120, 560) == (560, 0, 1120, 140)
    assert said in grounding.words()


@pytest.mark.parametrize("size", [(100, 100), (640, 480), (37, 1200), (5000, 3000), (29, 31), (1000, 10), (28, 28)])
@pytest.mark.parametrize(("least", "most"), [(784, 10**7), (3136, 12845056), (50_000, 200_000)])
def test_pixels_as_a_qwen_processor_makes_them(size: tuple[int, int], least: int, most: int) -> None:
    width, height = size
    wanted = smart_resize(height, width, factor=28, min_pixels=least, max_pixels=most)
    assert Grounding(0, least=least, most=most).seen(width, height) == (wanted[1], wanted[0])


def test_a_checkpoint_says_how_it_counts(checkpoint: Any) -> None:
    with Engine.load(checkpoint("qwen2_5_vl")) as engine:
        (picture,) = open_images(noise_image(300, 110, 5))
        grid = engine._loop.model.vision.process(picture).arrays["image_grid_thw"].reshape(-1).tolist()
        patch = engine._loop.model.vision._processor.image_processor.patch_size
        assert engine.grounding.seen(300, 110) == (grid[2] * patch, grid[1] * patch)
    with Engine.load(checkpoint("qwen2_5_vl"), pixel_budget=10_000) as engine:
        small = picture.shrunk_to(10_000)
        grid = engine._loop.model.vision.process(small).arrays["image_grid_thw"].reshape(-1).tolist()
        assert engine.grounding.seen(300, 110) == (grid[2] * patch, grid[1] * patch)
    with Engine.load(checkpoint("gemma3")) as engine:
        assert engine.grounding.pixels([0, 500, 500, 1000], 200, 100) == HALF


HALF = (100, 0, 200, 50)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"total": {"value": "12.50", "bbox_2d": [500, 0, 1000, 500]}}', [("total", HALF)]),
        ('```json\n[{"bbox_2d": [500, 0, 1000, 500], "label": "a cat"}]\n```', [("a cat", HALF)]),
        ('Here: {"a": {"b": {"box": [500, 0, 1000, 500]}}} done', [("a.b", HALF)]),
        ('{"items": [{"name": "x", "bbox": [500, 0, 1000, 500]}, {"bbox": [0, 0, 10, 10]}]}',
         [("items.0", HALF), ("items.1", (0, 0, 2, 1))]),
        ("<|ref|>title<|/ref|><|det|>[[500, 0, 1000, 500]]<|/det|>\n# A", [("title", HALF)]),
        ("title[[500, 0, 1000, 500]]\n# A\ntext[[0, 0, 10, 10]]", [("title", HALF), ("text", (0, 0, 2, 1))]),
        ("the <ref>dog</ref><box>[[500, 0, 1000, 500], [0, 0, 10, 10]]</box>", [("dog", HALF), ("dog", (0, 0, 2, 1))]),
        ("<|object_ref_start|>a car<|object_ref_end|><|box_start|>(500,0),(1000,500)<|box_end|>", [("a car", HALF)]),
        ("<box>500 0 1000 500</box>", [("", HALF)]),
        ("no boxes [1, 2, 3] or (4, 5) or [[1, 2]] here", []),
        ('{"bbox_2d": [5, 5, 5, 5], "label": "empty"}', []),
        ('{"bbox_2d": ["a", 1, 2, 3]} {"box": [true, 0, 1, 1]} {"box": [1' + "0" * 500 + ", 0, 1, 1]}", []),
    ],
)  # fmt: skip
def test_boxes_in_answers(text: str, found: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(place.label, place.box) for place in places(text, THOUSANDTHS, 200, 100)] == found


def test_paligemmas_marks() -> None:
    said = places("<loc0000><loc0512><loc0512><loc1023> cat ; <loc0000><loc0000><loc0100><loc0100> dog",
                  grounding_of("paligemma", {}), 200, 100)  # fmt: skip
    assert [(place.label, place.box) for place in said] == [("cat", (100, 0, 200, 50)), ("dog", (0, 0, 20, 10))]


@pytest.mark.parametrize(
    "text", ["[" * 300_000, '{"a":' * 100_000, "a" * 300_000, "[[1,1,1,1]," * 30_000, "<a" * 150_000, "(1,1)" * 60_000,
             "[1," * 100_000, "<box>1 1 1 1" * 20_000, "[[" + "1" * 300_000, "title[[1,2,3,4]]" * 10_000],
)  # fmt: skip
def test_a_hostile_answer_costs_little(text: str) -> None:
    began = time.process_time()
    places(text, THOUSANDTHS, 200, 100)
    assert time.process_time() - began < 5


def test_places_of_a_result() -> None:
    (picture,) = open_images(noise_image(200, 100, 2))
    text = json.dumps({"total": {"value": "<b>12</b>", "bbox_2d": [0, 500, 500, 1000]}})
    answer = Generation(text=text, token_ids=(), finish_reason="stop", usage=Usage())
    result = Result(answer, [picture], grounding=Grounding(1000, rows_first=True))
    assert [(place.label, place.box) for place in result.places] == [("total", HALF)]
    drawn = boxes_html(result)
    assert 'points="100.0,0.0 200.0,0.0 200.0,50.0 100.0,50.0"' in drawn
    assert '<li tabindex="0">total</li>' in drawn
    assert Result(answer, [picture, picture]).places == ()  # of which of them isn't said
