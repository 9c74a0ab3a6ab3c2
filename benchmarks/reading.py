"""A page of 30 lines: the embedded model by lines beside tesseract, in turns.

python -m benchmarks.reading
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from omlx_jupyter import Engine
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.chat.pages import read_page, recipe_for
from omlx_jupyter.images.source import open_images

from .pairs import PAIRS, alternate

LINES = 30
TEXT = (
    "The harbour office opens at nine and closes at five on working days; visitors may park behind the old station, "
    "where a bus leaves every ten minutes. Tickets cost 12.50, children travel free."
)


def page() -> Image.Image:
    """Black on white, about 60 characters a line, in the font that comes with Pillow."""
    font = ImageFont.load_default(16)
    image = Image.new("RGB", (620, LINES * 26 + 40), "white")
    canvas = ImageDraw.Draw(image)
    words, at = TEXT.split(), 0
    for row in range(LINES):
        line = ""
        while len(line) < 56:
            line += words[at % len(words)] + " "
            at += 1
        canvas.text((30, 20 + 26 * row), line.strip(), font=font, fill="black")
    return image


def main() -> None:
    picture = page()
    # Without the prefix cache: a page that was read once costs next to nothing the second time.
    with Engine.load(cache=CacheSettings(0)) as engine, tempfile.TemporaryDirectory() as folder:
        recipe = recipe_for(engine)
        assert recipe is not None
        path = Path(folder) / "page.png"
        picture.save(path)

        def embedded() -> float:
            began = time.perf_counter()
            result = read_page(engine, open_images(path)[0], recipe).result()
            assert len(result.lines) == LINES
            return time.perf_counter() - began

        def tesseract() -> float:
            began = time.perf_counter()
            subprocess.run(["tesseract", str(path), "-"], capture_output=True, check=True)
            return time.perf_counter() - began

        if not shutil.which("tesseract"):
            embedded()
            print(
                f"a page of {LINES} lines: {embedded():.2f} s; tesseract isn't installed, so that nothing is compared"
            )
            return
        pair = alternate(embedded, tesseract)
    print(f"a page of {LINES} lines, medians of {PAIRS} alternated pairs: {pair.first:.2f} s, ", end="")
    print(f"tesseract {pair.second:.2f} s: ratio {pair.ratio:.2f} ({pair.low:.2f} to {pair.high:.2f})")


if __name__ == "__main__":
    main()
