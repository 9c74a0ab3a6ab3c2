"""How many parameters of the package's functions are annotated `Any`: a table by room, or each place with `--places`.

Exactly `Any` is counted on its own: the checker asks nothing of such a value. An `Any` inside a larger type
(`list[Any]`, `dict[str, Any]`, `Callable[..., Any]`) is counted beside it, since the outer type is checked.

    python tools/any_share.py [--places] [PATH]
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "omlx_jupyter"
MOST = 0.0095  # of all parameters may be exactly `Any`: what was reached (37 of 3,943); it only goes down


@dataclass(frozen=True)
class Parameter:
    """One parameter of one function.

    Attributes:
        room: The folder right under the package, `(top)` for a file of the package itself.
        place: `path:line function(parameter)`, the path relative to the package.
        annotation: Its annotation as written, quotes taken off; "" without one.
    """

    room: str
    place: str
    annotation: str

    @property
    def is_any(self) -> bool:
        """Whether it is annotated exactly `Any`."""
        return self.annotation in ("Any", "typing.Any")

    @property
    def holds_any(self) -> bool:
        """Whether `Any` stands somewhere inside a larger annotation."""
        if self.is_any or not self.annotation:
            return False
        names = ast.walk(ast.parse(self.annotation, mode="eval"))
        return any(isinstance(node, ast.Name) and node.id == "Any" for node in names)


def parameters(package: Path = PACKAGE) -> Iterator[Parameter]:
    """Every parameter of every function and method in `package`; `self`, `cls` and lambdas' are left out."""
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = relative.parts[0] if len(relative.parts) > 1 else "(top)"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            args = node.args
            every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
            for arg in every:
                if arg is not None and arg.arg not in ("self", "cls"):
                    place = f"{relative}:{arg.lineno} {node.name}({arg.arg})"
                    yield Parameter(room, place, _written(arg.annotation))


def _written(annotation: ast.expr | None) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation) if annotation is not None else ""


def share(found: list[Parameter]) -> float:
    """What part of `found` is exactly `Any`: 0 to 1."""
    return sum(one.is_any for one in found) / len(found) if found else 0.0


def table(found: list[Parameter]) -> str:
    """A row for each room: parameters, exactly `Any`, its share, `Any` within a larger type."""
    rows = [f"{'room':<10} {'all':>5} {'Any':>5} {'share':>7} {'within':>7}"]
    for room in [*sorted({one.room for one in found}), "all"]:
        here = [one for one in found if room in ("all", one.room)]
        whole, within = sum(one.is_any for one in here), sum(one.holds_any for one in here)
        rows.append(f"{room:<10} {len(here):>5} {whole:>5} {share(here):>7.1%} {within:>7}")
    return "\n".join(rows)


def main() -> None:
    """Print the table, or each place that holds an `Any`."""
    parser = argparse.ArgumentParser(description="How many parameters are annotated Any.")
    parser.add_argument("path", nargs="?", type=Path, default=PACKAGE)
    parser.add_argument("--places", action="store_true", help="each place instead of the table")
    asked = parser.parse_args()
    found = list(parameters(asked.path))
    if asked.places:
        print("\n".join(f"{one.place}: {one.annotation}" for one in found if one.is_any or one.holds_any))
    else:
        print(table(found))


if __name__ == "__main__":
    main()
