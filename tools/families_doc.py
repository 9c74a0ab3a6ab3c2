"""Runs the family matrix and writes docs/families.md from what passed and failed.

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

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "test_alone": "alone, 0 to 5 pictures",
    "test_chunks": "chunks of 7, 64, whole",
    "test_together": "2 to 8 rows",
    "test_beside_a_cancelled_row": "a row cancelled",
    "test_second_turn": "second turn",
    "test_pictures_and_prompts_matter": "negative control",
}
NAMES = {
    "deepseekocr": "DeepSeek-OCR",
    "deepseekocr_2": "DeepSeek-OCR 2",
    "dots_ocr": "DOTS-OCR",
    "gemma3": "Gemma 3 (4-D mask, sliding windows), by proof",
    "gemma3_text": "Gemma 3 text (sliding windows), mlx-lm",
    "glm4v": "GLM-4V",
    "glm4v_moe": "GLM-4V, mixture of experts",
    "glm_ocr": "GLM-OCR",
    "llama_sliding": "Llama with sliding windows, mlx-lm",
    "pixtral": "Pixtral",
    "qwen2": "Qwen2 text, mlx-lm",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen2_vl": "Qwen2-VL",
    "qwen3_5": "Qwen3.5 (recurrent and attention)",
    "qwen3_5_moe": "Qwen3.5, mixture of experts",
    "qwen3_vl": "Qwen3-VL (deep-stack features), by proof",
    "unlimited_ocr": "Unlimited-OCR (a ring of written tokens), alone",
}


class Collector:
    """Outcomes by family and column; a cell passes when all of its tests do."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, bool]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = re.search(r"::(\w+)\[([a-z0-9_]+)", report.nodeid)
        if found and (report.when == "call" or report.failed):
            test, family = found.groups()
            self.cells[family][test] = self.cells[family].get(test, True) and report.passed


def page(cells: dict[str, dict[str, bool]]) -> str:
    lines = [
        "# Model families",
        "",
        "Written by `python -m tools.families_doc` from `tests/parity/test_matrix.py`. Each family is a tiny",
        "random-weight checkpoint that the real loaders take; `equal` means the same greedy token ids in fp32 as",
        "mlx-vlm's (mlx-lm's for text) own generation with one whole prefill. Measured with",
        f"mlx {version('mlx')}, mlx-vlm {version('mlx-vlm')}, mlx-lm {version('mlx-lm')} on {sys.platform}.",
        "",
        "| family | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for family in sorted(cells):
        marks = {True: "equal", False: "**differs**", None: "not run"}
        row = " | ".join(marks[cells[family].get(test)] for test in COLUMNS)
        lines.append(f"| {NAMES.get(family, family)} (`{family}`) | {row} |")
    lines += [
        "",
        "In the last column *equal* means that other pictures and prompts gave other tokens, as they must.",
        "",
    ]
    lines += [
        "Families marked *by proof* are listed nowhere in the code, nor is any mlx-vlm family that isn't in",
        "the table: where a picture's tokens lie, its features and positions are found by asking the family's",
        "own code, and a proof on the checkpoint's weights at load (`models/proof.py`) shows whether what the",
        "engine would do (pictures one by one, uneven chunks, KV cut and put together, rows in one batch)",
        "gives the family's own logits. Where it doesn't, the prompt goes whole through the family's code,",
        "one request at a time and without the prefix cache: slow is allowed, wrong is not. `%omlx model` and",
        "`engine.capabilities` say which, and why. Processors that don't work with the installed transformers",
        "(LLaVA's doesn't with transformers 5) are refused with their error. Models that write by diffusion,",
        "or have no decoder of their own, load as text models or are refused.",
        "",
        "Where every layer is a plain KV cache, rows own their KV (joining and leaving copy a row, or a small group of",
        "like length); models with recurrent or sliding-window layers use mlx-vlm's batch caches, which copy the batch",
        "when a row joins or leaves.",
        "",
        "DeepSeek-OCR is in the table with small encoders; `make slow` compares it with the real sizes (SAM, 86 M).",
        "",
        "mlx-vlm 0.7.10's glm4v tower is wrong from the third picture of a prompt on: its attention is cut after the",
        "second. Here every picture goes through the tower alone, so it isn't affected; the reference is corrected",
        "the same way.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    collector = Collector()
    matrix = ROOT / "tests" / "parity" / "test_matrix.py"
    code = pytest.main([str(matrix), "-q", "-p", "no:cacheprovider"], plugins=[collector])
    assert set(TEXT) <= set(collector.cells), "the matrix did not run"
    (ROOT / "docs" / "families.md").write_text(page(collector.cells), encoding="utf-8")
    print("docs/families.md written")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
