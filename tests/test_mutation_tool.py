"""Where a mutation lies, which tests are chosen for it, and that mutants are noticed and survivors told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.mutation.places import Module, Place
from tools.mutation.run import Target, drawn, targets, tried

SOURCE = """
LIMIT = 3

@decorated(1)
def f(x: int | None = 2) -> int | None:
    if (
        x
        > LIMIT
    ):
        return [
            x,
        ]
    try:
        return 1
    except ValueError:
        return 2

class C:
    field: int = 4

    def g(self):
        for _ in range(3):
            pass
"""


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (2, None),
        (4, (6, 16)),
        (5, (6, 16)),
        (8, (6, 9)),
        (11, (10, 12)),
        (14, (14, 14)),
        (16, (16, 16)),
        (19, None),
        (22, (22, 22)),
    ],
)
def test_the_lines_that_a_test_has_to_run(line: int, lines: tuple[int, int] | None) -> None:
    assert Module(SOURCE).place(line) == Place(lines)


def test_annotations_are_no_place_for_a_mutant() -> None:
    module = Module(SOURCE)
    text = SOURCE.splitlines()
    assert module.is_hint((5, text[4].index("| None =")))
    assert module.is_hint((5, text[4].rindex("| None")))
    assert not module.is_hint((5, text[4].index("2")))
    assert not module.is_hint((19, text[18].index("4")))


def test_mutants_are_the_same_each_time_and_get_the_tests_of_their_lines() -> None:
    target = Target("engine/stops.py", ("tests/engine/test_stops.py",), 20, 5.0)
    test = "tests/engine/test_stops.py::test_nothing_comes_after_a_match"
    surveyed = {test: (1.0, {"engine/stops.py": [20, 21]}), "tests/other.py::test": (1.0, {"engine/stops.py": [21]})}
    mutants = drawn(target, surveyed)
    assert mutants == drawn(target, surveyed)
    assert len(mutants) == 20
    assert {m.line: m.tests for m in mutants if m.line == 20} == {20: (test,)}
    assert all(set(m.tests) <= {test} for m in mutants)
    assert len({(m.operator, m.occurrence) for m in mutants}) == 20


def test_every_module_has_tests() -> None:
    chosen, bound = targets([], None)
    assert bound == 15
    assert all(target.tests and target.most for target in chosen)
    assert len({target.module for target in chosen}) == len(chosen)


def test_a_mutant_is_noticed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tree of its own, which is as it was afterwards."""
    from tools.mutation.run import Mutant

    for name in ("omlx_jupyter/engine", "tests", "tools/mutation"):
        (tmp_path / name).mkdir(parents=True)
    plugin = Path("tools/mutation/plugin.py").read_text(encoding="utf-8")
    (tmp_path / "tools/mutation/plugin.py").write_text(plugin, encoding="utf-8")
    module, test = tmp_path / "omlx_jupyter/engine/m.py", tmp_path / "tests/test_m.py"
    module.write_text("N = 3\n", encoding="utf-8")
    test.write_text("def test_n():\n    assert 'N = 3' in open('omlx_jupyter/engine/m.py').read()\n"
                    "def test_no():\n    pass\n", encoding="utf-8")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = [
        tried(Mutant("engine/m.py", "core/NumberReplacer", 0, 1, tests, 60))
        for tests in (("tests/test_m.py::test_n",), ("tests/test_m.py::test_no",), ())
    ]
    assert [o.killed_by for o in found] == ["tests/test_m.py::test_n", "", ""]
    assert found[0].change.splitlines()[0] == "-N = 3"
    assert module.read_text(encoding="utf-8") == "N = 3\n"
    assert os.listdir(tmp_path / "omlx_jupyter/engine") == ["m.py"]
