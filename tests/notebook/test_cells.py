"""What a `%%vlm` cell can do beyond a question: expressions, chats, structure, tools, many pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pandas
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from omlx_jupyter import Message, ocr, vlm
from omlx_jupyter.images.decoded import DecodedImage, Limits
from omlx_jupyter.images.source import open_images
from omlx_jupyter.models.tools import ToolCall
from omlx_jupyter.notebook.cells import accessor, ask_cell, functions, structured
from omlx_jupyter.notebook.cells.complete import _omlx
from omlx_jupyter.notebook.cells.interpolate import interpolate
from omlx_jupyter.notebook.settings import config
from omlx_jupyter.notebook.watch.state import Watcher
from omlx_jupyter.notebook.work import chats, jobs, latest, many, session, tool_loop
from omlx_jupyter.notebook.work.jobs import Job
from omlx_jupyter.notebook.work.tools import of_function

from ..conftest import draw_text, endless, noise_image
from .test_magics import complaint, run

LIMITS = Limits()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    chats.clear()
    yield
    chats.clear()


def kinds(parts: list[Any]) -> list[Any]:
    return ["picture" if isinstance(part, DecodedImage) else part for part in parts]


def test_pictures_go_where_they_stand() -> None:
    img = draw_text("one")
    names = {"img": img, "imgs": [img, img, img], "n": 3, "d": {"a": img}, "x": 1.2345}
    assert kinds(interpolate("What is {img}?", names, LIMITS)) == ["What is ", "picture", "?"]
    assert kinds(interpolate("{imgs[1:]} and {d['a']}", names, LIMITS)) == ["picture", "picture", " and ", "picture"]
    assert kinds(interpolate("{n + 1} {x:.2f} {n!r:>3} {'}'}", names, LIMITS)) == ["4 1.23   3 }"]
    assert kinds(interpolate('{{"a": {n}}} {{}}', names, LIMITS)) == ['{"a": 3} {}']
    assert kinds(interpolate("{ {'k': n}['k'] }", names, LIMITS)) == ["3"]


def test_plots_and_tables() -> None:
    import matplotlib

    matplotlib.use("Agg")
    frame = pandas.DataFrame({"shop": ["A|B", "C"], "total": [1, 2]})
    parts = interpolate("{df}", {"df": frame}, LIMITS)
    assert parts == ["\n|  | shop | total |\n| --- | --- | --- |\n| 0 | A\\|B | 1 |\n| 1 | C | 2 |\n"]
    assert "| total |" in str(interpolate("{df['total']}", {"df": frame}, LIMITS)[0])
    assert kinds(interpolate("{df.plot()}", {"df": frame}, LIMITS)) == ["picture"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a {nothing} b", "NameError"),
        ("line\nthen {1/0}", "line 3"),
        ("{open", "never closed"),
        ("a } b", "without its {"),
        ("\\frac{a b}{c}", "{{"),
    ],
)
def test_errors_point_at_the_expression(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        interpolate(text, {}, LIMITS)
    assert said in str(caught.value)
    assert str(caught.value).splitlines()[-1].strip() == "^"


def test_a_cell_with_pictures_in_its_sentence(shell: InteractiveShell) -> None:
    result = run(shell, "%%vlm --max-tokens 8\nText Recognition: {img}")
    assert result.usage.images == 1
    assert result.messages[0].parts[0] == "Text Recognition: "
    assert result.messages[-1].role == "assistant"


def test_a_chat_goes_on_and_forks(shell: InteractiveShell, monkeypatch: Any) -> None:
    cell = ["a"]
    monkeypatch.setattr(ask_cell, "cell_id", lambda _: cell[0])
    first = run(shell, "%%vlm --chat trip --max-tokens 4\nOne {img}")
    cell[0] = "b"
    second = run(shell, "%%vlm --chat trip --max-tokens 4\nTwo")
    assert len(second.messages) == 4
    assert second.usage.cached_tokens >= first.usage.prompt_tokens
    assert second.usage.images_encoded == 0
    cell[0] = "a"
    again = run(shell, "%%vlm --chat trip --max-tokens 4\nOne, but shorter {img}")
    assert len(again.messages) == 2
    assert chats.names() == ["trip", "trip~1"]
    assert len(chats.find("trip~1").turns) == 2


def test_chats_are_listed_forked_and_exported(shell: InteractiveShell, tmp_path: Path, capsys: Any) -> None:
    run(shell, "%%vlm --chat trip --max-tokens 4\nOne {img}")
    run(shell, "%omlx chats fork trip other")
    run(shell, f"%omlx chats export trip {tmp_path}/trip.json")
    run(shell, f"%omlx chats export trip {tmp_path}/trip.md")
    made = json.loads((tmp_path / "trip.json").read_text())
    assert [m["role"] for m in made] == ["user", "assistant"]
    assert made[0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert "![picture](data:image/png" in (tmp_path / "trip.md").read_text()
    assert "No such file or directory); name a file that can" in complaint(
        shell, f"%omlx chats export trip {tmp_path}/nowhere/trip.md", capsys
    )
    assert "name a file that can" in complaint(shell, "%omlx chats export trip ~nobody_of_this_name/trip.md", capsys)
    run(shell, "%omlx chats")
    assert "other: 1 turns, 1 pictures" in capsys.readouterr().out
    run(shell, "%omlx chats clear other")
    assert chats.names() == ["trip"]
    assert "known: trip" in complaint(shell, "%omlx chats clear nobody", capsys)


def test_a_background_cell(shell: InteractiveShell, capsys: Any) -> None:
    job = run(shell, "%%vlm --background -i img -o later\nText Recognition:")
    assert isinstance(job, jobs.Job)
    result = job.result(30)
    assert job.done
    assert shell.user_ns["later"].text == result.text == run(shell, "%%vlm -i img\nText Recognition:").text
    run(shell, "%omlx jobs")
    assert f"{job.number}: finished" in capsys.readouterr().out


def test_a_job_is_cancelled(shell: InteractiveShell, monkeypatch: Any) -> None:
    engine = session.engine()
    monkeypatch.setattr("omlx_jupyter.notebook.work.run.sampling_from", lambda _: endless(engine))
    job = run(shell, "%%vlm --background\ngo on")
    while "tokens" not in job.state:
        assert not job.done
    run(shell, f"%omlx jobs cancel {job.number}")
    assert job.result(10).finish_reason == "cancelled"
    assert job.state == "interrupted"


class Receipt(BaseModel):
    model_config = ConfigDict(extra="forbid")  # else a model that was never taught JSON goes on and on
    shop: Annotated[str, Field(max_length=8)]
    total: Annotated[int, Field(ge=0, le=99)]


def test_an_instance_of_a_model(shell: InteractiveShell) -> None:
    shell.user_ns["Receipt"] = Receipt
    shell.user_ns["schema"] = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 5}},
        "required": ["n"],
        "additionalProperties": False,
    }
    # The embedded model was never taught JSON: it may write blanks to the end, so several tries.
    for seed in range(12):
        cell = f"%%vlm --json Receipt --max-tokens 200 -o receipt --temperature 1 --seed {seed}\n{{img}} read it"
        done = shell.run_cell(cell)
        if done.success:
            break
    assert isinstance(done.result, Receipt)
    assert shell.user_ns["receipt"] is done.result
    assert run(shell, "%%vlm --json schema --max-tokens 200\n{img} count")["n"] <= 5


def test_an_instance_that_was_cut(shell: InteractiveShell, capsys: Any) -> None:
    shell.user_ns["Receipt"] = Receipt
    cut = r"^the answer is no whole Receipt \(1 validation error for Receipt\); try a larger --max-tokens.$"
    with pytest.raises(UsageError, match=cut):
        structured.instance_of(Receipt, '{"shop": "a')
    inside = SimpleNamespace(text="", thinking="Well,", detail="it ended inside its thought")
    with pytest.raises(UsageError, match=r"^it ended inside its thought; try a larger --max-tokens, a --think-budget"):
        structured.instance_of(Receipt, inside)
    with pytest.raises(UsageError, match=r"^the answer is no whole Receipt"):
        structured.instance_of(Receipt, "")
    assert "don't go together" in complaint(shell, "%%vlm --json Receipt --table\nread {img}", capsys)


def test_a_table() -> None:
    frame = structured.frame_of('{"columns": ["a", "b"], "rows": [[1, 2], [3], [4, 5, 6]]}')
    assert list(frame.columns) == ["a", "b"]
    assert frame.shape == (3, 2)


def test_what_a_table_has_to_be(monkeypatch: Any) -> None:
    table = Draft202012Validator(structured.TABLE_SCHEMA)
    assert table.is_valid({"columns": ["a"], "rows": [["x"], [1], [None]]})
    for wrong in ({"columns": []}, {"columns": [1]}, {"rows": [[{}]]}, {"title": "t"}):
        assert not table.is_valid({"columns": ["a"], "rows": [], **wrong})
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"^--table needs pandas; run %pip install pandas.$"):
        structured.frame_of('{"columns": ["a"], "rows": []}')


def test_the_cell_is_known_where_the_front_end_tells_it() -> None:
    def shell_of(parent: Any) -> Any:
        return SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: parent[channel]))

    assert ask_cell.cell_id(shell_of({"shell": {"metadata": {"cellId": "one"}}})) == "one"
    assert ask_cell.cell_id(shell_of({"shell": {}})) == ask_cell.cell_id(shell_of({})) == ""
    assert ask_cell.cell_id(SimpleNamespace()) == ""


class Scripted:
    """The engine, but what it says is given: no checkpoint of a few MB calls tools by itself."""

    def __init__(self, engine: Any, script: list[tuple[str, list[ToolCall]]]) -> None:
        self.engine, self.script, self.seen = engine, script, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def submit(self, messages: Any, **settings: Any) -> Any:
        self.seen.append(messages)
        return self.engine.submit([messages[0]], sampling=settings["sampling"])

    def parse_tools(self, generation: Any, tools: Any) -> Any:
        text, calls = self.script.pop(0)
        return type("Parsed", (), {"text": text, "calls": tuple(calls), "note": ""})


def test_tools_run_and_their_pictures_go_back(shell: InteractiveShell, monkeypatch: Any, capsys: Any) -> None:
    def zoom(part: str) -> Any:
        """A part of the picture."""
        return ["see", draw_text(part), "there"]

    def broken(n: int) -> int:
        raise ValueError("no such page")

    shell.user_ns.update(zoom=zoom, broken=broken)
    calls = [ToolCall("zoom", '{"part": "left"}'), ToolCall("broken", '{"n": 1}'), ToolCall("other", "{}")]
    calls.append(ToolCall("zoom", '{"wrong": 1}'))
    scripted = Scripted(session.engine(), [("", calls), ("done", [])])
    monkeypatch.setattr(session, "_engine", [scripted])
    run(shell, "%%vlm --tools zoom,broken --yes --max-tokens 3\nLook at {img}")
    said = scripted.seen[1]
    assert [m.role for m in said] == ["user", "assistant", "tool", "tool", "tool", "tool"]
    before, picture, after = said[2].parts
    assert (before, after) == ("see", "there")
    assert picture.source.digest == open_images(draw_text("left"))[0].digest
    assert said[3].parts == ["Error: ValueError: no such page"]
    assert "there is no tool other" in said[4].parts[0]
    assert "don't fit" in said[5].parts[0]
    assert said[1].extra["tool_calls"][0]["function"]["arguments"] == {"part": "left"}
    assert "→ zoom" in capsys.readouterr().out


def test_a_call_asks_first(monkeypatch: Any) -> None:
    ran = []
    call = ToolCall("f", "{}")
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert tool_loop.run_call(call, {"f": of_function(lambda: ran.append(1), "f")}, tool_loop.ask_user) == [
        "The user refused this call."
    ]
    assert not ran
    monkeypatch.setattr("builtins.input", lambda _: "y")
    tool_loop.run_call(call, {"f": of_function(lambda: ran.append(1), "f")}, tool_loop.ask_user)
    assert ran == [1]


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    pages = [draw_text(f"Page {n}", 28) for n in range(1, 6)]
    pages[0].save(tmp_path / "report.pdf", save_all=True, append_images=pages[1:])
    return tmp_path / "report.pdf"


def test_pages_of_a_pdf(shell: InteractiveShell, pdf: Path, capsys: Any) -> None:
    made = run(shell, f"%ocr {pdf}[1-2,5] img -o pages")
    assert len(made) == 4
    assert [r.source for r in made][:3] == [f"{pdf}[{n}]" for n in (1, 2, 5)]
    assert shell.user_ns["pages"] is made
    assert "3/4" not in made.bundle()["text/plain"]
    assert "pages 1 to 5" in complaint(shell, f"%ocr {pdf}[9]", capsys)
    assert len(run(shell, f"%ocr {pdf}")) == 5


def test_an_interrupted_map_says_how_far_it_came(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    for n in range(6):
        draw_text(f"Number {n}").save(tmp_path / f"{n}.png")
    shell.user_ns["paths"] = sorted(tmp_path.glob("[0-9].png"))
    real, calls = many._collect, []

    def pressed(*what: Any) -> Any:
        calls.append(what)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*what)

    monkeypatch.setattr(many, "_collect", pressed)
    shell.run_cell("from omlx_jupyter import ocr\nall_read = ocr.map(paths, concurrency=1)")
    shown = capsys.readouterr()
    assert "Interrupted: 3 of 6 are kept in _; run it again to go on." in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err
    assert "all_read" not in shell.user_ns
    assert [Path(result.source).name for result in shell.user_ns["_"]] == ["0.png", "1.png", "2.png"]
    assert run(shell, "ocr.map(paths, concurrency=1)")[5].text == "Number 5"
    assert len(calls) == 4 + 3  # what was kept wasn't read again
    calls.clear()
    assert not shell.run_cell("%ocr paths --max-tokens 3 -o some", store_history=True).success
    shown = capsys.readouterr()
    assert "Interrupted: 3 of 6 are kept in _; run it again to go on." in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err
    assert shell.user_ns["_"] is shell.user_ns["some"]
    assert len(shell.user_ns["some"]) == 3


def test_an_interrupted_run_goes_on(shell: InteractiveShell, tmp_path: Path, monkeypatch: Any) -> None:
    for n in range(6):
        draw_text(f"Number {n}").save(tmp_path / f"{n}.png")
    items = sorted(tmp_path.glob("*.png"))
    sampling = session.engine() and many.SamplingParams(max_tokens=16)

    def stop(done: int, *_: Any) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        many.read_many(items, None, sampling, stop, ahead=1)
    kept = len(many.finished_of(items, None, sampling))
    assert 3 <= kept < 6
    opened = []
    real = many.open_images
    monkeypatch.setattr(many, "open_images", lambda item, limits: opened.append(item.name) or real(item, limits))
    made = many.read_many(items, None, sampling)
    assert sorted(opened) == [path.name for path in items[kept:]]
    assert [r.source for r in made] == [str(path) for path in items]
    assert not many.finished_of(items, None, sampling)


def test_a_column_of_pictures(shell: InteractiveShell, tmp_path: Path) -> None:
    draw_text("Hello").save(tmp_path / "a.png")
    shell.user_ns["df"] = pandas.DataFrame({"image": [str(tmp_path / "a.png"), str(tmp_path / "b.png")]}, index=[7, 9])
    texts = run(shell, 'df["image"].omlx.ocr()')
    assert list(texts.index) == [7, 9]
    assert texts[7] == ocr(tmp_path / "a.png").text
    assert texts[9] is None
    assert [r.text for r in ocr.map([tmp_path / "a.png"], concurrency=2)] == [texts[7]]


def test_a_function_reads_by_lines_where_it_is_asked_for(shell: InteractiveShell, monkeypatch: Any) -> None:
    seen: list[str] = []
    view = SimpleNamespace(status=seen.append, fail=lambda: None)
    monkeypatch.setattr(functions, "make_view", lambda _: view)
    page = shell.user_ns["page"] = draw_text("Hello 42\nTotal 7.70")
    assert [len(made.lines) for made in (ocr(page), ocr(page, whole=True), vlm("", page))] == [2, 0, 0]
    read = run(shell, "from omlx_jupyter import ocr, vlm\nawait ocr.aio(page), await vlm.aio('', page)")
    assert [len(made.lines) for made in read] == [2, 0]
    assert [made.regions for made in read] == [(), ()]
    assert ocr.map([page])[0].text == ocr(page).text
    assert "1/1 pictures" in seen[-1]


def test_functions(shell: InteractiveShell) -> None:
    run(shell, "from omlx_jupyter import vlm")
    assert (
        run(shell, "(await vlm('Text Recognition:', img)).text") == vlm("Text Recognition:", shell.user_ns["img"]).text
    )
    assert isinstance(vlm("read", shell.user_ns["img"], json=Receipt, max_tokens=900, seed=4, temperature=1.0), Receipt)


def test_settings_from_outside(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "config_file", lambda: tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text('model = "from-file"\nmax_tokens = 7\n')
    monkeypatch.setenv("OMLX_MODEL", "from-environment")
    file, environment = config._outside()
    assert file == {"model": "from-file", "max_tokens": 7}
    assert environment == {"model": "from-environment"}
    (tmp_path / "config.toml").write_text("modle = 1\n")
    with pytest.raises(UsageError, match="modle"):
        config._outside()
    monkeypatch.setenv("OMLX_MAX_TOKENS", "many")
    (tmp_path / "config.toml").unlink()
    with pytest.raises(UsageError, match="OMLX_MAX_TOKENS"):
        config._outside()


def test_a_line_whose_result_is_called_like_its_file_runs_again(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: Any
) -> None:
    """The second time `receipt.png` could also be an attribute of `receipt`."""
    monkeypatch.chdir(tmp_path)
    draw_text("Total 7", 24).save("receipt.png")
    for _ in range(2):
        run(shell, "%ocr receipt.png -o receipt")
        assert shell.user_ns["receipt"].text == "Total 7"
    shell.user_ns["receipt"] = shell.user_ns["receipt"].images[0]  # has a method of this name
    run(shell, "%ocr receipt.png -o again")
    assert shell.user_ns["again"].text == "Total 7"
    shell.user_ns["scans"], shell.user_ns["a"] = 1, 2
    (tmp_path / "scans").mkdir()
    draw_text("Gate 5", 24).save("scans/a.png")
    run(shell, "%ocr scans/a.png -o again")
    assert "5" in shell.user_ns["again"].text


def test_img_is_a_file_s_picture_whatever_the_notebook_calls_img(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    draw_text("Gate 7", 24).save("a picture.png")
    limits = Limits()
    for names in ({}, {"img": noise_image(8, 8, 1)}):
        parts = interpolate('See {img("a picture.png")} here', names, limits)
        assert parts[0] == "See "
        assert parts[1].width == draw_text("Gate 7", 24).width  # type: ignore[union-attr]
    assert interpolate("{img}", {"img": "a word"}, limits) == ["a word"]
    with pytest.raises(UsageError, match="gone"):
        interpolate('{img("gone.png")}', {}, limits)


def test_completion(shell: InteractiveShell) -> None:
    assert "--max-tokens" in shell.Completer.complete(line_buffer="%ocr --max", cursor_pos=10)[1]
    assert "dashboard" in shell.Completer.complete(line_buffer="%omlx da", cursor_pos=8)[1]
    chats.add("trip", "", Message("user", ["x"]), "y")
    assert _omlx(["chats", "clear"], []) == ["trip"]
    assert "tiny-ocr" in _omlx(["load"], [])
    assert _omlx(["load", "tiny-ocr"], []) == _omlx(["model", "tiny-ocr"], []) == ["--drafter"]
    assert isinstance(_omlx(["load", "tiny-ocr", "--drafter"], []), list)


def test_completion_inside_a_line(shell: InteractiveShell, monkeypatch: Any) -> None:
    monkeypatch.setattr(shell.Completer, "use_jedi", False)  # slow, and has no say here
    run(shell, "%reload_ext omlx_jupyter")

    def complete(line: str) -> list[str]:
        return list(shell.complete("", line, len(line))[1])

    chats.add("trip", "", Message("user", ["x"]), "y")
    shell.user_ns |= {"trial": 1, "image": 2, "d": {"imprint": 1}}
    assert complete("%omlx load ti") == complete("%omlx set ti") == ["tiny-ocr"]
    assert complete("%omlx chats cl") == ["clear"]
    assert {"fork", "clear", "export"} <= set(complete("%omlx chats "))
    assert complete("%%vlm --max-t") == complete("%ocr --max-t") == ["--max-tokens"]
    assert complete("%%vlm --chat tr") == ["trip"]
    assert "trip" in complete("%%vlm --chat ")
    assert complete("%%vlm --compare ti") == ["tiny-ocr"]
    assert "trial" in complete("%%vlm -i tri")
    assert "trip" not in complete("%%vlm -i tri")

    def in_cell(body: str) -> set[str]:
        made = shell.Completer._complete(cursor_line=1, cursor_pos=len(body), full_text=f"%%vlm\n{body}")
        return {one.text for matched in made.values() for one in matched["completions"]}

    assert {"img", "image"} <= in_cell("It's {im")
    assert "d.keys" in in_cell("It's {d.ke")
    assert any("imprint" in text for text in in_cell('read {d["im'))


def test_doctor_dashboard_and_settings(shell: InteractiveShell, capsys: Any) -> None:
    run(shell, "%omlx doctor")
    run(shell, "%omlx settings")
    out = capsys.readouterr().out
    assert "MLX runs on" in out
    assert "| `pixel_budget` | `OMLX_PIXEL_BUDGET` |" in out
    run(shell, "%ocr img")
    state = Watcher().snapshot()
    assert state["model"] == "tiny-ocr"
    assert state["recent"][0]["prompt"] > 0
    json.dumps(state)


def test_pandas_may_be_imported_in_the_cell_that_reads_a_column() -> None:
    """In a fresh interpreter: here pandas is imported already."""
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "assert shell.run_cell('%load_ext omlx_jupyter').success\n"
        "import sys; assert 'pandas' not in sys.modules\n"
        "assert shell.run_cell('import pandas as pd\\npd.Series([], dtype=object).omlx.ocr()').success\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cell_that_uses_the_accessor_has_pandas_imported_for_it(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "pandas.py").write_text(
        "class Series: pass\n"
        "class api:\n    class extensions:\n"
        "        def register_series_accessor(name): return lambda kind: setattr(Series, name, kind)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pandas")
    for cell in (None, "import pandas", "s.omlx.ocr()", "import pandas\ns.omlx.ocr()"):
        assert "pandas" not in sys.modules
        accessor.register(SimpleNamespace(raw_cell=cell) if cell else None)
    assert sys.modules["pandas"].Series.omlx is accessor.OmlxAccessor
    known = sys.modules["pandas"].Series.omlx = object()
    accessor.register()  # is there already
    assert sys.modules["pandas"].Series.omlx is known
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace())  # being imported right now
    accessor.register()


def test_the_last_answers_again(shell: InteractiveShell, capsys: Any) -> None:
    latest.forget()
    assert "there are 0 answers" in complaint(shell, "%vlm last", capsys)
    run(shell, "%ocr hello.png")
    run(shell, "%ocr sum.png -o second")
    capsys.readouterr()
    shell.run_cell("%vlm last")
    assert "Sum 17" in capsys.readouterr().out
    assert shell.user_ns["_"] is shell.user_ns["second"]
    assert run(shell, "%vlm last 2").text == "Hello 42"
    assert "there are 2 answers" in complaint(shell, "%vlm last 3", capsys)
    for wrong in ("", "first", "last 0", "last -1", "What is this"):
        said = complaint(shell, f"%vlm {wrong}", capsys)
        assert "%vlm last" in said or "there are 2" in said
    monitored = run(shell, "%%vlm --max-tokens 3\nHi")
    assert run(shell, "%vlm last") is monitored


def test_a_job_that_is_quicker_than_its_cell_leaves_its_answer(
    shell: Any, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cached is answered before the cell has ended: the name is the answer's, not the job's."""
    real = Job.then

    def quick(job: Job, callback: Any) -> None:
        job.result(30)
        real(job, callback)

    monkeypatch.setattr(Job, "then", quick)
    job = run(shell, "%%vlm --background --max-tokens 3 -o one\nHello")
    assert isinstance(job, Job)
    assert shell.user_ns["one"] is job.result()
