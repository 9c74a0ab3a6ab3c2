"""Runs through the real engine: each source once, whatever happens; what changed is done again, and told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.errors import RunError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.record import Record
from omlx_jupyter.runs.run import Run, read_run
from omlx_jupyter.runs.sources import items

from ..conftest import draw_text, noise_image

ENDINGS = (".jsonl", ".sqlite", ".parquet")
SHORT = SamplingParams(max_tokens=6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "scans"
    place.mkdir()
    for number in (1, 2, 10):
        draw_text(f"page {number}").save(place / f"{number}.png")
    draw_text("first").save(place / "two.pdf", save_all=True, append_images=[draw_text("second")])
    return place


def run_of(sources: Any, save: Path, engine: Any, **options: Any) -> Run:
    return Run(sources, Question(sampling=SHORT, **options), save, lambda: engine)


def names(records: Any) -> list[str]:
    return [Path(record.source).name + (f"[{record.page}]" if record.page else "") for record in records]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_is_read_once_and_kept(ending: str, folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / f"run{ending}"
    run = run_of(folder, save, tiny).start().wait()
    assert sorted(names(run.records())) == ["1.png", "10.png", "2.png", "two.pdf[1]", "two.pdf[2]"]
    assert run.figures().line().startswith("5 of 5")
    found = {record.name: record for record in read_run(save)}
    alone = tiny.generate(images=[draw_text("page 2")], sampling=SHORT)
    assert found[str(folder / "2.png")].usage["completion_tokens"] >= 1
    assert alone.text is not None
    before = tiny.stats().finished
    again = run_of(folder, save, tiny).start().wait()
    assert tiny.stats().finished == before
    assert again.figures().line() == "5 of 5 · 5 from before"
    assert {record.name: record for record in again.records()} == found
    assert names(again.records()) == ["1.png", "2.png", "10.png", "two.pdf[1]", "two.pdf[2]"]
    draw_text("changed").save(folder / "2.png")
    third = run_of(folder, save, tiny).start().wait()
    assert third.figures().kept == 4
    assert third.notes == ["1 were done again: their sources have changed"]
    assert sum("2.png" in record.source for record in third.records()) == 1
    os.utime(folder / "1.png")  # another time, the same pixels
    assert run_of(folder, save, tiny).start().wait().figures().kept == 5
    other = Run(folder, Question(sampling=SamplingParams(max_tokens=5)), save, lambda: tiny).start().wait()
    assert other.figures().kept == 0
    assert other.notes == ["5 were done again: model, prompt or settings have changed"]
    assert len(other) == 5


def test_answers_are_those_of_single_requests(folder: Path, tmp_path: Path, tiny: Any) -> None:
    from omlx_jupyter import ocr
    from omlx_jupyter.chat.pages import read_picture
    from omlx_jupyter.images.source import open_images

    assert ocr is not None
    run = Run(folder, Question(), tmp_path / "a.jsonl", lambda: tiny).start().wait()
    for record in run.records():
        if record.page is None:
            page = read_picture(tiny, open_images(record.source)).result()
            assert record.text == page.text
            assert [line["text"] for line in record.lines] == [line.text for line in page.lines]


def test_sources_of_all_kinds(folder: Path, tmp_path: Path) -> None:
    limits = Limits()
    assert [i.source for i in items(str(folder / "*.png"), limits)] == [str(folder / f"{n}.png") for n in (1, 2, 10)]
    assert [i.page for i in items(str(folder / "two.pdf[2]"), limits)] == [2]
    assert next(items([noise_image(8, 8), str(folder / "1.png")], limits)).source == "#1"
    assert [i.source for i in items(pandas.Series([str(folder / "1.png")]), limits)] == [str(folder / "1.png")]
    table = pyarrow.table({"image": [{"bytes": (folder / "1.png").read_bytes()}, {"path": str(folder / "2.png")}]})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    found = list(items(f"{tmp_path / 'data.parquet'}::image", limits))
    assert [i.source.rpartition("#")[2] for i in found] == ["1", "2"]
    assert [i.open()[0].width > 0 for i in found] == [True, True]
    with pytest.raises(RunError, match="has no column text; it has image"):
        list(items(f"{tmp_path / 'data.parquet'}::text", limits))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds no pictures and no PDFs"):
        list(items(str(tmp_path / "empty"), limits))
    taken = []

    def lazily() -> Iterator[Any]:
        for number in range(1000):
            taken.append(number)
            yield noise_image(8, 8, number)

    lazy = items(lazily(), limits)
    next(lazy)
    assert taken == [0]


def test_failures_stay_with_their_reason_and_can_be_tried_again(folder: Path, tmp_path: Path, tiny: Any) -> None:
    (folder / "3.png").write_bytes(b"nonsense")
    run = (
        run_of([folder / "1.png", folder / "3.png", folder / "nowhere.png"], tmp_path / "r.jsonl", tiny).start().wait()
    )
    assert names(run.errors) == ["3.png", "nowhere.png"]
    assert "is not a picture" in run.errors[0].error
    assert "there is no file" in run.errors[1].error
    assert run.figures().failed == 2
    before = (tmp_path / "r.jsonl").read_bytes()
    assert (
        run_of(run._asked.sources, tmp_path / "r.jsonl", tiny).start().wait().figures().line()
        == "3 of 3 · 3 from before · 2 failed"
    )
    assert (tmp_path / "r.jsonl").read_bytes() == before
    run.retry()
    assert (tmp_path / "r.jsonl").read_bytes() != before
    assert len(run.errors) == 2
    draw_text("there now").save(folder / "3.png")
    run_of(run._asked.sources, tmp_path / "r.jsonl", tiny).start().wait()
    assert names(run.errors) == ["nowhere.png"]
    with pytest.raises(RunError, match="generator, which is used up"):
        run_of(iter([]), tmp_path / "x.jsonl", tiny).retry()


def test_records_come_as_they_are_made_and_a_pause_keeps_them(folder: Path, tmp_path: Path, tiny: Any) -> None:
    def slowly() -> Iterator[Any]:
        for number in range(500):
            yield noise_image(40, 30, number)

    run = Run(
        slowly(), Question("Read.", SamplingParams(max_tokens=3)), tmp_path / "p.jsonl", lambda: tiny, ahead=4
    ).start()
    seen = []
    for record in run:
        seen.append(record.name)
        if len(seen) == 5:
            run.pause()
    assert run.state == "paused"
    assert len(seen) == len(run) < 500
    assert not any(record.finish_reason == "cancelled" for record in run.records())
    more = Run(slowly(), Question("Read.", SamplingParams(max_tokens=3)), tmp_path / "p.jsonl", lambda: tiny).start()
    time.sleep(0.2)
    more.pause()
    assert more.figures().kept >= len(seen)
    assert len({record.name for record in more.records()}) == len(more)


def test_one_writer_a_file(folder: Path, tmp_path: Path, tiny: Any, monkeypatch: Any) -> None:
    from omlx_jupyter.runs.lock import RunLock

    save = tmp_path / "run.jsonl"
    monkeypatch.setattr("omlx_jupyter.runs.lock.PATIENCE_S", 0.2)
    lock = RunLock(save)
    with pytest.raises(RunError, match=f"is being written by process {os.getpid()}"):
        run_of(folder, save, tiny).start()
    lock.close()
    run_of(folder, save, tiny).start().wait()
    assert len(list(read_run(save))) == 5
    with pytest.raises(RunError, match=r"name it \.jsonl, \.parquet or \.sqlite"):
        run_of(folder, tmp_path / "run.txt", tiny).start()
    with pytest.raises(RunError, match="can't be made"):
        run_of(folder, Path("/proc/none/run.jsonl"), tiny).start()


def test_torn_and_damaged_lines_are_mended_and_told(folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "run.jsonl"
    run_of(folder, save, tiny).start().wait()
    lines = save.read_bytes().splitlines(keepends=True)
    save.write_bytes(b"".join(lines[:2]) + b"nonsense\n" + b"[1]\n" + lines[3] + lines[4][:-1] + b"x" * 5000)
    run = run_of(folder, save, tiny).start().wait()
    assert sorted(run.notes[:2]) == [
        "2 lines are no records; their sources are done again",
        "the last line was torn and is done again",
    ]
    assert run.figures().kept == 3
    assert len(run) == 5
    assert len({record.name for record in run.records()}) == 5
    assert all(json.loads(line) for line in save.read_bytes().splitlines()[4:])


class Receipt(BaseModel):
    model_config = ConfigDict(extra="forbid")
    total: Literal[7]


class Refused(Receipt):
    @field_validator("total")
    @classmethod
    def check(cls, value: int) -> int:
        raise ValueError("the sum of the items is 8")


def test_answers_by_schema_are_values_and_columns(folder: Path, tmp_path: Path, tiny: Any) -> None:
    question = Question("Total?", SamplingParams(max_tokens=300), schema=Receipt)
    run = Run([folder / "1.png", folder / "2.png"], question, tmp_path / "s.jsonl", lambda: tiny).start().wait()
    assert [record.value for record in run.records()] == [{"total": 7}] * 2
    assert run.df["total"].tolist() == [7, 7]
    assert list(run.df.columns)[:4] == ["source", "page", "text", "total"]
    path = run.to_parquet(tmp_path / "all.parquet")
    assert pandas.read_parquet(path)["total"].tolist() == [7, 7]


def test_a_failed_check_is_asked_again_once_with_the_reason(folder: Path, tmp_path: Path, tiny: Any) -> None:
    asked: list[Any] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(tiny, name)

        def submit(self, messages: Any, **options: Any) -> Any:
            asked.append(messages)
            return tiny.submit(messages, **options)

    question = Question("Total?", SamplingParams(max_tokens=300), schema=Refused)
    run = Run([folder / "1.png"], question, tmp_path / "s.jsonl", Watching).start().wait()
    (record,) = run.records()
    assert "the sum of the items is 8" in record.error
    assert '"total"' in record.text
    assert [len(messages) for messages in asked] == [1, 3]
    assert "the sum of the items is 8" in asked[1][-1].parts[0]
    assert "total" in asked[1][1].parts[0]


def test_a_record_is_the_same_again() -> None:
    made = Record(
        "a", 2, "q", content="c", stamp=(1, 2), sampling={"seed": 1}, text="tëxt", value={"a": [1]},
        lines=({"text": "x"},), usage={"n": 1}, confidence=0.5, sure={"a": 0.5},
    )  # fmt: skip
    again = Record.of_line(made.line())
    assert json.loads(again.line()) == json.loads(made.line())
    assert again.key == made.key == ("a", 2, "q")


SCRIPT = """
import sys, time
from pathlib import Path
from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.run import Run
engine = Engine.load(cache=CacheSettings(0))
print("ready", flush=True)
question = Question("Read.", SamplingParams(max_tokens=8))
Run(sys.argv[1], question, sys.argv[2], lambda: engine).start().wait()
print("done", flush=True)
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_kills_at_any_moment_lose_and_double_nothing(ending: str, tmp_path: Path) -> None:
    place, save = tmp_path / "many", tmp_path / f"run{ending}"
    place.mkdir()
    pages = 300 if "OMLX_TORTURE_RUNS" in os.environ else 40
    for number in range(pages):
        noise_image(60, 40, number).save(place / f"{number:03}.png")
    kills = int(os.environ.get("OMLX_TORTURE_RUNS", "3" if ending == ".jsonl" else "1"))
    step = (3, 5) if pages == 40 else (1, 1)  # so that there is something left to do at the last kill
    counts, killed = [0], 0
    for attempt in range(kills + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(place), str(save)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if attempt < kills:
            before = counts[-1]
            wait_until = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < wait_until:
                if save.exists() and len(written(save)) >= before + step[0] + step[1] * (attempt % 3):
                    break
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        else:
            assert process.stdout.readline() == "done\n"
            assert process.wait(60) == 0
        counts.append(len(written(save)))
    assert counts == sorted(counts)
    assert counts[1] > 0
    assert killed > 0.6 * kills
    found = list(read_run(save))
    assert sorted(Path(r.source).name for r in found) == [f"{n:03}.png" for n in range(pages)]
    if ending == ".jsonl":
        assert len(save.read_bytes().splitlines()) == pages  # nothing was done twice
    with Engine.load() as engine:
        for record in found[::13]:
            alone = engine.generate("Read.", images=[record.source], sampling=SamplingParams(max_tokens=8))
            assert record.text == alone.text


def written(save: Path) -> list[Record]:
    try:
        return list(read_run(save))
    except RunError:
        return []


def test_a_source_that_is_nothing_is_an_error_in_its_place(folder: Path, tmp_path: Path, tiny: Any) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nonsense")
    odd = os.fsencode(folder) + b"/bad\xff.png"
    draw_text("odd").save(folder / "x.png")
    os.rename(folder / "x.png", odd)
    sources = [str(folder / "1.png"), "", str(folder / "broken.pdf"), str(tmp_path / "no" / "*.png"), os.fsdecode(odd)]
    for ending in ENDINGS:
        run = run_of(sources, tmp_path / f"r{ending}", tiny).start().wait()
        records = list(run.records())
        assert len(records) == 5
        assert [bool(record.error) for record in records] == [False, True, True, True, False]
        assert "empty string" in records[1].error
        assert "no file matches" in records[3].error
        assert records[4].source.endswith("bad\\udcff.png")
        again = run_of(sources, tmp_path / f"r{ending}", tiny).start().wait()
        assert again.figures().kept >= 2
    with pytest.raises(RunError, match="no file matches"):
        run_of("*.nope", tmp_path / "n.jsonl", tiny).start().wait()
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "t2.parquet")
    with pytest.raises(RunError, match=r"name the column with the pictures: .*::image"):
        run_of(str(tmp_path / "t2.parquet"), tmp_path / "n.jsonl", tiny).start().wait()
    assert run_of(iter([]), tmp_path / "e.jsonl", tiny).start().wait().notes == ["there were no sources"]


@pytest.mark.parametrize("content", ['{"my": "dataset"}', '{"my": "dataset"}\n', "notes\nof mine\n", '[{"source": 1}]'])
def test_a_file_that_is_no_run_stays_as_it_is(content: str, folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "data.jsonl"
    save.write_text(content)
    with pytest.raises(RunError, match="is there and isn't a run; name another file"):
        run_of(folder, save, tiny).start()
    assert save.read_text() == content
    import sqlite3

    database = tmp_path / "mine.sqlite"
    with sqlite3.connect(database) as made:
        made.execute("CREATE TABLE mine (a)")
    (tmp_path / "mine.parquet").mkdir()
    (tmp_path / "mine.parquet" / "data.parquet").write_bytes(b"x")
    for place in (database, tmp_path / "mine.parquet"):
        with pytest.raises(RunError, match="isn't a run"):
            run_of(folder, place, tiny).start()
    with pytest.raises(RunError, match="a run is saved in a file"):
        run_of(folder, Path(), tiny).start()


def test_a_record_whose_line_end_an_editor_took_is_kept(folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "run.jsonl"
    run = run_of(folder, save, tiny).start().wait()
    run.correct(str(folder / "1.png"), text="mine")
    save.write_bytes(save.read_bytes().removesuffix(b"\n"))
    again = run_of(folder, save, tiny).start().wait()
    assert again.figures().kept == 5
    assert again.notes == []
    assert [record.text for record in again.records() if record.source.endswith("/1.png")] == ["mine"]
    assert save.read_bytes().endswith(b"\n")


def test_a_file_that_is_removed_under_the_run_is_written_anew(folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "run.jsonl"

    def pictures() -> Iterator[Any]:
        for number in range(12):
            if number == 6:
                save.unlink()
            yield noise_image(40, 30, number)

    run = Run(pictures(), Question("Read.", SHORT), save, lambda: tiny, ahead=1).start().wait()
    assert len(run) == 12
    assert run.notes == ["the file was removed while the run wrote it, and was written anew"]


class Strange(Receipt):
    @field_validator("total")
    @classmethod
    def check(cls, value: int) -> int:
        raise ZeroDivisionError("of its own")


def test_whatever_a_validator_raises_the_text_is_kept(folder: Path, tmp_path: Path, tiny: Any) -> None:
    for schema, most, said in (
        (Strange, 300, "of its own"),
        (Receipt, 3, "the answer was cut (max_tokens (3) reached)"),
    ):
        question = Question("Total?", SamplingParams(max_tokens=most), schema=schema)
        run = Run([folder / "1.png"], question, tmp_path / f"{schema.__name__}.jsonl", lambda: tiny).start().wait()
        (record,) = run.records()
        assert said in record.error
        assert record.text


def test_sources_without_a_name_that_failed_are_looked_at_again(folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "u.jsonl"
    assert run_of([None, noise_image(40, 30, 1)], save, tiny).start().wait().figures().failed == 1
    again = run_of([noise_image(40, 30, 2), noise_image(40, 30, 1)], save, tiny).start().wait()
    assert (again.figures().failed, again.figures().kept) == (0, 1)
    assert len(list(again)) == 2


def test_each_source_comes_once_also_where_it_is_done_again(folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "r.jsonl"
    run_of(folder, save, tiny).start().wait()
    again = Run(folder, Question(sampling=SamplingParams(max_tokens=4)), save, lambda: tiny).start()
    assert len({record.name for record in again}) == len(list(again)) == 5


def test_a_run_that_is_being_paused_here_is_waited_for(folder: Path, tmp_path: Path, tiny: Any) -> None:
    import threading

    from omlx_jupyter.runs.lock import RunLock

    lock = RunLock(tmp_path / "run.jsonl")
    threading.Timer(0.3, lock.close).start()
    assert run_of(folder, tmp_path / "run.jsonl", tiny).start().wait().figures().done == 5
    run = run_of(folder, tmp_path / "run.jsonl", tiny).start().wait()
    assert run.correct(str(folder / "1.png"), "mine").text == "mine"
    (tmp_path / "run.jsonl").unlink()
    with pytest.raises(RunError, match="there is no run"):
        run.correct(str(folder / "1.png"), "mine")


def test_a_thought_without_an_answer_is_an_error(folder: Path, tmp_path: Path) -> None:
    from ..checkpoints import scripted

    (tmp_path / "thinker").mkdir()
    made = scripted.write(tmp_path / "thinker", [["\n", "<think>", "Hm", " so", " I", "Hm"], ["</think>", "x"]])
    with Engine.load(made) as engine:
        question = Question("2 + 2?", SamplingParams(max_tokens=4, temperature=0), whole=True)
        run = Run([folder / "1.png"], question, tmp_path / "t.jsonl", lambda: engine).start().wait()
        (record,) = run.errors
        assert "ended inside its thought" in record.error


def test_what_was_corrected_and_is_done_again_is_told(folder: Path, tmp_path: Path, tiny: Any) -> None:
    save = tmp_path / "c.jsonl"
    run = run_of(folder, save, tiny).start().wait()
    run.correct(str(folder / "1.png"), "mine")
    again = Run(folder, Question(sampling=SamplingParams(max_tokens=4)), save, lambda: tiny).start().wait()
    assert again.notes[-1] == "1 of them had been corrected: look at them again"


def test_a_long_url_has_one_name_in_every_process() -> None:
    ask = (
        "from omlx_jupyter.runs.sources import items\n"
        "from omlx_jupyter.images.decoded import Limits\n"
        "print(next(iter(items('data:image/png;base64,' + 'A' * 900, Limits()))).source)"
    )
    named = {
        subprocess.run(
            [sys.executable, "-c", ask], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(named) == 1


def test_a_documents_pages_are_one_request(folder: Path, tmp_path: Path, tiny: Any) -> None:
    pictures = [noise_image(60, 40, number) for number in range(3)]
    pictures[0].save(folder / "three.tiff", save_all=True, append_images=pictures[1:])
    asked = Question("What?", SHORT, whole=True, documents=True)
    run = Run([folder, pictures], asked, tmp_path / "run.jsonl", lambda: tiny).start().wait()
    found = {Path(record.source).name: record for record in run.records()}
    assert {name: record.usage["images"] for name, record in found.items()} == {
        "1.png": 1, "2.png": 1, "10.png": 1, "two.pdf": 2, "three.tiff": 3, "#2": 3,
    }  # fmt: skip
    assert all(record.page is None and not record.error for record in found.values())
    alone = tiny.generate("What?", images=pictures, sampling=SHORT)
    assert found["#2"].text == found["three.tiff"].text == alone.text
    again = Run([folder, pictures], asked, tmp_path / "run.jsonl", lambda: tiny).start().wait()
    assert again.figures().kept == 6
    pages = Run([folder, pictures], Question("What?", SHORT, whole=True), tmp_path / "run.jsonl", lambda: tiny)
    assert pages.start().wait().figures().kept == 0  # each page by itself is another question
