"""Mutates modules with cosmic-ray and runs the tests of their place that run the mutated line.

python -m tools.mutation [WORD ...] [--most N] [--again]

WORD: modules whose path holds one of them. --most: mutants a module. --again: with the survey of the run before.
Results go to artifacts/mutants. Exits with 1 where more of a module's mutants survive than modules.toml allows.
"""

from __future__ import annotations

import argparse
import compileall
import difflib
import itertools
import json
import os
import py_compile
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from . import forked
from .places import Module

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
OUT = ROOT / "artifacts" / "mutants"
WORKERS = 2
STARTS_S = 30.0  # for a fork to import the tests on a busy machine, before the first of them runs
Survey = dict[str, tuple[float, dict[str, list[int]]]]


@dataclass(frozen=True)
class Target:
    module: str
    tests: tuple[str, ...]
    most: int
    seconds: float


@dataclass(frozen=True)
class Mutant:
    """One change: cosmic-ray's operator at its n-th place in the module, and the tests that run it."""

    module: str
    operator: str
    occurrence: int
    line: int
    tests: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class Outcome:
    mutant: Mutant
    killed_by: str  # "" where it survives
    change: str


def targets(words: list[str], most: int | None) -> tuple[list[Target], int]:
    """The modules to mutate, and the bound of survivors in per cent."""
    known = tomllib.loads((HERE / "modules.toml").read_text(encoding="utf-8"))
    found: list[Target] = []
    for group in known["group"]:
        tests = tuple(f"tests/{name}" for name in group["tests"] if (ROOT / "tests" / name).exists())
        for pattern in group["modules"]:
            for path in sorted((ROOT / "omlx_jupyter").glob(pattern)):
                name = path.relative_to(ROOT / "omlx_jupyter").as_posix()
                ours = path.name != "__init__.py" and all(name != target.module for target in found)
                if ours and (not words or any(word in name for word in words)):
                    count = group.get("most", known["most"]) if most is None else most
                    found.append(Target(name, tests, count, group.get("seconds", known["seconds"])))
    return found, known["bound"]


def copy_of_tree(place: Path) -> None:
    """The tree with byte code that is checked by its source's content: times are too coarse for mutants."""
    for name in ("omlx_jupyter", "tests", "docs", "tools", "example_notebooks", "labextension"):
        leave = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / name, place / name, ignore=leave)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, place / name)
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(place / "omlx_jupyter", quiet=2, invalidation_mode=mode)


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(place), "OPENBLAS_NUM_THREADS": "1"}


def survey(place: Path, files: Iterable[str]) -> Survey:
    """Which lines each test runs. :raises SystemExit: the tests don't run."""
    ready = sorted(files, key=lambda name: -(ROOT / name).stat().st_size)
    running = []
    for number in range(WORKERS):
        if part := ready[number::WORKERS]:
            told = place / f"survey{number}.json"
            command = [sys.executable, "-m", "pytest", *forked.OPTIONS, *part]
            env = {**environment(place), "OMLX_MUTANTS_SURVEY": str(told)}
            out = subprocess.PIPE
            running.append(
                (told, subprocess.Popen(command, cwd=place, env=env, stdout=out, stderr=subprocess.STDOUT, text=True))
            )
    found: Survey = {}
    for told, process in running:
        said, _ = process.communicate()
        if process.returncode not in (0, 1):
            raise SystemExit(f"the tests don't run on the sound code:\n{said[-3000:]}")
        for line in said.splitlines():
            if line.startswith(("FAILED ", "ERROR ")):
                print(f"left out, on the sound code: {line}")
        found |= json.loads(told.read_text(encoding="utf-8"))
    return found


def drawn(target: Target, surveyed: Survey) -> list[Mutant]:
    """A module's mutants: at most `most`, each place once before any place twice."""
    from cosmic_ray.commands.init import _all_work_items

    path = ROOT / "omlx_jupyter" / target.module
    module = Module(path.read_text(encoding="utf-8"))
    places: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for item in _all_work_items([path], {}):
        (change,) = item.mutations
        if not module.is_hint(change.start_pos):
            places[change.start_pos].append(change)
    chance = random.Random(target.module)
    groups = [chance.sample(group, len(group)) for _, group in sorted(places.items())]
    chance.shuffle(groups)
    rounds = itertools.zip_longest(*groups)
    chosen = [change for round_ in rounds for change in round_ if change is not None][: target.most]
    return [_mutant(target, change, module, surveyed) for change in sorted(chosen, key=lambda c: c.start_pos)]


def _mutant(target: Target, change: Any, module: Module, surveyed: Survey) -> Mutant:
    """With the quickest of the tests that run it, in their order: as many as take `target.seconds`, at least one."""
    line = change.start_pos[0]
    lines = module.place(line).lines
    running: dict[str, float] = {}
    files = {test.split("::")[0] for test, (_, hit) in surveyed.items() if target.module in hit}
    for test, (took, hit) in surveyed.items():
        here = hit.get(target.module, [])
        file = test.split("::")[0]  # a constant may be used without a line of its module
        runs = file in files if lines is None else any(lines[0] <= n <= lines[1] for n in here)
        if runs and file in target.tests:
            running[test] = took
    chosen: set[str] = set()
    seconds = 0.0
    for test in sorted(running, key=running.__getitem__):
        if chosen and seconds + running[test] > target.seconds:
            break
        chosen.add(test)
        seconds += running[test]
    tests = tuple(test for test in running if test in chosen)
    return Mutant(target.module, change.operator_name, change.occurrence, line, tests, STARTS_S + 2 * seconds)


def _settle(source: str) -> None:
    """A worker's own copy of the tree, in which it stays."""
    place = Path(tempfile.mkdtemp(prefix="worker-", dir=source)) / "tree"
    shutil.copytree(Path(source) / "tree", place)
    os.chdir(place)
    os.environ.update(environment(place))
    forked.warm_up()


def tried(mutant: Mutant) -> Outcome:
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    path = Path("omlx_jupyter") / mutant.module
    with use_mutation(path, get_operator(mutant.operator)(), mutant.occurrence) as (old, new):
        killed_by = ""
        if mutant.tests:
            code, said = forked.run_tests(["--timeout=20", *mutant.tests], mutant.timeout_s)
            failed = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
            first = failed[0].partition(" ")[2] if failed else ""
            named = max((test for test in mutant.tests if first.startswith(test)), key=len, default="")
            killed_by = "" if code == 0 else named or first or forked.ended(code, said)
    diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return Outcome(mutant, killed_by, "\n".join(list(diff)[3:]))


def sound(test: str) -> bool:
    """Whether a test that killed passes alone on the sound code."""
    return forked.run_tests([test], 120)[0] == 0


def in_time(mutant: Mutant) -> bool:
    """Whether the tests of a mutant that took too long pass in that time on the sound code."""
    return forked.run_tests(["--timeout=20", *mutant.tests], mutant.timeout_s)[0] == 0


def checked(outcomes: list[Outcome], pool: ProcessPoolExecutor) -> list[Outcome]:
    """A mutant isn't killed by what would have failed, or taken as long, without it."""
    killers = sorted({o.killed_by for o in outcomes if o.killed_by in o.mutant.tests})
    unsound = {test for test, fine in zip(killers, pool.map(sound, killers), strict=True) if not fine}
    for test in sorted(unsound):
        print(f"{test} fails alone on the sound code: what it killed counts as survived")
    late = list({o.mutant.tests: o.mutant for o in outcomes if o.killed_by == forked.TOO_LONG}.values())
    slow = {mutant.tests for mutant, fine in zip(late, pool.map(in_time, late), strict=True) if not fine}
    for tests in slow:
        print(f"{', '.join(tests)} take too long on the sound code: what they killed by that counts as survived")
    return [
        replace(o, killed_by="")
        if o.killed_by in unsound or (o.killed_by == forked.TOO_LONG and o.mutant.tests in slow)
        else o
        for o in outcomes
    ]


def explained() -> list[dict[str, str]]:
    known = tomllib.loads((HERE / "explained.toml").read_text(encoding="utf-8"))
    return list(known.get("survivor", []))


def reason_of(outcome: Outcome, known: list[dict[str, str]]) -> str:
    """Why a survivor can't be noticed; "" where nobody said so."""
    for entry in known:
        before, _, after = outcome.change.partition("\n")
        here = entry["module"] == outcome.mutant.module
        if here and entry["code"] in before and entry.get("becomes", "") in after:
            return entry["why"]
    return ""


def report(outcomes: list[Outcome], bound: int) -> bool:
    """Tell what survives; whether a module is beyond its bound."""
    by_module: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_module[outcome.mutant.module].append(outcome)
    known, beyond, rows, left = explained(), False, [], []
    for module, made in by_module.items():
        alive = [o for o in made if not o.killed_by]
        share = 100 * len(alive) / len(made)
        beyond |= share >= bound
        rows.append(f"| {module} | {len(made)} | {len(made) - len(alive)} | {len(alive)} | {share:.0f} |")
        for outcome in alive:
            why = reason_of(outcome, known) or ("no test runs it" if not outcome.mutant.tests else "NOT EXPLAINED")
            left.append(f"{module}:{outcome.mutant.line} ({why})\n{outcome.change}")
    text = "\n".join(["| module | mutants | killed | survivors | % |", "|---|---|---|---|---|", *rows])
    print("\n\n".join([*left, text]))
    (OUT / "table.md").write_text(text + "\n", encoding="utf-8")
    (OUT / "survivors.txt").write_text("\n\n".join(left) + "\n", encoding="utf-8")
    return beyond


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--most", type=int)
    parser.add_argument("--again", action="store_true")
    args = parser.parse_args()
    chosen, bound = targets(args.words, args.most)
    OUT.mkdir(parents=True, exist_ok=True)
    files = sorted({test for target in chosen for test in target.tests})
    kept = OUT / f"survey-{zlib.crc32(' '.join(files).encode()):08x}.json"
    with tempfile.TemporaryDirectory(prefix="omlx-mutation-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        copy_of_tree(tree)
        if not args.again:
            kept.write_text(json.dumps(survey(tree, files)), encoding="utf-8")
        surveyed: Survey = json.loads(kept.read_text(encoding="utf-8"))
        mutants = [mutant for target in chosen for mutant in drawn(target, surveyed)]
        outcomes: list[Outcome] = []
        with ProcessPoolExecutor(WORKERS, get_context("spawn"), _settle, (folder,)) as pool:
            for outcome in pool.map(tried, mutants):
                outcomes.append(outcome)
                mark = "killed  " if outcome.killed_by else "SURVIVES"
                print(f"{mark} {outcome.mutant.module}:{outcome.mutant.line} {outcome.killed_by}", flush=True)
            outcomes = checked(outcomes, pool)
    sys.exit(report(outcomes, bound))
