"""`make dist`: in an environment that has the wheel and nothing else, loads the extension and reads a picture.

Run from another folder with `python -I`, so that the installed package is what is imported.
"""

from __future__ import annotations

import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from PIL import Image, ImageDraw, ImageFont

import omlx_jupyter


def main() -> int:
    place = Path(omlx_jupyter.__file__).resolve()
    if not place.is_relative_to(Path(sys.prefix).resolve()):
        print(f"{place} is not what was installed", file=sys.stderr)
        return 1
    picture = Image.new("RGB", (160, 48), "white")
    ImageDraw.Draw(picture).text((8, 8), "Hello 42", font=ImageFont.load_default(24), fill="black")
    shell = InteractiveShell.instance()
    shell.user_ns["picture"] = picture
    for cell in ("%load_ext omlx_jupyter", "page = %ocr picture", "%omlx doctor"):
        shell.run_cell(cell).raise_error()
    text = shell.user_ns["page"].text
    print(f"The wheel in {sys.prefix} reads: {text}")
    extension = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "omlx_jupyter" / "package.json"
    return 0 if text == "Hello 42" and extension.is_file() else 1


if __name__ == "__main__":
    sys.exit(main())
