"""`run.review()`: the least sure first, corrections written down, by messages as the page sends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter import evaluate
from omlx_jupyter.notebook.answers.review import review
from omlx_jupyter.runs.doubts import doubts
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.record import Record
from omlx_jupyter.runs.run import Run, read_run
from omlx_jupyter.runs.store import open_store

from ..conftest import draw_text
from .test_cells import run


@pytest.fixture
def saved(tmp_path: Path) -> Run:
    for name in ("a", "b"):
        draw_text(name).save(tmp_path / f"{name}.png")
    store = open_store(tmp_path / "r.jsonl", writes=True)
    box = ((4, 4), (20, 4), (20, 16), (4, 16))
    lines = ({"text": "Tota1", "box": box, "logprob": -2.0}, {"text": "17", "box": box, "logprob": -0.01})
    store.add(Record(str(tmp_path / "a.png"), text="Tota1\n17", lines=lines))
    value = {"shop": "x", "items": [{"n": 3}], "paid": True}
    store.add(Record(str(tmp_path / "b.png"), value=value, sure={"shop": 0.9, "items.0.n": 0.2, "paid": 0.5}))
    store.add(Record("gone.png", text="y", confidence=0.05))
    store.add(Record("bad.png", error="no"))
    store.close()
    return Run([], Question(), tmp_path / "r.jsonl", lambda: None)


def test_the_least_sure_first(saved: Run) -> None:
    found = doubts(saved.records())
    assert [(d.record.source.rpartition("/")[2], d.place, d.said) for d in found] == [
        ("gone.png", "", "y"), ("a.png", "0", "Tota1"), ("b.png", "items.0.n", "3"), ("b.png", "paid", "true"),
        ("b.png", "shop", "x"), ("a.png", "1", "17"),
    ]  # fmt: skip


def test_accepting_and_correcting(saved: Run) -> None:
    widget = review(saved)

    def press(act: str, text: str = "") -> None:
        widget._handle_custom_msg({"act": act, "text": text}, [])

    assert widget.item["picture"] == ""  # its file has gone; the answer can be corrected all the same
    press("skip")
    assert (widget.item["place"], widget.item["number"], widget.item["count"]) == ("0", 2, 6)
    assert widget.item["picture"].startswith("data:image/jpeg")
    press("save", "Total")
    assert widget.item["place"] == "items.0.n"
    press("save", "many")
    assert "is a value of another kind" in widget.note
    press("save", "4")
    press("save", "maybe")
    assert "true or false" in widget.note
    press("save", "false")
    press("save", "x")  # as it was: accepted
    press("back")
    press("save", "yes")
    assert widget.item["place"] == "1"
    press("save", "17")
    assert widget.item == {}
    assert widget.note == "6 saved"
    by_name = {record.source.rpartition("/")[2]: record for record in read_run(saved.path)}
    assert by_name["a.png"].text == "Total\n17"
    assert by_name["b.png"].value == {"shop": "x", "items": [{"n": 4}], "paid": False}
    assert by_name["gone.png"].text == "yes"
    assert all(record.kind == "correction" for name, record in by_name.items() if name != "bad.png")
    assert doubts(saved.records()) == []
    found = evaluate(saved)
    assert found.fields["paid"] == 0
    assert found.fields["shop"] == 1
    assert review(saved).item == {}


def test_from_a_cell(shell: InteractiveShell, capsys: Any) -> None:
    widget = run(shell, "from omlx_jupyter import ocr\nocr.map(['hello.png', 'sum.png'], save='r.jsonl').review()")
    assert widget.item["count"] == 2
    assert widget.item["text"]
