"""How a request, a run or a table is followed in its cell: what is told, where, and what is left of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter.notebook.work import run as following
from omlx_jupyter.notebook.work import runs, session
from omlx_jupyter.runs.passing import Figures
from omlx_jupyter.runs.question import Question

from .test_magics import run


class Seen:
    """A view that notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ended = 0
        self.kept_place = 0

    def status(self, text: str) -> None:
        self.said.append(text)

    def update(self, *_: Any) -> None: ...

    def keep_place(self) -> None:
        self.kept_place += 1

    def finish(self, _: Any) -> None:
        self.ended += 1

    def fail(self) -> None:
        self.ended += 1


class Slow:
    """A run of ten sources, of which three states are told several times."""

    path, notes = Path("r.jsonl"), ("one was mended",)

    def __init__(self, stops: bool) -> None:
        self.stops = stops

    def figures(self) -> Figures:
        return Figures(4, 0, 1, 0, 10, 0.1)

    def wait(self, tell: Any) -> None:
        for done in (1, 1, 2, 2):
            tell(Figures(done, 0, 0, 0, 10, 0.1))
        if self.stops:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_is_told_in_one_line_that_changes(stops: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    view = Seen()
    monkeypatch.setattr(runs, "make_view", lambda _: view)
    slow: Any = Slow(stops)
    if stops:
        with pytest.raises(following.Interrupted) as stopped:
            runs.follow(slow, SimpleNamespace())
        (told,) = stopped.value._render_traceback_()
        assert told == "Paused: 4 of 10 · 1 failed are in r.jsonl; run it again to go on."
    else:
        assert runs.follow(slow, SimpleNamespace()) is slow
        shown = capsys.readouterr().out
        assert shown == "4 of 10 · 1 failed · saved in r.jsonl\nNote: one was mended.\n"
        assert runs.follow(slow) is slow  # without a shell nothing is shown
        assert capsys.readouterr().out == ""
    assert [line.split(" ", 1)[1] for line in view.said] == ["1 of 10"]  # the next within 0.2 s isn't shown
    assert view.ended == 1


def test_a_sheet_is_shown_live_where_somebody_looks_at_a_page(tmp_path: Path) -> None:
    def shell(**request: Any) -> Any:
        return SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda _: request))

    table = runs.SavedTable([], {"a": Question("?")}, tmp_path / "t.jsonl", lambda: None)
    lab = shell(metadata={"cellId": "1"}, content={"allow_stdin": True})
    console, nbconvert = shell(metadata={}, content={"allow_stdin": True}), shell(metadata={}, content={})
    assert isinstance(runs._live_sheet(table, lab), runs.LiveSheet)
    for where in (console, nbconvert, SimpleNamespace(), None):
        assert runs._live_sheet(table, where) is None
    assert runs._live_sheet(runs.SavedRun([], Question("?"), tmp_path / "r.jsonl", lambda: None), lab) is None


def test_a_table_without_a_file_goes_with_the_kernel(shell: InteractiveShell) -> None:
    made = run(shell, "from omlx_jupyter import vlm\nvlm.table(['hello.png'], {'a': 'Text?'}, max_tokens=2)")
    assert (made.path.name, made.path.is_file(), len(made)) == ("run.jsonl", True, 1)
    assert Path.cwd() not in made.path.parents


def test_what_an_interrupt_says() -> None:
    said = SimpleNamespace(generation=SimpleNamespace(token_ids=[1, 2, 3]))
    nothing = SimpleNamespace(generation=SimpleNamespace(token_ids=[]))
    assert following.Interrupted(said)._render_traceback_() == ["Interrupted: 3 tokens are kept in _"]
    assert following.Interrupted(None)._render_traceback_() == ["Interrupted."]
    assert following.Interrupted(nothing)._render_traceback_() == ["Interrupted."]
    assert following.Interrupted(None, "Paused.")._render_traceback_() == ["Paused."]


@pytest.mark.parametrize("stoppable", [True, False])
@pytest.mark.parametrize("thinks", [True, False])
def test_a_view_is_told_of_the_wait_and_of_a_thought_that_outlasts_its_cell(
    stoppable: bool, thinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SimpleNamespace(name="m", thinks=thinks, remote=True, submit=lambda *_, **__: "handle")
    view = Seen()

    def loads(say: Any = None) -> Any:
        say("loading m …")
        return engine

    monkeypatch.setattr(session, "engine", loads)
    monkeypatch.setattr(session, "_engine", [engine])
    can_be_stopped: list[bool] = []
    monkeypatch.setattr(following, "make_view", lambda *told: can_be_stopped.append(told[2]) or view)
    request = following.Ask([], following.SamplingParams(), **({} if stoppable else {"stoppable": False}))
    handle, _ = following.open_view(None, request)
    assert (handle, view.said) == ("handle", ["loading m …"])
    assert can_be_stopped == [stoppable]
    assert view.kept_place == int(thinks and not stoppable)
