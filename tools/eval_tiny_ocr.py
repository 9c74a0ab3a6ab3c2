"""Characters wrong: the embedded model whole and by lines, and tesseract, on pictures that training never saw.

    python -m tools.eval_tiny_ocr                       # the embedded model, every set
    python -m tools.eval_tiny_ocr --model DIR --pictures 60 --json FILE
    python -m tools.eval_tiny_ocr --card omlx_jupyter/assets/tiny-ocr/README.md

Words and fonts are held out (one word in sixteen, four font families). Chromium and tesseract are used where they
are installed. Blanks inside a line count as one, empty lines not at all: a table's tabs are no error.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.chat.pages import read_page, recipe_for
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.images.source import open_images
from tools.tiny_ocr import pages, render
from tools.tiny_ocr.pages import Sample
from tools.tiny_ocr.text import held_out_text

_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"


@dataclass
class Row:
    """Shares of characters wrong; None where it wasn't measured."""

    pictures: int
    whole: float
    lines: float
    tesseract: float | None


def drawn(seed: int, count: int, kind: str, fonts: list[str]) -> list[Sample]:
    """Lines of held-out words drawn by Pillow: one, a block, coloured, light on dark, noisy and skewed."""
    r = random.Random(seed)
    made = []
    for _ in range(count):
        size = r.randint(12, 24)
        lines = {"block": r.randint(2, 6), "scan": 2}.get(kind, 1)
        text = [held_out_text(r, r.randint(8, 34))[:36].strip() for _ in range(lines)]
        ink, paper = {
            "coloured": ("black", r.choice(("#ffe0a0", "#d0e8ff", "#e0ffd8"))),
            "dark": ("white", r.choice(("black", "#203040"))),
            "scan": ("#303030", "#f4f0e8"),
        }.get(kind, ("black", "white"))
        image = _drawn(text, size, r.choice(fonts), ink, paper)
        if kind == "scan":
            turn = r.choice((-1.5, 1.0, 1.5))
            image = image.rotate(turn, expand=True, fillcolor=paper, resample=Image.Resampling.BICUBIC)
            grain = np.random.default_rng(r.getrandbits(32)).normal(0, 10, (image.height, image.width, 3))
            image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
        made.append(Sample(image, "\n".join(text)))
    return made


def _drawn(text: list[str], size: int, font_path: str, ink: str, paper: str) -> Image.Image:
    font = ImageFont.truetype(font_path, size)
    pitch = int(size * 1.5)
    width = int(max(font.getlength(line) for line in text)) + 24
    image = Image.new("RGB", (width, pitch * len(text) + 16), paper)
    canvas = ImageDraw.Draw(image)
    for index, line in enumerate(text):
        canvas.text((10, 8 + index * pitch), line, fill=ink, font=font)
    return image


def sets(pictures: int) -> dict[str, list[Sample]]:
    """Every test set. `pictures` a kind; pages by Chromium fewer."""
    train, _, held = render.fonts()
    plain = [f for f in train if re.search(r"(DejaVuSans|LiberationSerif-Regular|DejaVuSansMono)\.ttf$", f)]
    upright = [f for f in held if not re.search("Ital|Obliq|Thin|Light|Black|Hair|Medium|Heavy|Semi", f)]
    fonts = plain + upright
    kinds = ("line", "block", "coloured", "dark", "scan")
    names = ("single lines", "blocks of 2 to 6 lines", "coloured paper", "light on dark", "noisy and skewed")
    made = {
        name: drawn(7_000 + i, pictures, kind, fonts) for i, (kind, name) in enumerate(zip(kinds, names, strict=True))
    }
    browser = pages.chromium()
    if browser:
        r = random.Random(31)
        made["web screenshots"] = [pages.screenshot(pages.lines(r), browser) for _ in range(max(4, pictures // 3))]
        for name, kind in pages.KINDS.items():
            made[f"{name}, screenshots"] = [pages.screenshot(kind(r), browser) for _ in range(max(2, pictures // 10))]
        made["letters, PDF by pdfium"] = [
            pages.pdf_page(pages.letter(r), browser) for _ in range(max(2, pictures // 10))
        ]
    return made


def normal(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def wrong(samples: Iterable[Sample], texts: Iterable[str]) -> float:
    pairs = [(normal(sample.text), normal(text)) for sample, text in zip(samples, texts, strict=True)]
    return sum(Levenshtein.distance(a, b) for a, b in pairs) / sum(len(a) for a, _ in pairs)


def by_tesseract(image: Image.Image) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        image.save(path)
        command = ["tesseract", str(path), "-", "--psm", "6"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure(engine: Engine, samples: list[Sample]) -> Row:
    sampling = SamplingParams(temperature=0, max_tokens=1500)
    handles = [engine.submit("Text Recognition:", [s.image], sampling) for s in samples]
    whole = [handle.result().text for handle in handles]
    recipe = recipe_for(engine)
    lines = whole
    if recipe is not None:
        lines = [read_page(engine, open_images(s.image)[0], recipe).result().text for s in samples]
    tesseract = [by_tesseract(s.image) for s in samples] if shutil.which("tesseract") else None
    found = wrong(samples, tesseract) if tesseract is not None else None
    return Row(len(samples), wrong(samples, whole), wrong(samples, lines), found)


def table(rows: dict[str, Row]) -> str:
    made = ["| characters wrong, % | pictures | whole picture | by lines | tesseract |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        last = "" if row.tesseract is None else f"{100 * row.tesseract:.1f}"
        made.append(f"| {name} | {row.pictures} | {100 * row.whole:.1f} | {100 * row.lines:.1f} | {last} |")
    return "\n".join(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--pictures", type=int, default=100, help="pictures a drawn set")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--card", type=Path, help="a model card whose table is written anew")
    args = parser.parse_args()
    rows: dict[str, Row] = {}
    with Engine.load(args.model, limits=Limits(max_rows=16)) as engine:
        for name, samples in sets(args.pictures).items():
            rows[name] = measure(engine, samples)
            print(table({name: rows[name]}).splitlines()[-1], flush=True)
    if args.json:
        args.json.write_text(json.dumps({n: asdict(r) for n, r in rows.items()}, indent=1) + "\n", encoding="utf-8")
    if args.card:
        text = args.card.read_text(encoding="utf-8")
        before, rest = text.split(_BEGIN)
        args.card.write_text(f"{before}{_BEGIN}\n{table(rows)}\n{_END}{rest.split(_END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
