"""Character error rate of the embedded model, through `mlx_vlm.load` and the engine.

    python -m tools.eval_tiny_ocr                       # the embedded model
    python -m tools.eval_tiny_ocr --model DIR --pictures 300

Sets: held-out words never seen in training, in training fonts and in fonts never trained on, as
single lines and as blocks, clean and degraded; screenshots of HTML pages where Chromium is found.
"""

from __future__ import annotations

import argparse
import html
import json
import random
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rapidfuzz.distance import Levenshtein

from omlx_jupyter import Engine, SamplingParams
from tools.tiny_ocr import render
from tools.tiny_ocr.text import held_out_text

WORD = {"width": (64, 160), "height": (32, 32), "lines": (1, 1), "most": 12}
LINE = {"width": (256, 560), "height": (32, 48), "lines": (1, 1), "most": 40}
BLOCK = {"width": (320, 560), "height": (96, 224), "lines": (2, 6), "most": 40}


@dataclass
class Sample:
    image: Image.Image
    text: str


def rendered(seed: int, count: int, shape: dict, fonts: list[str], clean: bool) -> list[Sample]:
    r = random.Random(seed)
    made = []
    for _ in range(count):
        width, height = (r.randrange(low // 16, high // 16 + 1) * 16 for low, high in (shape["width"], shape["height"]))
        style = render.Style(smallest=10, largest=24, clean=clean)
        lines = r.randint(*shape["lines"])
        picture = render.make(r, width, height, lines, r.choice(fonts), held_out_text, style, shape["most"])
        made.append(Sample(picture.image, picture.text))
    return made


def screenshots(seed: int, count: int, chromium: str) -> list[Sample]:
    """Pages of one to six lines, as a browser sets them, in its sans, serif and monospace fonts."""
    r = random.Random(seed)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            size, lines = r.randint(10, 24), r.randint(1, 6)
            family = r.choice(("sans-serif", "serif", "monospace"))
            most = min(40, int(540 / (size * 0.62)))
            text = [held_out_text(r, most)[:most].strip() for _ in range(lines)]
            body = "<br>".join(html.escape(line) for line in text)
            page = Path(folder) / f"{index}.html"
            style = f"margin:8px;white-space:nowrap;font:{size}px/1.3 {family}"
            page.write_text(f"<meta charset=utf-8><body style='{style}'>{body}</body>", encoding="utf-8")
            target = page.with_suffix(".png")
            height = -(-int(size * 1.3 * lines + 20) // 16) * 16
            command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
            command += [f"--user-data-dir={folder}/profile", f"--window-size=560,{max(500, height)}"]
            subprocess.run([*command, f"--screenshot={target}", page.as_uri()], check=True, capture_output=True)
            image = Image.open(target).convert("RGB").crop((0, 0, 560, height))
            made.append(Sample(image, "\n".join(text)))
    return made


def measure(engine: Engine, samples: list[Sample]) -> dict[str, float]:
    sampling = SamplingParams(temperature=0, max_tokens=400)
    handles = [engine.submit("Text Recognition:", [s.image], sampling) for s in samples]
    errors = characters = exact = 0
    for sample, handle in zip(samples, handles, strict=True):
        read = handle.result().text
        errors += Levenshtein.distance(read, sample.text)
        characters += len(sample.text)
        exact += read == sample.text
    return {"cer": round(errors / characters, 4), "exact": round(exact / len(samples), 4), "pictures": len(samples)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--pictures", type=int, default=300, help="pictures a set")
    parser.add_argument("--screenshots", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    train, _, held = render.fonts()
    upright = [f for f in train if not any(s in f for s in ("Ital", "Obliq"))]
    table: dict[str, dict[str, float]] = {}
    with Engine.load(args.model) as engine:
        for shape_name, shape in (("word", WORD), ("line", LINE), ("block", BLOCK)):
            for font_name, fonts in (("training fonts", upright), ("unseen fonts", held)):
                for clean in (True, False):
                    if not fonts:
                        continue
                    name = f"{shape_name}, {font_name}, {'clean' if clean else 'degraded'}"
                    table[name] = measure(engine, rendered(2_000_000_000, args.pictures, shape, fonts, clean))
                    print(f"{name:40} CER {table[name]['cer']:.2%}  exact {table[name]['exact']:.0%}", flush=True)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium:
            table["screenshots"] = measure(engine, screenshots(7, args.screenshots, chromium))
            print(f"{'screenshots of HTML pages':40} CER {table['screenshots']['cer']:.2%}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
