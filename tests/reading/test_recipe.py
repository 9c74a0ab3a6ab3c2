"""`reading.json`: what it may say, and the sentence for what it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.hub import resolve_model
from omlx_jupyter.reading.recipe import FILE_NAME, Recipe, parse, recipe_of


def test_absent_is_none_and_the_embedded_model_has_one(tmp_path: Path) -> None:
    assert recipe_of(tmp_path) is None
    assert recipe_of(resolve_model(None)) == Recipe()


def test_what_is_said_is_taken(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"ink": 20, "height": 48, "gap": 2}))
    assert recipe_of(tmp_path) == Recipe(ink=20, height=48, gap=2.0)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"inks": 16}, "'inks', which isn't known"),
        ({"ink": "16"}, "ink is '16'; it must be a whole number"),
        ({"ink": True}, "ink is True; it must be a whole number"),
        ({"ink": 16.5}, "it must be a whole number"),
        ({"gap": None}, "gap is None; it must be a number"),
        ({"gap": float("nan")}, "between 0.5 and 100"),
        ({"gap": 10**400}, "between 0.5 and 100"),
        ({"improbable": float("inf")}, "between -100 and 0"),
        ({"height": 10**9}, "between 16 and 256"),
        ({"ink": 10**8, "height": 10**8}, "between 8 and 256"),
        ({"widest": 10**9, "narrowest": 10**9}, "between"),
        ({"by": "words"}, "it must be 'lines'"),
        ({"paper": "dark"}, "it must be 'light'"),
        ({"ink": 2}, "between 8 and 256"),
        ({"ink": 40}, "height must be at least ink"),
        ([], "holds a list"),
    ],
)
def test_what_it_may_not_say(found: object, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        parse(found)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(ModelError, match="is no JSON"):
        recipe_of(tmp_path)
    (tmp_path / FILE_NAME).write_text("[" * 200_000)
    with pytest.raises(ModelError, match="is no JSON"):
        recipe_of(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="can't be read"):
        recipe_of(tmp_path)
