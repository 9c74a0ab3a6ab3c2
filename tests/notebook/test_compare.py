"""`%%vlm --compare` and `vlm.compare`: several models side by side, with checkpoints that say what a test wants."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter import vlm
from omlx_jupyter.errors import RequestError
from omlx_jupyter.notebook.answers import compare_view
from omlx_jupyter.notebook.answers.comparison import Comparison, frame
from omlx_jupyter.notebook.answers.markdown import safe_html
from omlx_jupyter.notebook.answers.result import Failure, Result
from omlx_jupyter.notebook.answers.word_diff import Kind, word_diff
from omlx_jupyter.notebook.cells import compared
from omlx_jupyter.notebook.settings import per_model
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.work import session, sides
from omlx_jupyter.serve import house
from omlx_jupyter.types import Generation, Usage

from ..checkpoints import families, scripted
from ..kernel.conftest import Kernel
from ..kernel.conftest import kernel as kernel
from .renderers import Page
from .test_magics import complaint, run
from .test_terminal import Terminal

GO = families.CHATML.rstrip() + "{%- if add_generation_prompt -%}<go>{%- endif -%}"
SAYS = {
    "cat": ["The ", "cat ", "sits", ".", scripted.END],
    "dog": ["The ", "dog ", "sits", ".", scripted.END],
    "same": ["The ", "cat  ", "sits", ".", scripted.END],  # but for a blank
    "hostile": ["<img src=x onerror=alert(1)>", "</table>", "<script>", "alert(1)", scripted.END],
    "on": ["on ", "and ", "on "],  # and on, without an end
}
ATTACKS = json.loads((Path(__file__).parent / "data" / "answers.json").read_text(encoding="utf-8"))
FLAGS = "--temperature 0 --no-draft"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders by what their model says."""
    folder = tmp_path_factory.mktemp("models")
    return {name: str(scripted.write(folder / name, [["<go>", *words]], GO)) for name, words in SAYS.items()}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    _others.clear()
    _others.update(thread for thread in threading.enumerate() if thread.name == "omlx-engine")
    # A shell's background job has it ignored, and these tests press it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    session.unload()
    assert engines() == 0


_others: set[threading.Thread] = set()  # engines of other tests' fixtures, which last as long as the process


def engines() -> int:
    """Engines that are loaded, or being loaded, since the test began."""
    return sum(thread.name == "omlx-engine" and thread not in _others for thread in threading.enumerate())


def most_engines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What `engines()` says whenever another one has been loaded."""
    seen: list[int] = []
    load = session.loaded

    def loaded(*wanted: Any) -> Any:
        made = load(*wanted)
        seen.append(engines())
        return made

    monkeypatch.setattr(session, "loaded", loaded)
    return seen


def answer(text: str, finish: Any = "stop", tokens: int = 3) -> Result:
    return Result(Generation(text, list(range(tokens)), finish, Usage(completion_tokens=tokens)))


def active(page: str) -> list[str]:
    """What acts in a comparison's HTML, beside the elements that it is made of."""
    mine = ("details", "details open=None", "summary", "small", "ins")
    return [found for found in Page(page).active if found not in mine and " style=" not in found]


# -- cells ------------------------------------------------------------------------------------


def test_two_models_side_by_side(
    shell: InteractiveShell, models: dict[str, str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shell, f"%omlx load {models['cat']}")
    mine, seen = session.current_engine(), most_engines(monkeypatch)
    capsys.readouterr()
    both = run(shell, f"%%vlm --compare {models['cat']},{models['dog']} {FLAGS} -o both\nWhat is in {{img}}?")
    told = capsys.readouterr().out
    assert both is shell.user_ns["both"] is shell.user_ns["_"]
    assert {name: made.text for name, made in both.results.items()} == {
        models["cat"]: "The cat sits.",
        models["dog"]: "The dog sits.",
    }
    assert all(made.usage.images == 1 for made in both.results.values())
    assert (both.diff, both.agree) == ("The [-cat-]{+dog+} sits.", False)
    assert told.splitlines()[0].endswith("answer at once; they share this machine, so that each is slower than alone.")
    assert "The [-cat-]{+dog+} sits." in told
    assert told.count("tokens/s") == 2
    assert seen == [2]  # the kernel's own model wasn't loaded again
    assert session.current_engine() is mine
    assert both.df["prompt"].tolist() == ["What is in ?"]
    assert run(shell, f"%%vlm {FLAGS}\nAnd?").text == "The cat sits."


def test_the_kernels_model_may_be_meant_by_its_alias_or_folder_and_isnt_loaded_twice(
    shell: InteractiveShell, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(per_model, "models_file", lambda: tmp_path / "models.toml")
    run(shell, f"%omlx load {models['cat']}")
    run(shell, f"%omlx set {models['dog']} alias=d")
    seen = most_engines(monkeypatch)
    twice = os.path.join(models["cat"], "..", "cat")
    both = run(shell, f"%%vlm --compare {twice},d {FLAGS}\nHello")
    assert {name: made.text for name, made in both.results.items()} == {twice: "The cat sits.", "d": "The dog sits."}
    assert seen == [2]
    assert "are the same model" in complaint(shell, f"%%vlm --compare {twice},{models['cat']}\nHello", capsys)
    assert "are the same model" in complaint(shell, f"%%vlm --compare d,{models['dog']}\nHello", capsys)


def test_nothing_is_loaded_for_a_kernel_that_had_nothing(shell: InteractiveShell, models: dict[str, str]) -> None:
    three = run(shell, f"%%vlm --compare {models['cat']},{models['same']},{models['dog']} {FLAGS}\nHello")
    assert session.current_engine() is None
    assert three.agree is False
    assert [diff.second for diff in three.diffs] == [models["same"], models["dog"]]
    assert str(three.diffs[1]) == "The [-cat-]{+dog+} sits."
    assert f"from {models['cat']} to {models['dog']}:" in three.diff
    assert Comparison({name: three.results[models[name]] for name in ("cat", "same")}).agree is True


def test_one_that_fails_shows_its_error_and_the_others_go_on(
    shell: InteractiveShell, models: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    dead = "http://127.0.0.1:9/v1"
    both = run(shell, f"%%vlm --compare {models['cat']},nobody,/nowhere,{broken},{dead} {FLAGS}\nHello")
    assert both.results[models["cat"]].text == "The cat sits."
    failed = {name: str(made.error) for name, made in both.results.items() if isinstance(made, Failure)}
    assert list(failed) == ["nobody", "/nowhere", str(broken), dead]
    assert "there is no model and no server nobody" in failed["nobody"]
    assert "there is no model folder /nowhere" in failed["/nowhere"]
    assert "127.0.0.1:9" in failed[dead]
    assert both.agree is None
    shown = both.bundle()
    for kind in ("text/html", "text/plain"):
        assert all(name in shown[kind] for name in failed)
        assert "The cat sits." in shown[kind]
    assert both.df[dead]["error"].tolist() == [failed[dead]]
    assert "Traceback" not in capsys.readouterr().out


def test_ctrl_c_keeps_what_came(shell: InteractiveShell, models: dict[str, str], capsys: Any) -> None:
    asked = f"%%vlm --compare {models['cat']},{models['on']} {FLAGS} --max-tokens 100000 -o both\nHello"
    views: list[Any] = []

    def press() -> None:
        """When one has ended and the other is in the middle."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            columns = views[-1] if views else []
            if len(columns) == 2 and "tokens/s" in columns[0].phase and len(columns[1].text) > 20:
                break
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    class Seen(compare_view._Printed):
        def update(self, columns: Any) -> None:
            views.append(columns)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compare_view, "_view", lambda *_: Seen())
        presser = threading.Thread(target=press)
        presser.start()
        done = shell.run_cell(asked, store_history=True)
        presser.join()
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    said = capsys.readouterr().out
    assert "Interrupted: what came is kept in _" in said
    both = shell.user_ns["both"]
    assert shell.user_ns["_"] is both
    assert both.results[models["cat"]].text == "The cat sits."
    cut = both.results[models["on"]]
    assert (cut.finish_reason, cut.text[:9]) == ("cancelled", "on and on")
    assert both.agree is None
    assert "interrupted" in said


def test_ctrl_c_while_models_are_loaded(shell: InteractiveShell, models: dict[str, str], monkeypatch: Any) -> None:
    """What loads is ended, and who has answered is kept."""
    load = session.loaded

    def slow(model: Any, drafter: Any, on_wait: Any) -> Any:
        while model == models["dog"]:
            on_wait(1, 0.5)
            if not pressed:
                pressed.append(True)
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return load(model, drafter, on_wait)

    pressed: list[bool] = []
    run(shell, f"%omlx load {models['cat']}")
    monkeypatch.setattr(session, "loaded", slow)
    done = shell.run_cell(f"%%vlm --compare {models['cat']},{models['dog']} {FLAGS} -o both\nHello", store_history=True)
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert isinstance(shell.user_ns["both"].results[models["dog"]], Failure)
    assert session.current_engine().name == models["cat"]


def test_ctrl_c_keeps_the_rows_that_came(shell: InteractiveShell, models: dict[str, str], monkeypatch: Any) -> None:
    def show(self: Any, every: Any) -> None:
        if every[0].ended and len(every[1].column.text) > 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(compared._Progress, "show", show)
    shell.user_ns |= {"vlm": vlm, "two": [models["cat"], models["on"]]}
    done = shell.run_cell("vlm.compare(['a', 'b'], two, temperature=0, draft=False, max_tokens=100000)")
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    came = shell.user_ns["_"]
    assert came[models["cat"]]["text"].tolist() == ["The cat sits."] * 2
    assert came[models["on"]]["text"][0].startswith("on and on")
    assert came["agree"].isna().all()


# -- memory -----------------------------------------------------------------------------------


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the most that models may hold, and how large a checkpoint's files pretend to be, both in MiB."""

    def bound(most: int, size: int) -> None:
        settings().memory_mib = most
        monkeypatch.setattr(house, "size_of", lambda name: size * 2**20)

    yield bound
    settings().memory_mib = 0


def test_without_room_they_answer_one_after_another(
    shell: InteractiveShell, models: dict[str, str], memory: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = most_engines(monkeypatch)
    memory(64, 40)
    both = run(shell, f"%%vlm --compare {models['cat']},{models['dog']} {FLAGS}\nHello")
    told = capsys.readouterr().out.splitlines()[0]
    assert told.startswith("Memory has no room for all of them at once (104 MiB more are needed, 64 MiB are free)")
    assert told.endswith(f"one after another: {models['cat']}, then {models['dog']}.")
    assert [made.text for made in both.results.values()] == ["The cat sits.", "The dog sits."]
    assert seen == [1, 1]


def test_the_kernels_model_makes_room_and_comes_back(
    shell: InteractiveShell, models: dict[str, str], memory: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(64, 49)
    run(shell, f"%omlx load {models['cat']}")
    seen = most_engines(monkeypatch)
    capsys.readouterr()
    three = run(shell, f"%%vlm --compare {models['dog']},{models['cat']},{models['same']} {FLAGS}\nHello")
    told = capsys.readouterr().out.splitlines()[0]
    order = f"{models['cat']}, then {models['dog']}, then {models['same']}"
    assert told.endswith(f"{order}. {models['cat']} is put away meanwhile, and loaded again afterwards.")
    assert list(three.results) == [models["dog"], models["cat"], models["same"]]
    assert [made.text.split()[1] for made in three.results.values()] == ["dog", "cat", "cat"]
    assert seen == [1, 1, 1]
    assert session.current_engine().name == models["cat"]


def test_a_busy_kernels_model_is_not_put_away(
    shell: InteractiveShell, models: dict[str, str], memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(64, 49)
    run(shell, f"%omlx load {models['on']}")
    job = run(shell, f"%%vlm --background {FLAGS} --max-tokens 100000\nHello")
    plan = sides.planned([models["on"], models["dog"]])
    assert (len(plan.turns), plan.away) == (2, False)
    job.cancel()


# -- JSON -------------------------------------------------------------------------------------

ONE = '{"shop": "A", "items": [{"price": 3}, {"price": 5}], "open": true}'
TWO = '{"shop": "A", "items": [{"price": 4}], "open": true, "note": null}'


def test_json_fields_that_differ() -> None:
    both = Comparison({"a": answer(ONE), "b": answer(TWO)}, as_json=True)
    assert both.fields == {
        "items[0].price": {"a": 3, "b": 4},
        "items[1].price": {"a": 5},
        "note": {"b": None},
    }
    assert both.agree is False
    page = Page(both.bundle()["text/html"])
    assert page.cells[-9:] == ["items[0].price", "3", "4", "items[1].price", "5", "—", "note", "—", "null"]
    assert "| items\\[1\\].price | 5 | — |" in both.bundle()["text/markdown"]
    assert "items[0].price\n  a: 3\n  b: 4" in both.bundle()["text/plain"]
    alike = Comparison({"a": answer('{"x": 1, "y": 2}'), "b": answer('{"y":2,"x":1}')}, as_json=True)
    assert (alike.agree, alike.fields) == (True, {})
    cut = Comparison({"a": answer(ONE), "b": answer('{"shop": "A', "length")}, as_json=True)
    assert (list(cut.values), cut.agree) == (["a"], False)


def test_json_is_bound_to_the_schema_on_every_side(shell: InteractiveShell, models: dict[str, str]) -> None:
    shell.user_ns["schema"] = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    both = run(shell, f"%%vlm --compare {models['cat']},{models['on']} {FLAGS} --json schema\nA number")
    said = {name: value["n"] for name, value in both.values.items()}
    assert list(said) == [models["cat"], models["on"]]
    assert both.agree is (len(set(said.values())) == 1)
    assert bool(both.fields) is not both.agree


# -- tables -----------------------------------------------------------------------------------


def test_a_table_of_rows_and_models(shell: InteractiveShell, models: dict[str, str], capsys: Any) -> None:
    two = [models["cat"], models["dog"]]
    rows = ["Hello", ("What is this?", shell.user_ns["img"]), {"prompt": "And?", "images": ["sum.png"], "id": 7}]
    table = vlm.compare(rows, two, temperature=0, draft=False)
    assert isinstance(table, pandas.DataFrame)
    assert table["prompt"].tolist() == ["Hello", "What is this?", "And?"]
    assert table["pictures"].tolist() == ["", "a Image", "sum.png"]
    assert table["id"].tolist()[2] == 7
    for name, said in zip(two, ("The cat sits.", "The dog sits."), strict=True):
        assert list(table[name].columns) == ["text", "tokens", "tokens_per_s"]
        assert table[name]["text"].tolist() == [said] * 3
        assert table[name]["tokens"].tolist() == [5] * 3
        assert (table[name]["tokens_per_s"] > 0).all()
    assert table["agree"].tolist() == [False] * 3
    again = vlm.compare(pandas.DataFrame({"prompt": ["Hello"]}), [models["cat"], models["same"]], temperature=0)
    assert again["agree"].tolist() == [True]
    assert session.current_engine() is None


def test_a_row_that_fails_is_told_in_its_column(shell: InteractiveShell, models: dict[str, str]) -> None:
    table = vlm.compare(["Hello", ("What?", "nothing.png")], [models["cat"], "nobody"], temperature=0)
    assert table[models["cat"]]["text"][0] == "The cat sits."
    assert table[models["cat"]].isna()["text"].tolist() == [False, True]
    assert "nothing.png" in table[models["cat"]]["error"][1]
    assert all("no server nobody" in said for said in table["nobody"]["error"])
    assert table["agree"].isna().all()


@pytest.mark.parametrize(
    ("rows", "names", "said"),
    [
        (["Hello"], "tiny-ocr", "two models or more"),
        (["Hello"], ["a", "a"], "named twice"),
        ([], "a,b", "there are no rows"),
        ("Hello", "a,b", "give a list of prompts"),
        ([{"images": []}], "a,b", "row 0 has no prompt"),
        (["x", 3], "a,b", "row 1 has no prompt"),
    ],
)
def test_what_cant_be_compared(rows: Any, names: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        vlm.compare(rows, names)


def test_flags_that_dont_go_together(shell: InteractiveShell, capsys: Any) -> None:
    for flag in ("--chat trip", "--background", "--tools img", "--table"):
        told = complaint(shell, f"%%vlm --compare a,b {flag}\nHello", capsys)
        assert f"--compare and {flag.split()[0]} don't go together" in told
    assert "two models or more" in complaint(shell, "%%vlm --compare a\nHello", capsys)


def test_names_complete_behind_a_comma(shell: InteractiveShell) -> None:
    assert "tiny-ocr" in shell.complete("", "%%vlm --compare main,ti")[1]


# -- what is shown ----------------------------------------------------------------------------


def test_what_is_saved_acts_on_nothing(shell: InteractiveShell, models: dict[str, str]) -> None:
    both = run(shell, f"%%vlm --compare {models['hostile']},{models['cat']} {FLAGS}\nHello")
    assert "<script>" in both.results[models["hostile"]].text
    page = both.bundle()["text/html"]
    assert active(page) == []
    assert page.count("</table>") == 1
    assert "<script>alert(1)" in Page(page).text


@pytest.mark.parametrize("text", ATTACKS["nothing active may come out"].values())
def test_hostile_answers_and_names(text: str) -> None:
    both = Comparison({text: answer(text), "b": Failure(RequestError(text), text), "c": answer("plain")}, True)
    assert active(both.bundle()["text/html"]) == []
    assert Page(safe_html(text)).active == []


def test_math_reaches_the_page_as_it_is() -> None:
    assert Page(safe_html("so $a_1 < b_2 * c * d$ and\n\n$$\nx_1\n$$")).text.split() == (
        ["so", "$a_1", "<", "b_2", "*", "c", "*", "d$", "and", "$$x_1$$"]
    )


@given(st.text("ab \n", max_size=40), st.text("ab \n", max_size=40))
def test_a_diff_holds_both_texts(old: str, new: str) -> None:
    made = word_diff("x", "y", old, new)
    assert "".join(piece.text for piece in made.pieces if piece.kind is not Kind.IN) == old
    assert "".join(piece.text for piece in made.pieces if piece.kind is not Kind.OUT) == new
    assert (old == new) == all(piece.kind is Kind.SAME for piece in made.pieces)


def test_a_diff_of_long_answers_is_quick() -> None:
    began = time.monotonic()
    word_diff("x", "y", "a b c " * 3000, "a c b " * 3000)
    assert time.monotonic() - began < 5


def test_agreement_and_a_table_of_what_is_missing() -> None:
    assert Comparison({"a": answer("x  y"), "b": answer("x\ny")}).agree is True
    assert Comparison({"a": answer("x"), "b": answer("x", "cancelled")}).agree is None
    made = frame([Comparison({"a": answer("x"), "b": answer("x")}), Comparison({"a": answer("x"), "c": answer("y")})])
    assert made["agree"].tolist() == [True, False]
    assert made["b"]["tokens"].isna().tolist() == [False, True]


def test_a_thought_is_folded_above_its_answer() -> None:
    made = Generation(
        "Four.", [1, 2, 3], "stop", Usage(completion_tokens=3, reasoning_tokens=2), thinking="<b>two & two"
    )
    shown = Comparison({"a": Result(made), "b": answer("Four.")}).bundle()
    assert "<summary" in shown["text/html"]
    assert "&lt;b&gt;two &amp; two" in shown["text/html"]
    assert "*thought 2 tokens*" in shown["text/markdown"]
    assert "two" not in shown["text/plain"]
    assert "the same words" in shown["text/plain"]


def test_columns_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", screen)
    view = compare_view.make_compare_view(None, ["left", "[b]right[/b]"])
    view.update([compare_view.Column("left", "one", "writing"), compare_view.Column("[b]right[/b]", "**two**")])
    shown = screen.getvalue()
    line = next(line for line in shown.splitlines() if "left" in line)
    assert "[b]right[/b]" in line
    assert any("one" in line and "two" in line and "**" not in line for line in shown.splitlines())
    view.finish(Comparison({"left": answer("one"), "[b]right[/b]": answer("two")}))
    assert "[-one-]{+two+}" in screen.getvalue()


def test_a_notebook_streams_into_two_columns_and_saves_html(kernel: Kernel, models: dict[str, str]) -> None:
    assert kernel.run(f"%omlx load {models['cat']}").ok
    ask = f"%%vlm --compare {models['on']},{models['cat']} {FLAGS} --max-tokens 200 -o both\nHello"
    outcome = kernel.run(ask)
    assert outcome.ok, outcome.reply
    pieces: dict[str, str] = {}
    for _, message in outcome.messages:
        content = message["content"].get("data", {}).get("content", {}) if message["msg_type"] == "comm_msg" else {}
        if "d" in content:
            at = message["content"]["comm_id"]
            pieces[at] = pieces.get(at, "")[: content["o"]] + content["d"]
    assert any(text.startswith("on and on and") for text in pieces.values())
    assert set(outcome.final) == {"text/html", "text/markdown", "text/plain"}
    assert "<del" in outcome.final["text/html"]
    assert kernel.value(f"both.results[{models['on']!r}].usage.completion_tokens") == "200"
    assert not outcome.bundles("execute_result")
    assert set(kernel.run("both").bundles("display_data")[-1]) == set(outcome.final)
    kernel.batch = True
    saved = kernel.run(ask)
    kernel.batch = False
    assert not any("widget-view" in str(bundle) for bundle in saved.bundles("display_data", "update_display_data"))
    assert "omlx-diff" in saved.final["text/html"]
