"""Runs the contract of every family (tests/slow/test_families.py) and writes docs/families.md from what came of it.

python -m tools.families_doc
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.checkpoints.families import TEXT
from tests.checkpoints.text import MORE_TEXT
from tests.checkpoints.wide import NOT_MADE

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "test_sees": "sees",
    "test_alone": "alone",
    "test_together": "together",
    "test_beside_a_cancelled_row": "beside a cancelled row",
    "test_next_turn": "next turn",
    "test_from_ram": "from RAM",
    "test_from_ssd_in_another_process": "from disk, new process",
}


class Collector:
    """Outcomes by family and column, and what test_loads noted; a cell passes when all of its tests do."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, bool]] = defaultdict(dict)
        self.noted: dict[str, dict[str, object]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = re.search(r"::(\w+)\[([a-z0-9_]+)", report.nodeid)
        if found and (report.when == "call" or report.failed):
            test, family = found.groups()
            self.cells[family][test] = self.cells[family].get(test, True) and report.passed
            self.noted[family].update(report.user_properties)


def table(families: list[str], collector: Collector) -> list[str]:
    heads = ["family", "requests", "prompts", *COLUMNS.values(), "load, s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    marks = {True: "yes", False: "**no**", None: "not run"}
    for family in families:
        cells, noted = collector.cells[family], collector.noted[family]
        able = [str(noted.get(name, "not run")) for name in ("requests", "prompts")]
        row = [f"`{family}`", *able, *(marks[cells.get(test)] for test in COLUMNS), str(noted.get("seconds", ""))]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def page(collector: Collector) -> str:
    texts = sorted(family for family in collector.cells if family in {**TEXT, **MORE_TEXT})
    sees = sorted(set(collector.cells) - set(texts))
    batched = sum(collector.noted[family].get("requests") == "batched" for family in sees)
    cached = sum(collector.noted[family].get("prompts") == "cached" for family in sees)
    whys = [(f, str(collector.noted[f]["why"])) for f in [*sees, *texts] if collector.noted[f].get("why")]
    written = f"""\
# Model families

Written by `make families`: each cell is the result of a test (`tests/slow/test_families.py`). Each family is a tiny
checkpoint with random weights that the real loaders take, and *yes* means the same greedy token ids in fp32 as
mlx-vlm's (mlx-lm's for text) own generation with one whole prefill. With mlx {version("mlx")},
mlx-vlm {version("mlx-vlm")}, mlx-lm {version("mlx-lm")} and transformers {version("transformers")} on {sys.platform}.

{len(sees)} picture families: {batched} share the decode batch, {cached} of these the prefix cache too.
{len(texts)} text families.

"""
    lines = [*written.splitlines(), "## Pictures", "", *table(sees, collector), ""]
    lines += ["## Text", "", *table(texts, collector), ""]
    lines += ["## Why not", "", *(f"- `{family}`: {why}{_KNOWN.get(family, '')}" for family, why in whys), ""]
    lines += ["## Not compared", "", *(f"- `{family}`: {why}" for family, why in sorted(NOT_MADE.items())), ""]
    return "\n".join([*lines, *_ABOUT.splitlines(), ""])


# What was found out about a family's own code, where the proof's words don't say why
_KNOWN = {
    "gemma3n": " (in mlx-vlm 0.7.10 layers that share keys turn their queries by the cache's length behind the piece, "
    "and a prompt's tokens aren't scaled as decoded ones are, so what it computes depends on how a prompt is cut)",
}
_ABOUT = """\
## How it is found out

A dozen OCR and Qwen families are listed in the code (`models/families.py`), because their towers take a picture by
itself. Of all others nothing is listed. At load a proof on the checkpoint's own weights (`models/proof.py`) shows, with
made-up pictures, what the engine may do:

- *batched*: rows whose prompts went through the family's own code at once decode together as each does alone.
- *cached*: a prompt may be taken apart. Where a picture's tokens lie is found by running the processor over the picture
  alone; its features are the rows that the family's own embedding gives there, with what enters deeper layers or
  every layer beside them; positions come from the family's own index of the whole prompt. Uneven chunks, and caches
  cut and put together again, then give the family's own logits. Where they do so for one picture only, prompts with
  several go whole.
- Where neither is shown, requests run one at a time through the family's own code: slow is allowed, wrong is not.

The logits of every step must agree within the noise, measured on the same weights between batch sizes 1, 2 and 8 and
between two ways to cut a prompt. Each part has a negative control (another picture, another row's cache, a hidden
token) that has to differ, or the part counts as failed. Windows of up to 2,048 tokens that a config names are crossed,
longer lengths by positions alone. What the same prompt doesn't always get the same logits from runs alone, and a
kind of cache that isn't known is never taken for a plain one.

Text models are tried too (`models/text_proof.py`): chunks, blocks and states put together, rows together. Recurrent
layers' states are kept at block ends; a model with both kinds of layers keeps both.

**What it costs.** About 4,000 tokens through the model in some 500 steps, and ten small pictures. Measured in fp32 with
0.14 billion parameters on two CPU cores: 41 s, as long as 31 prefills of 256 tokens, some 290 s a billion there. On a
GPU that prefills 3,000 tokens/s and reads weights at 400 GB/s it would be 3 to 6 s a billion parameters in bfloat16;
that is an estimate, no GPU was tried. A family whose processor makes thousands of tokens of any picture takes longer.
*load* in the tables is a tiny checkpoint's, the proof included. Where the first prompt shows that it would take more
than `Limits.prove_s` (20 s), requests run alone first and the proof is made when the engine is idle; a request that
comes meanwhile goes first. It is remembered in the user's cache folder by the checkpoint's identity, device and
versions, so that the second load makes none; `%omlx model` shows what was found and why, `%omlx model --prove` finds
it out anew. Text models' proofs are a third of that, and wait for an idle engine in the same way.

**When something fails later.** A fault or a number that is none, while requests run together, lets the model's
requests run one at a time until the kernel ends, which a warning and `%omlx model` say; a fault in a prompt that was
taken apart lets prompts go whole. What had said nothing yet runs again, what had ends with an error.

## Notes

- Where every layer is a plain KV cache, rows own their KV (joining and leaving copy a row, or a small group of like
  length); models with recurrent or sliding-window layers use the libraries' batch caches, which copy the batch then.
- mlx-vlm 0.7.10's glm4v tower is wrong from the third picture of a prompt on: its attention is cut after the second.
  Here every picture goes through the tower alone; the reference is corrected the same way (`tests/parity`).
- mlx-vlm 0.7.10's LLaVA processor hands `padding` on to an image processor that refuses it in transformers 5. It
  is left out, here and in the reference.
- DeepSeek-OCR has small encoders in the tables; `make slow` compares it with the real sizes.
- Models that write by diffusion, or have no decoder of their own, load as text models or are refused.
"""


def main() -> int:
    collector = Collector()
    tests = ROOT / "tests" / "slow" / "test_families.py"
    asked = ["-q", "-m", "slow", "-p", "no:cacheprovider", "--timeout=300", "-n", "2", "--dist", "worksteal"]
    code = pytest.main([str(tests), *asked], plugins=[collector])
    assert set(TEXT) <= set(collector.cells), "the families did not run"
    (ROOT / "docs" / "families.md").write_text(page(collector), encoding="utf-8")
    print("docs/families.md written")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
