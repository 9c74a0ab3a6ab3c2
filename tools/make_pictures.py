"""Draws the pictures of the example notebooks."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "example_notebooks" / "pictures"
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
PICTURES = {
    "receipt.png": (("Corner Cafe", "Coffee 3.20", "Apple cake 4.50", "Total 7.70"), 18),
    "sign.png": (("Platform 4",), 20),
    "ticket.png": (("Train at 10:45",), 20),
}


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


if __name__ == "__main__":
    main()
