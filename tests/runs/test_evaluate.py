"""A run against the truth: figures for errors that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest

from omlx_jupyter import evaluate
from omlx_jupyter.errors import RunError
from omlx_jupyter.runs.record import Record
from omlx_jupyter.runs.store import open_store


def made(path: Path, *records: Record) -> Path:
    store = open_store(path, writes=True)
    for record in records:
        store.add(record)
    store.close()
    return path


TEXTS = (
    Record("a/1.png", text="hello world", confidence=0.99),
    Record("a/2.png", text="hallo wrld", confidence=0.4),
    Record("a/book.pdf", 2, text="one\ntwo\nfour\nthree"),
    Record("a/bad.png", error="can't be read"),
)


def test_texts(tmp_path: Path) -> None:
    path = made(tmp_path / "r.jsonl", *TEXTS)
    truth = {"1.png": "hello world", "a/2.png": "hello world", "book.pdf[2]": "one\ntwo\nthree\nfour", "bad.png": "x",
             "gone.png": "y"}  # fmt: skip
    found = evaluate(path, truth)
    assert len(found.compared) == 3
    assert found.missing == ["bad.png", "gone.png"]
    by_name = {c.record.name: c for c in found.compared}
    assert by_name["a/1.png"].cer == 0
    assert by_name["a/2.png"].cer == pytest.approx(2 / 11)  # a for e, and an o that is missing
    assert by_name["a/2.png"].wer == 1
    assert by_name["a/book.pdf[2]"].order == pytest.approx(2 / 3)
    assert found.order == pytest.approx(2 / 3)
    edits = 2 + by_name["a/book.pdf[2]"].cer * 18  # type: ignore[operator]
    assert found.cer == pytest.approx(edits / (11 + 11 + 18))
    assert [c.record.name for c in found.worst] == ["a/book.pdf[2]", "a/2.png"]
    assert set(found.by_kind) == {"png", "pdf"}
    assert found.by_kind["png"].cer == pytest.approx(2 / 22)
    assert found.calibration == [(0.0, 0.5, 0.0, 1), (0.99, 1.0, 1.0, 1)]
    assert "character errors" in repr(found)
    assert "2 (bad.png, gone.png)" in repr(found)
    assert len(evaluate(path, {"1.png": "hello world", "2.png": None}).compared) == 1
    with pytest.raises(RunError, match="takes a run or its file, not a DataFrame"):
        evaluate(pandas.DataFrame(), truth)  # type: ignore[arg-type]


def test_values_and_data_frames(tmp_path: Path) -> None:
    sure = {"shop": 0.97, "total": 0.3}
    path = made(
        tmp_path / "r.sqlite",
        Record("1.png", value={"shop": "  Miller & SON ", "total": 3.0}, sure=sure),
        Record("2.png", value={"shop": "Smith", "total": 4}, sure=sure),
    )
    truth = pandas.DataFrame({"source": ["1.png", "2.png"], "shop": ["miller & son", "Smyth"], "total": [3, 5.0]})
    found = evaluate(path, truth)
    assert found.fields == {"shop": 0.5, "total": 0.5}
    assert found.accuracy == 0.5
    assert found.cer is None
    assert [c.record.source for c in found.worst] == ["2.png"]
    assert found.calibration == [(0.0, 0.5, 0.5, 2), (0.95, 0.99, 0.5, 2)]


def test_a_table_and_its_own_corrections(tmp_path: Path) -> None:
    path = made(
        tmp_path / "t.parquet",
        Record("1.png", column="n", value=3, confidence=0.9),
        Record("1.png", column="words", text="abcd"),
        Record("2.png", column="n", value=True, confidence=0.2),
    )
    assert evaluate(path, {("1.png", "n"): 3.0, ("2.png", "n"): 1}).fields == {"n": 0.5}
    with pytest.raises(RunError, match="nothing to compare with"):
        evaluate(path)
    made(path, Record("1.png", column="words", text="abce", kind="correction"))
    found = evaluate(path)
    assert len(found.compared) == 1
    assert found.cer == pytest.approx(0.25)
    assert found.compared[0].record.text == "abcd"


@pytest.mark.parametrize("truth", [3, pandas.DataFrame({"text": ["x"]}), ["a"]])
def test_what_is_no_truth_is_told(truth: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"truth is a|column named source"):
        evaluate(made(tmp_path / "r.jsonl", *TEXTS), truth)


def test_pages_and_a_runs_own_table_as_truth(tmp_path: Path) -> None:
    from omlx_jupyter.runs.frames import frame

    path = made(tmp_path / "r.jsonl", Record("w.pdf", 1, text="one"), Record("w.pdf", 2, text="two"))
    found = evaluate(path, pandas.DataFrame({"source": ["w.pdf"] * 2, "page": [1, 2], "text": ["one", "tow"]}))
    assert [c.cer for c in found.compared] == [0, pytest.approx(2 / 3)]
    assert evaluate(path, frame([Record("w.pdf", 1, text="one"), Record("w.pdf", 2, text="two")])).cer == 0
