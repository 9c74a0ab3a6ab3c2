"""Sheets of questions to pictures; how sure an answer is; corrections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.errors import RequestError, RunError
from omlx_jupyter.runs.confidence import _values, confidence
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.run import Run
from omlx_jupyter.runs.table import Table

from ..conftest import noise_image

SHORT = SamplingParams(max_tokens=5, temperature=0)


@pytest.fixture(scope="module")
def engine(checkpoint: Callable[..., Path]) -> Iterator[Any]:
    with Engine.load(checkpoint("qwen2_vl"), cache=CacheSettings(2**28, 0)) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        noise_image(560, 560, number).save(tmp_path / f"{number}.png")
    return tmp_path


QUESTIONS = {f"q{n}": Question(f"Question {n}?", SHORT, whole=True) for n in range(10)}


def test_a_picture_is_read_once_for_all_its_questions(engine: Any, folder: Path) -> None:
    encoded = engine.stats().images_encoded
    table = Table(folder, QUESTIONS, folder / "t.jsonl", lambda: engine).start().wait()
    assert engine.stats().images_encoded - encoded == 3
    assert table.df.shape == (3, 10)
    assert 0.9 < table.prefills <= 1.2
    for picture, column in (("0.png", "q3"), ("2.png", "q9")):
        path = str(folder / picture)
        alone = engine.generate(f"Question {column[1:]}?", [path], SHORT)
        assert table[picture, column].text == table.df.loc[path, column] == alone.text
    with pytest.raises(KeyError):
        table["0.png", "none"]


@pytest.mark.parametrize("ending", [".jsonl", ".sqlite", ".parquet"])
def test_only_what_is_new_is_computed(engine: Any, folder: Path, ending: str) -> None:
    few = {name: QUESTIONS[name] for name in ("q0", "q1")}
    save = folder / "out" / f"t{ending}"
    Table(folder, few, save, lambda: engine).start().wait()
    before = engine.stats().finished
    noise_image(168, 168, 7).save(folder / "3.png")
    more = Table(folder, {**few, "q2": QUESTIONS["q2"]}, save, lambda: engine).start().wait()
    assert engine.stats().finished - before == 2 + 4  # a new picture's two old columns, and a new column of four
    assert more.df.shape == (4, 3)
    assert not more.df.isna().any().any()
    assert more.figures().kept == 6


def test_cells_by_type(tiny: Any, folder: Path) -> None:
    questions = {
        "n": Question("How many?", SamplingParams(max_tokens=300, seed=1), schema=bool, whole=True),
        "words": Question("Say.", SHORT, whole=True),
    }
    table = Table(folder, questions, folder / "t.jsonl", lambda: tiny).start().wait()
    assert {type(value) for value in table.df["n"]} == {bool}
    assert all(0 < sure <= 1 for sure in table.confidences["n"])
    with pytest.raises(RequestError, match="is no schema; give a pydantic model, a type"):
        Question("x", schema=3)
    with pytest.raises(RequestError, match="questions by name"):
        Table(folder, {}, folder / "x.jsonl", lambda: tiny)


def test_confidence_is_the_models_own_of_the_least_sure_token(tiny: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["xy", "zw"]}, "b": {"type": "object", "properties": {"c": {"const": 7}},
                                                        "required": ["c"], "additionalProperties": False}},
        "required": ["a", "b"], "additionalProperties": False,
    }  # fmt: skip
    answer = tiny.generate("x", sampling=SamplingParams(max_tokens=400, json_schema=schema, logprobs=0, seed=2))
    value = Question(schema=schema).value(answer.text)
    made = confidence(answer, value, tiny)
    assert set(made.fields) == {"a", "b.c"}
    assert made.least == min(made.fields.values()) < 1  # what a grammar forces is no certainty of the model's
    spelled, whole = [], ""
    for token in answer.logprobs:
        before, whole = whole, tiny.decode(answer.token_ids[: len(spelled) + 1])
        spelled.append((before, whole, token.logprob))
    at = answer.text.index("7")
    (wanted,) = [logprob for before, whole, logprob in spelled if len(before) <= at < len(whole)]
    assert made.fields["b.c"] == pytest.approx(math.exp(wanted), abs=1e-4)
    assert confidence(tiny.generate("x"), None, tiny).least is None


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('{"a": 1, "b": [true, {"c": "x\\"}"}], "d": {}}', ["a", "b.0", "b.1.c"]),
        ('"only"', [""]),
        (' { "a" : null } ', ["a"]),
        ('{"a": 1, "b"', ["a"]),
        ("nonsense", []),
        ("", []),
    ],
)
def test_scalars_of_a_json_text(text: str, paths: list[str]) -> None:
    found = list(_values(text)) if text.strip() else []
    if text.endswith('"b"'):
        assert found == []  # half a text has no value, so no fields
        return
    assert [".".join(path) for path, _, _ in found] == paths
    assert all(text[begin:end].strip() == text[begin:end] for _, begin, end in found)


@pytest.mark.parametrize("ending", [".jsonl", ".sqlite", ".parquet"])
def test_corrections_are_new_lines(engine: Any, folder: Path, ending: str) -> None:
    save = folder / "out" / f"c{ending}"
    run = Run([folder / "0.png", folder / "1.png"], QUESTIONS["q0"], save, lambda: engine).start().wait()
    said = [record.text for record in run.records()]
    made = run.correct(str(folder / "0.png"), text="what it says")
    assert (made.kind, made.text) == ("correction", "what it says")
    assert [record.text for record in run.records()] == ["what it says", said[1]]
    if ending == ".jsonl":
        assert len(save.read_bytes().splitlines()) == 3
    again = Run([folder / "0.png", folder / "1.png"], QUESTIONS["q0"], save, lambda: engine).start().wait()
    assert again.figures().kept == 2
    assert [record.kind for record in again.records()] == ["correction", "answer"]
    with pytest.raises(RunError, match="there is no nowhere in"):
        run.correct("nowhere", text="x")
