"""Draws the pictures of the example notebooks; the screenshot is Chromium's, of a page written here."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "example_notebooks" / "pictures"
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
PICTURES = {
    "receipt.png": (("Corner Cafe", "Coffee 3.20", "Apple cake 4.50", "Total 7.70"), 18),
    "sign.png": (("Platform 4",), 20),
    "ticket.png": (("Train at 10:45",), 20),
}
SCREENSHOT = """\
<!doctype html><meta charset=utf-8>
<style>
  body { margin: 0; width: 640px; font: 16px/1.5 "DejaVu Sans"; color: #24292f; background: #ffffff }
  header { padding: 12px 24px; background: #1f4e79; color: #ffffff; font-size: 19px }
  main { padding: 4px 24px 8px }
  h2 { font-size: 22px; margin: 14px 0 6px }
  p, ul { margin: 6px 0 }
  table { border-collapse: collapse; margin: 12px 0 }
  td { border: 1px solid #b0b8c0; padding: 4px 40px 4px 12px }
  pre { margin: 12px 0; padding: 12px 16px; background: #22272e; color: #d0d7de; font: 15px/1.5 "DejaVu Sans Mono" }
</style>
<header>Harbour Ferries</header>
<main>
<h2>Summer timetable</h2>
<p>We run every day from 1 June to 30 September.<br>Tickets are sold on the quay and on board.</p>
<ul><li>Dogs travel free of charge</li><li>Bicycles cost £2.50 each way</li></ul>
<table>
  <tr><td>Route</td><td>Leaves</td><td>Adult</td></tr>
  <tr><td>North Quay</td><td>08:45</td><td>£12.40</td></tr>
  <tr><td>Seal Island</td><td>10:15</td><td>£18.90</td></tr>
</table>
<pre>def fare(adults, bicycles):
    total = 12.40 * adults
    return total + 2.50 * bicycles</pre>
</main>
"""
SCREENSHOT_TEXT = """\
Harbour Ferries

Summer timetable
We run every day from 1 June to 30 September.
Tickets are sold on the quay and on board.
• Dogs travel free of charge
• Bicycles cost £2.50 each way

Route\tLeaves\tAdult
North Quay\t08:45\t£12.40
Seal Island\t10:15\t£18.90

def fare(adults, bicycles):
    total = 12.40 * adults
    return total + 2.50 * bicycles"""


def screenshot(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(SCREENSHOT, encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder}/profile", "--window-size=640,620", f"--screenshot={target}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True)
    Image.open(target).convert("RGB").crop((0, 0, 640, 446)).quantize(64).save(target, optimize=True)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (lines, size) in PICTURES.items():
        font = ImageFont.truetype(FONT, size)
        pitch = int(size * 1.5)
        width = max(int(font.getlength(line)) for line in lines) + 24
        image = Image.new("RGB", (width, pitch * len(lines) + 12), (250, 249, 245))
        canvas = ImageDraw.Draw(image)
        for index, line in enumerate(lines):
            canvas.text((10, 7 + index * pitch), line, font=font, fill=(30, 30, 40))
        image.save(FOLDER / name)
    screenshot(FOLDER / "screenshot.png")


if __name__ == "__main__":
    main()
