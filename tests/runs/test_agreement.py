"""Each source read twice: how far the readings agree, kept in the run, first in the review."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import SamplingParams
from omlx_jupyter.errors import RequestError
from omlx_jupyter.runs.agreement import agreement, disputed
from omlx_jupyter.runs.doubts import doubts
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.run import Run, read_run

from ..conftest import draw_text

FIELDS = {
    "type": "object",
    "properties": {"sure": {"const": "yes"}, "open": {"type": "integer", "minimum": 0, "maximum": 999_999}},
    "required": ["sure", "open"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("first", "second", "share", "in_dispute"),
    [
        ({"a": 1, "b": {"c": [2, 3]}}, {"a": 1, "b": {"c": [2, 3]}}, 1.0, set()),
        ({"a": 1, "b": {"c": [2, 3]}}, {"a": 1, "b": {"c": [2, 4]}}, 2 / 3, {"b.c.1"}),
        ({"a": 1}, {"a": 1, "b": 2}, 0.5, set()),
        ({"a": 1, "b": 2}, {"a": 1}, 0.5, {"b"}),
        (3.5, 3.5, 1.0, set()),
        (3.5, 4.5, 0.0, {""}),
    ],
)
def test_values(first: Any, second: Any, share: float, in_dispute: set[str]) -> None:
    assert agreement(first, second) == pytest.approx(share)
    assert disputed(first, second) == in_dispute


def test_texts() -> None:
    assert agreement("one two three four", "one two three four") == 1
    assert agreement("one two three four", "one two tree four") == 0.75
    assert agreement("", "") == 1
    assert agreement("", "word") == 0


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".sqlite"])
def test_a_run_keeps_both(tmp_path: Path, tiny: Any, ending: str) -> None:
    """Nothing on the picture says what `open` is: a sampled second reading has another number."""
    for name in ("a", "b"):
        draw_text(f"Sum {name}").save(tmp_path / f"{name}.png")
    asked = Question("Which?", SamplingParams(max_tokens=60), FIELDS, twice=True)
    save = tmp_path / f"r{ending}"
    run = Run([tmp_path / "a.png", tmp_path / "b.png"], asked, save, lambda: tiny).start().wait()
    assert not run.errors
    records = list(read_run(save))
    for record in records:
        same = record.value["open"] == record.other["open"]
        assert record.other["sure"] == "yes"
        assert record.agreement == (1.0 if same else 0.5)
        alone = Question("Which?", SamplingParams(max_tokens=60), FIELDS)
        from omlx_jupyter.images.source import open_images

        assert record.value == alone.value(alone.ask(tiny, open_images(record.source)).result().text)
    assert any(record.agreement == 0.5 for record in records)
    first = doubts(iter(records))[0]
    assert (first.place, first.sure) == ("open", 0.0)
    again = Run([tmp_path / "a.png", tmp_path / "b.png"], asked, save, lambda: tiny).start().wait()
    assert again.figures().kept == 2


def test_a_page_read_twice(tmp_path: Path, tiny: Any) -> None:
    draw_text("Hello 42").save(tmp_path / "a.png")
    asked = Question(None, SamplingParams(max_tokens=20), twice=True)
    Run([tmp_path / "a.png"], asked, tmp_path / "r.jsonl", lambda: tiny).start().wait()
    (record,) = read_run(tmp_path / "r.jsonl")
    assert record.text == "Hello 42"
    assert record.agreement is not None
    assert record.agreement == agreement("Hello 42", record.other)


def test_twice_is_of_runs() -> None:
    from omlx_jupyter import ocr

    with pytest.raises(RequestError, match="twice"):
        ocr.map(["x.png"], twice=True)  # type: ignore[attr-defined]
