"""Breaks the code in one place at a time and sees whether the tests of that place notice.

python -m tools.mutants [WORD]      those whose file or name holds WORD; exits with 1 where one survives
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutant:
    """`old` in `file` becomes `new`; `tests` have to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


NB = "tests/notebook"
MUTANTS = (
    Mutant("tools run without asking", "notebook/work/tool_loop.py", "in allowed or ask_user(text)", "is not None",
           f"{NB}/test_tools.py"),
    Mutant("tool rounds unbounded", "notebook/work/tool_loop.py", "MOST_ROUNDS = 5", "MOST_ROUNDS = 500",
           f"{NB}/test_tool_kinds.py {NB}/test_tools.py"),
    Mutant("code of checkpoints always trusted", "notebook/work/session.py", "trust_code=settings().trust_code",
           "trust_code=True", f"{NB}/test_edges.py"),
    Mutant("HTML not escaped", "notebook/answers/html.py", "escape(", "str(", f"{NB}/test_plain.py"),
    Mutant("--stop dropped", "notebook/work/run.py", 'stop=tuple(getattr(args, "stop", None) or ()) or None',
           "stop=None", f"{NB}/test_edges.py"),
    Mutant("--system dropped", "notebook/cells/ask_cell.py", "if args.system else []", "if False else []",
           f"{NB}/test_edges.py"),
    Mutant("--all-frames dropped", "notebook/cells/read_cell.py", 'open_images(item, limits, "all", label)',
           'open_images(item, limits, "first", label)', f"{NB}/test_edges.py"),
    Mutant("pixel budget ignored", "engine/engine.py", "self._image_limits, self._pixel_budget))",
           "self._image_limits, 10**12))", "tests/engine/test_limits.py tests/engine/test_engine.py"),
    Mutant("a background cell isn't in its chat", "notebook/cells/ask_cell.py",
           "            _keep_turn(args.chat, cell, user, result)", "            pass",
           f"{NB}/test_cells.py {NB}/test_edges.py"),
    Mutant("a run goes on with another model's answers", "notebook/work/many.py",
           "return [(_identity(item), *asked) for item in items]", "return [_identity(item) for item in items]",
           f"{NB}/test_edges.py"),
    Mutant("unload leaves the magics", "notebook/extension.py", "magics[kind].pop(name, None)",
           "magics[kind].get(name, None)", f"{NB}/test_unload.py"),
    Mutant("cache clear does nothing", "notebook/manage/cache_command.py",
           "freed = check.clear(cache_folder(), model)", "freed = 0", f"{NB}/test_edges.py"),
    Mutant("a code fence stays", "notebook/answers/result.py", 'text.strip("`").removeprefix("json")', "text",
           f"{NB}/test_edges.py"),
    Mutant("RAM tier without bound", "cache/ram.py", "while self.nbytes >", "while False and self.nbytes >",
           "tests/cache/test_ram.py"),
    Mutant("a tool's arguments unchecked", "notebook/work/tool_loop.py", "problem = tool.misfit(arguments)",
           'problem = ""', f"{NB}/test_tool_kinds.py"),
    Mutant("a run does all again", "runs/passing.py", "if known is not None and known.asked == digest:", "if False:",
           "tests/runs/test_run.py"),
    Mutant("a torn line stays", "runs/store.py", "os.ftruncate(self._handle, end)", "pass", "tests/runs/test_run.py"),
    Mutant("two writers", "runs/lock.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH", "tests/runs/test_run.py"),
    Mutant("a beginning isn't in the prompt", "models/tokenizer.py",
           'return text + str(self._content(Message("assistant", [use.begin]), guarded))', "return text",
           "tests/engine/test_begin.py"),
    Mutant("a cell's settings lose", "notebook/settings/per_model.py", "if getattr(sampling, key) is None",
           "if True", f"{NB}/test_per_model.py"),
    Mutant("transparent always on white", "images/pixels.py", "return 0 if (brightness", "return 255 if (brightness",
           "tests/images/test_source.py"),
)  # fmt: skip


def survives(mutant: Mutant, place: Path) -> bool:
    """Whether the tests pass over the broken code."""
    target = place / "omlx_jupyter" / mutant.file
    sound = target.read_text(encoding="utf-8")
    if mutant.old not in sound:
        raise SystemExit(f"{mutant.name}: {mutant.file} has no {mutant.old!r}; bring the mutant up to date")
    target.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests.split()]
        environment = {**os.environ, "PYTHONPATH": str(place)}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False, timeout=900)
        return done.returncode == 0
    finally:
        target.write_text(sound, encoding="utf-8")


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    left = []
    with tempfile.TemporaryDirectory(prefix="omlx-mutants-") as folder:
        place = Path(folder)
        for name in ("omlx_jupyter", "tests", "docs", "tools", "example_notebooks"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "labextension"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, place / name)
        for mutant in MUTANTS:
            if word in mutant.name or word in mutant.file:
                alive = survives(mutant, place)
                left += [mutant.name] if alive else []
                print(f"{'SURVIVES' if alive else 'noticed '}  {mutant.name} ({mutant.file})", flush=True)
    print(f"{len(left)} survive")
    sys.exit(bool(left))


if __name__ == "__main__":
    main()
