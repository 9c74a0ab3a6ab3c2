"""Where a mutation lies in its module: which lines are run with it, and whether it can matter at all."""

from __future__ import annotations

import ast
from dataclasses import dataclass

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Place:
    """Lines [first, last], one of which a test runs where it runs the mutated code. None: they run at import, so that
    any test of the module may notice."""

    lines: tuple[int, int] | None


class Module:
    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        self._hints: list[tuple[tuple[int, int], tuple[int, int]]] = []
        for node in ast.walk(self._tree):
            for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)):
                if hint is not None:
                    self._hints.append(
                        ((hint.lineno, hint.col_offset), (hint.end_lineno or 0, hint.end_col_offset or 0))
                    )

    def is_hint(self, start: tuple[int, int]) -> bool:
        """Whether it is in an annotation: these are never evaluated here."""
        return any(begin <= start < end for begin, end in self._hints)

    def place(self, line: int) -> Place:
        """Where `line` is: its innermost statement in a function, or the function whose head it is in."""
        found: Place = Place(None)
        nodes: list[ast.stmt] = list(self._tree.body)
        inside = False
        while nodes:
            node = next((n for n in nodes if _first(n) <= line <= (n.end_lineno or n.lineno)), None)
            if node is None:
                break
            children = _children(node)
            head = (_first(node), min((_first(c) for c in children), default=(node.end_lineno or node.lineno) + 1) - 1)
            if isinstance(node, _Function):
                inside = True
                if line <= max(head[1], node.lineno):  # decorators and defaults: whoever runs the function
                    return Place((node.body[0].lineno, node.end_lineno or node.lineno))
            elif inside:
                found = Place(head if head[0] <= line <= head[1] else (_first(node), node.end_lineno or node.lineno))
            nodes = children
        return found


def _first(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _children(node: ast.stmt) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for name in ("body", "orelse", "finalbody"):
        found += getattr(node, name, [])
    for handler in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
        found += handler.body
    return found
