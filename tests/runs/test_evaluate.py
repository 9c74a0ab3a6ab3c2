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
from omlx_jupyter.runs.tables_alike import tables_alike


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


MARKDOWN = "Prices:\n\n| Item | Price |\n| --- | --- |\n| Rice | 2.50 |\n| Salt | 9.10 |\n\nThat is all."
HTML = (
    "<table><tr><th>Item</th><th>Price</th></tr><tr><td>Rice</td><td>2.50</td></tr>"
    "<tr><td>Salt</td><td>9.10</td></tr></table>"
)


def test_tables_of_markdown_and_html_are_alike() -> None:
    assert tables_alike(MARKDOWN, HTML) == 1
    assert tables_alike(HTML.replace("<tr><th>", "<thead><tr><th>"), MARKDOWN) == 1
    assert tables_alike("no table", "none here either | really") is None
    assert tables_alike(MARKDOWN, "no table") is None


def test_what_is_wrong_with_a_table_costs_what_it_is() -> None:
    """Ten nodes: a table's rows and cells (3 rows, 6 cells, and the table itself)."""
    one_letter = tables_alike(MARKDOWN.replace("Rice", "Rive"), MARKDOWN)
    row_missing = tables_alike(MARKDOWN.replace("| Salt | 9.10 |\n", ""), MARKDOWN)
    column_missing = tables_alike("| Item |\n| --- |\n| Rice |\n| Salt |", MARKDOWN)
    assert one_letter is not None
    assert row_missing == pytest.approx(1 - 3 / 10)
    assert column_missing == pytest.approx(1 - 3 / 10)
    assert 1 > one_letter > row_missing
    assert tables_alike("no table", MARKDOWN) == 0
    assert tables_alike(f"{MARKDOWN}\n\n{HTML}", MARKDOWN) == 0.5  # one too many


def test_an_evaluation_has_its_tables(tmp_path: Path) -> None:
    store = open_store(tmp_path / "r.jsonl", writes=True)
    store.add(Record("a.png", text=MARKDOWN))
    store.add(Record("b.png", text=MARKDOWN.replace("| Salt | 9.10 |\n", "")))
    store.add(Record("c.png", text="words"))
    store.close()
    found = evaluate(tmp_path / "r.jsonl", {"a.png": MARKDOWN, "b.png": MARKDOWN, "c.png": "words"})
    assert found.tables == pytest.approx((1 + 7 / 10) / 2)
    assert "tables alike" in repr(found)
    assert found.by_kind["png"].tables == found.tables
