"""The sides of a comparison: who loads when, what an interrupt waits for, and what is shown meanwhile. Engines here say
what a test wants, when it wants it; test_compare.py has the same with checkpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from omlx_jupyter.errors import EngineFaultError, ModelError, RequestError
from omlx_jupyter.notebook.answers.comparison import Comparison
from omlx_jupyter.notebook.answers.result import Failure, Result
from omlx_jupyter.notebook.cells import compared
from omlx_jupyter.notebook.work import compare, run, session, sides
from omlx_jupyter.notebook.work.sides import Plan, Side, Where
from omlx_jupyter.serve import house
from omlx_jupyter.types import Generation, Message, SamplingParams, Usage


def ask(prompt: str) -> run.Ask:
    return run.Ask([Message("user", [prompt])], SamplingParams(), prompt=prompt)


class Handle:
    """Has said "so far"; it ends `seconds` after it was cancelled."""

    def __init__(self, seconds: float) -> None:
        self.progress, self.usage = SimpleNamespace(phase="decode", tokens=2), Usage(completion_tokens=2)
        self._seconds, self._ended = seconds, threading.Event()

    def poll(self, timeout: float) -> tuple[list[Any], bool]:
        return [], self._ended.is_set()

    def cancel(self) -> None:
        threading.Timer(self._seconds, self._ended.set).start()

    def result(self, timeout: float | None = None) -> Generation:
        if not self._ended.wait(timeout):
            raise TimeoutError
        return Generation("so far", [1, 2], "cancelled", self.usage)


class Talking:
    """An engine whose requests go on until they are cancelled."""

    name, thinks, grounding = "m", False, None

    def __init__(self) -> None:
        self.closed, self.asked = False, 0

    def submit(self, *_: Any, **__: Any) -> Handle:
        self.asked += 1
        return Handle(0.6)

    def __enter__(self) -> Talking:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@dataclass
class Stubborn(Side):
    """Opened by `opens`."""

    opens: Callable[[Any], Any] = lambda on_wait: Talking()

    def open(self, on_wait: Callable[[float, float], None]) -> Any:
        return self.opens(on_wait)


def interrupted(side: Side, when: Callable[[compare.Answering], bool]) -> tuple[Result | Failure, float]:
    """What is left of a comparison that is interrupted as soon as `when`, and the seconds that this took."""
    pressed = [0.0]

    def show(every: list[compare.Answering]) -> None:
        if when(every[0]):
            pressed[0] = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(run.Interrupted) as stopped:
        compare.compare(Plan([side], [[side]]), [ask("Hi")], show)
    return stopped.value.result[0].results[side.name], time.monotonic() - pressed[0]


def writing(one: compare.Answering) -> bool:
    return one.column.phase.startswith("writing")


@pytest.mark.parametrize("where", [Where.SERVER, Where.BESIDE])
def test_what_a_side_has_written_is_waited_for(where: Where) -> None:
    engine = Talking()
    left, _ = interrupted(Stubborn("s", where, "s", opens=lambda _: engine), writing)
    assert isinstance(left, Result)
    assert (left.text, engine.closed) == ("so far", True)


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    answers = threading.Event()

    def opens(_: Any) -> Talking:
        answers.wait(10)
        return Talking()

    left, took = interrupted(Stubborn("s", Where.SERVER, "s", opens=opens), lambda one: "connect" in one.column.phase)
    answers.set()
    assert isinstance(left, Failure)
    assert took < 2


def test_a_loading_is_told_and_ends_before_the_comparison_does() -> None:
    ended: list[bool] = []

    def opens(on_wait: Any) -> Talking:
        try:
            while True:
                on_wait(1, 0.25)
                time.sleep(0.01)
        finally:
            time.sleep(0.6)
            ended.append(True)

    left, _ = interrupted(Stubborn("s", Where.BESIDE, "s", opens=opens), lambda one: "25 %" in one.column.phase)
    assert isinstance(left, Failure)
    assert ended == [True]


def test_models_are_loaded_one_at_a_time_and_servers_meanwhile() -> None:
    under_way = {Where.BESIDE: 0, Where.SERVER: 0}
    most = dict(under_way)

    def opens_at(where: Where) -> Any:
        def opens(_: Any) -> Any:
            under_way[where] += 1
            most[where] = max(most[where], under_way[where])
            time.sleep(0.3)
            under_way[where] -= 1
            raise ModelError("enough")

        return opens

    places = (Where.BESIDE, Where.BESIDE, Where.SERVER, Where.SERVER)
    plan = [Stubborn(f"s{n}", where, f"s{n}", opens=opens_at(where)) for n, where in enumerate(places)]
    (made,) = compare.compare(Plan([*plan], [[*plan]]), [ask("Hi")], lambda _: None)
    assert most == {Where.BESIDE: 1, Where.SERVER: 2}
    assert all(isinstance(left, Failure) for left in made.results.values())


def test_a_column_shows_the_first_row() -> None:
    one = compare.Answering(Side("s", Where.KERNEL, "s"), [ask("a"), ask("b")], threading.Event())
    said = Result(Generation("first", [1], "stop", Usage(completion_tokens=1)))
    one.made = [None, said]
    assert (one.column.text, one.column.phase) == ("", "waits for its turn …")
    one.made = [said, Failure(RequestError("lost"), "s")]
    assert (one.column.text, one.column.phase) == ("first", said.figures())
    one.made = [Failure(RequestError("lost"), "s"), said]
    assert (one.column.text, one.column.phase) == ("", "failed: lost")


# -- plans ------------------------------------------------------------------------------------


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_engine", [])


def test_names_that_are_none() -> None:
    for names in ("a", "a,,b", ",", ["a", " "], []):
        with pytest.raises(RequestError, match="two models or more"):
            sides.named(names)
    assert sides.named(" a, b") == sides.named(["a", "b "]) == ["a", "b"]


def test_sides_that_cant_answer_say_why(nothing_runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    size_of = house.size_of

    def odd(name: str) -> int:
        if name == "odd/model":
            raise EngineFaultError("it is odd")
        return size_of(name)

    monkeypatch.setattr(house, "size_of", odd)
    plan = sides.planned(["tiny-ocr", "odd/model", "n" * 5000, "\0", "/no/where"])
    assert [side.where for side in plan.sides] == [Where.BESIDE] * 5
    assert [side.error is None for side in plan.sides] == [True, False, False, False, False]
    assert str(plan.sides[1].error) == "it is odd"
    assert f"there is no model and no server {'n' * 100} (" in str(plan.sides[2].error)
    assert "no model folder /no/where" in str(plan.sides[4].error)
    assert plan.told == ""  # one alone answers
    assert plan.turns == [plan.sides]


def test_models_of_one_machine_are_said_to_share_it(
    nothing_runs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(house, "free", lambda *_: 2**40)
    monkeypatch.setattr(house, "size_of", lambda _: 2**20)
    slower = "; they share this machine, so that each is slower than alone"
    server = "http://127.0.0.1:9/v1"
    for names, shared in ((["tiny-ocr", str(tmp_path)], slower), (["tiny-ocr", server], "")):
        plan = sides.planned(names)
        assert (plan.told, plan.turns) == (f"{', '.join(names)} answer at once{shared}.", [plan.sides])


def test_no_room_at_all_is_none(nothing_runs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(house, "free", lambda *_: -5)
    monkeypatch.setattr(house, "size_of", lambda _: 2**20)
    plan = sides.planned([str(tmp_path), "tiny-ocr"])
    assert f"are needed, {sides.size(0)} are free), so they answer one after another: " in plan.told
    assert [len(turn) for turn in plan.turns] == [1, 1]


# -- what is shown ----------------------------------------------------------------------------


class Seen:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.failed = self.finished = 0

    def status(self, text: str) -> None:
        self.said.append(text)

    def update(self, _: Any) -> None: ...

    def finish(self, _: Any) -> None:
        self.finished += 1

    def fail(self) -> None:
        self.failed += 1


@pytest.mark.parametrize("fault", [RuntimeError("odd"), None])
def test_a_cell_that_ends_closes_its_view(fault: Any, nothing_runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    view = Seen()
    monkeypatch.setattr(compared, "make_compare_view", lambda *_: view)
    answers = SimpleNamespace(row=None)

    def compare_(*_: Any) -> Any:
        if fault is not None:
            raise fault
        return [answers]

    monkeypatch.setattr(compared, "compare", compare_)
    if fault is None:
        assert compared.compare_cell(None, "nobody,else", ask("Hi")) is answers  # type: ignore[comparison-overlap]
        assert answers.row == {"prompt": "Hi"}
    else:
        with pytest.raises(RuntimeError, match="odd"):
            compared.compare_cell(None, "nobody,else", ask("Hi"))
    assert (view.finished, view.failed) == ((1, 0) if fault is None else (0, 1))


def test_rows_are_told_of_while_they_are_asked(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    view = Seen()
    said = Result(Generation("yes", [1], "stop", Usage(completion_tokens=1)))
    monkeypatch.setattr(compared, "make_view", lambda _: view)

    def compare_(plan: Plan, asks: Any, show: Any) -> list[Comparison]:
        show([compare.Answering(side, asks, threading.Event()) for side in plan.sides])
        return [Comparison({side.name: said for side in plan.sides}) for _ in asks]

    monkeypatch.setattr(compared, "compare", compare_)
    table = compared.compare_rows(["Hi", "Ho"], "nobody,else", SamplingParams(), None, True)
    assert table["prompt"].tolist() == ["Hi", "Ho"]
    assert [line.split(" ", 1)[1] for line in view.said] == ["0/4 answers: nobody 0, else 0"]
    assert view.failed == 1  # the line goes, the table is what is shown


def test_a_table_tells_how_many_answers_each_has_given(monkeypatch: pytest.MonkeyPatch) -> None:
    view: Any = Seen()
    progress = compared._Progress(view)
    clock = [100.0]
    monkeypatch.setattr(compared.time, "monotonic", lambda: clock[0])
    one, two = (SimpleNamespace(side=SimpleNamespace(name=name), made=[None, None]) for name in "ab")
    for second, change in ((0, None), (1, one), (1.1, two), (2, None), (3, None)):
        clock[0] = 100 + second
        if change is not None:
            change.made[0] = "said"
        progress.show([one, two])  # type: ignore[list-item]
    assert [line.split(" ", 1)[1] for line in view.said] == [
        "0/4 answers: a 0, b 0",
        "1/4 answers: a 1, b 0",
        "2/4 answers: a 1, b 1",
    ]
    compared._Progress(None).show([one])  # type: ignore[list-item]
