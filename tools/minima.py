"""Constraints that pin what pyproject.toml declares to its lower bounds, for `make minima`.

python -m tools.minima [EXTRA ...] > constraints.txt
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(\[[^\]]*\])?>=([0-9.]+)")


def constraints(project: dict[str, object], extras: list[str]) -> list[str]:
    """`name==lower bound` for each requirement that has one, in order, each name once.

    :raises ValueError: a requirement without a lower bound.
    """
    wanted = list(project["dependencies"])  # type: ignore[call-overload]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]  # type: ignore[index]
    made: dict[str, str] = {}
    for requirement in wanted:
        found = _REQUIREMENT.match(requirement)
        if found is None:
            raise ValueError(f"{requirement} has no lower bound")
        made.setdefault(found[1].lower(), found[3])
    return [f"{name}=={version}" for name, version in made.items()]


def main() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(constraints(project, sys.argv[1:])))


if __name__ == "__main__":
    main()
