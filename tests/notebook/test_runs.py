"""Runs from the notebook: `%ocr --save`, `ocr.map(save=)`, `vlm.map`, pausing and going on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from pydantic import BaseModel

from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.runs.run import Run

from ..conftest import draw_text, noise_image
from .test_cells import run
from .test_magics import complaint


class Total(BaseModel):
    total: float


@pytest.fixture
def scans(shell: InteractiveShell, tmp_path: Path) -> Path:
    place = tmp_path / "scans"
    place.mkdir()
    for number in range(4):
        draw_text(f"page {number}").save(place / f"{number}.png")
    return place


def test_a_folder_by_the_magic(shell: InteractiveShell, scans: Path, capsys: Any) -> None:
    made = run(shell, "%ocr scans/ --save out/scans.jsonl -o pages")
    assert isinstance(made, Run)
    assert shell.user_ns["pages"] is made
    assert [Path(record.source).name for record in made.records()] == ["0.png", "1.png", "2.png", "3.png"]
    assert "4 of 4" in capsys.readouterr().out
    assert [record.text for record in made.records()] == [run(shell, f"%ocr scans/{n}.png").text for n in range(4)]
    run(shell, "%ocr scans/ --save out/scans.jsonl")
    assert "4 of 4 · 4 from before · saved in out/scans.jsonl" in capsys.readouterr().out
    assert "needs --save" in complaint(shell, "%ocr scans/0.png --background", capsys)
    assert "doesn't go together" in complaint(shell, "%ocr scans/ --save a.jsonl --boxes", capsys)
    assert "name it .jsonl" in complaint(shell, "%ocr scans/ --save a.csv", capsys)
    other = run(shell, "%ocr scans/*.png hello.png --save a.sqlite --background")
    other.wait()
    assert len(other) == 5


def test_functions_and_tables(shell: InteractiveShell, scans: Path) -> None:
    shell.user_ns["Total"] = Total
    table = run(
        shell,
        "from omlx_jupyter import ocr, vlm\n"
        "vlm.map('Total?', 'scans/', json=Total, save='totals.jsonl', max_tokens=400, seed=1).df",
    )
    assert {"source", "text", "error", "seconds"} <= set(table.columns)
    assert len(table) == 4
    lazily = run(shell, "later = ocr.map((p for p in ['scans/0.png']), save='b.jsonl', wait=False)\nlater")
    assert [record.error for record in lazily.wait()] == [""]


def test_settings_are_part_of_what_was_asked(
    shell: InteractiveShell, scans: Path, monkeypatch: Any, capsys: Any
) -> None:
    run(shell, "%ocr scans/ --save s.jsonl --whole")
    monkeypatch.setattr(settings(), "max_tokens", 3)
    made = run(shell, "%ocr scans/ --save s.jsonl --whole")
    assert made.notes == ["4 were done again: model, prompt or settings have changed"]
    assert "Note: 4 were done again" in capsys.readouterr().out


def test_an_interrupt_pauses_and_the_same_line_goes_on(
    shell: InteractiveShell, monkeypatch: Any, capsys: Any, tmp_path: Path
) -> None:
    pictures = [noise_image(120, 90, n) for n in range(300)]
    shell.user_ns["pictures"] = pictures
    from omlx_jupyter.runs import run as runs

    real, begun = runs.Run.wait, threading.Event()

    def pressed(self: Any, tell: Any = None) -> Any:
        def told(figures: Any) -> None:
            if figures.done >= 5 and not begun.is_set():
                begun.set()
                raise KeyboardInterrupt
            if tell is not None:
                tell(figures)

        return real(self, told)

    monkeypatch.setattr(runs.Run, "wait", pressed)
    done = shell.run_cell("%ocr pictures --save p.jsonl --whole --max-tokens 2 -o half")
    assert not done.success
    half = shell.user_ns["half"]
    assert half.state == "paused"
    kept = len(half)
    assert 5 <= kept < 300
    shown = capsys.readouterr()
    assert "Paused: " in shown.out + shown.err
    began = time.monotonic()
    whole = run(shell, "%ocr pictures --save p.jsonl --whole --max-tokens 2")
    assert len(whole) == 300
    assert whole.figures().kept == kept, time.monotonic() - began


@pytest.mark.parametrize("magic", [True, False])
def test_a_saved_map_that_is_interrupted_is_paused_without_a_traceback(
    shell: InteractiveShell, monkeypatch: Any, capsys: Any, magic: bool
) -> None:
    shell.user_ns["pictures"] = [noise_image(120, 90, n) for n in range(20)]
    from omlx_jupyter.runs import run as runs

    real, paused = runs.Run.wait, []

    def pressed(self: Any, tell: Any = None) -> Any:
        """Within the real one, which then ends what is under way: else it would ask the engines of later tests."""
        paused.append(self)

        def told(figures: Any) -> None:
            raise KeyboardInterrupt

        return real(self, told)

    monkeypatch.setattr(runs.Run, "wait", pressed)
    by_function = "from omlx_jupyter import ocr\nocr.map(pictures, save='m.jsonl', whole=True, max_tokens=2)"
    by_magic = "%ocr pictures --save m.jsonl --whole --max-tokens 2 -o half"
    shell.run_cell(by_magic if magic else by_function, store_history=True)
    shown = capsys.readouterr()
    assert "are in m.jsonl; run it again to go on." in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err
    assert [made.running for made in paused] == [False]
    assert (shell.user_ns["_"] is paused[0]) is magic  # a function's caller has no run to go on with
    assert not magic or shell.user_ns["half"] is paused[0]


def test_words_that_are_none_are_told(shell: InteractiveShell, scans: Path) -> None:
    from omlx_jupyter import ocr, vlm
    from omlx_jupyter.errors import RequestError

    for act, said in (
        (lambda: ocr.map("scans/", save="a.jsonl", concurrency="x"), "concurrency is 'x'"),
        (lambda: ocr.map("scans/", save="a.jsonl", temprature=3), "no setting temprature; did you mean temperature"),
        (lambda: ocr.map("scans/", save="a.jsonl", hint="x"), "takes no hint"),
        (lambda: vlm("x", temprature=3), "did you mean temperature"),
        (lambda: vlm.table("scans/", {"a": "x"}, zzz=1), "there is no setting zzz; there are"),
    ):
        with pytest.raises(RequestError, match=said):
            act()


def test_a_table_is_a_sheet(shell: InteractiveShell, tmp_path: Path) -> None:
    from IPython.utils.capture import capture_output

    from omlx_jupyter.notebook.answers.sheet import sheet_html
    from omlx_jupyter.notebook.work.runs import SavedTable
    from omlx_jupyter.runs.question import Question
    from omlx_jupyter.runs.record import Record
    from omlx_jupyter.runs.store import open_store

    store = open_store(tmp_path / "t.jsonl", writes=True)
    store.add(Record("<b>.png", column="one", text="<script>", confidence=0.9))
    store.add(Record("<b>.png", column="two", error='it\'s "gone"'))
    store.add(Record("c.png", 2, column="one", value={"n": 1}, text="x", confidence=0.2))
    store.close()
    table = SavedTable([], {"one": Question("?"), "two": Question("?")}, tmp_path / "t.jsonl", lambda: None)
    made = str(sheet_html(table))
    assert made.count("<tr>") == 3
    assert "<th>&lt;b&gt;.png</th>" in made
    assert "&lt;script&gt;</td>" in made
    assert '<td title="it&#x27;s &quot;gone&quot;">failed</td>' in made
    assert "<th>c.png[2]</th>" in made
    assert 'underline dotted" title="the model was 20 % sure">{&#x27;n&#x27;: 1}</td><td></td>' in made
    shell.user_ns["table"] = table
    with capture_output() as said:
        shell.run_cell("table")
    assert said.outputs[0].data["text/html"] == made
