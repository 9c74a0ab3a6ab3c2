"""Loads a tiny checkpoint of every picture family that one can be made of and writes docs/families-found.md: which
share the decode batch and the prefix cache, which run alone, and why.

python -m tools.families_found
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def found(folder: Path) -> list[tuple[str, str]]:
    """(family, empty where it is shared or the reason why not), from a real load of each."""
    from omlx_jupyter.models.blas import preload_openblas

    preload_openblas()
    from omlx_jupyter.models.loader import load_model
    from tests.checkpoints.families import make
    from tests.checkpoints.more import ALONE, SHOWN
    from tests.checkpoints.wide import WIDE

    rows = []
    for family in sorted({**SHOWN, **ALONE, **WIDE}):
        with contextlib.redirect_stdout(io.StringIO()):  # some processors print
            model = load_model(make(family, folder / family))
        assert model.family.batchable or model.alone_because, family
        rows.append((family, model.alone_because))
    return rows


def page(rows: list[tuple[str, str]], not_made: dict[str, str]) -> str:
    shared = sum(not why for _, why in rows)
    lines = [
        "# Families that nothing is listed of",
        "",
        "Written by `python -m tools.families_found`: each family of mlx-vlm is a tiny checkpoint with random weights,",
        "loaded as any model is. At load it is tried whether the family may share the decode batch and the prefix",
        "cache (`omlx_jupyter/models/proof.py`); where that isn't shown, it runs one request at a time. That their",
        "answers are mlx-vlm's own tokens, alone, beside others and from the cache, is tested by `make families`.",
        "",
        f"{shared} of {len(rows)} are shared, with mlx {version('mlx')}, mlx-vlm {version('mlx-vlm')} and transformers",
        f"{version('transformers')} on {sys.platform}.",
        "",
        "| family | treatment | why |",
        "|---|---|---|",
    ]
    lines += [f"| `{family}` | {'alone' if why else 'shared'} | {why or 'proved'} |" for family, why in rows]
    lines += ["", "Not compared, most because no tiny checkpoint of them could be made:", ""]
    lines += [f"- `{family}`: {why}" for family, why in sorted(not_made.items())]
    return "\n".join([*lines, ""])


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from tests.checkpoints.wide import NOT_MADE

    with tempfile.TemporaryDirectory() as folder:
        rows = found(Path(folder))
    (ROOT / "docs" / "families-found.md").write_text(page(rows, NOT_MADE), encoding="utf-8")
    print("docs/families-found.md written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
