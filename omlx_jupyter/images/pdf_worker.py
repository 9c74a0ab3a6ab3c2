"""A process of its own that draws pages of PDF files: what a page costs can be ended from outside.

PDFium can't be stopped inside a content stream, a nested form or an embedded picture, and a broken file
may crash it. So this script, which imports nothing of the package, answers one JSON line on stdin with one
JSON line on stdout, followed by RGB bytes for a page, until stdin ends. `pdf.py` starts and ends it.
"""

from __future__ import annotations

import json
import math
import sys
from ctypes import c_uint
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pypdfium2

POINTS_PER_INCH = 72
MOST_TEXT = 20_000  # characters of a page's text layer


def main(requests: BinaryIO, replies: BinaryIO) -> None:
    start = json.loads(requests.readline())
    sys.path[:] = start["sys_path"]
    _bound_memory(start["memory_bytes"])
    for line in requests:
        try:
            reply, pixels = _answer(json.loads(line))
        except MemoryError:
            reply, pixels = {"error": "it needs more memory than allowed"}, b""
        except Exception as error:
            reply, pixels = {"error": f"{error or type(error).__name__}"}, b""
        replies.write(json.dumps(reply).encode() + b"\n" + pixels)
        replies.flush()


def _bound_memory(most: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, ValueError, OSError):  # Windows, or a system that doesn't keep this limit
        return


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    import pypdfium2

    with open(request["path"], "rb") as file, pypdfium2.PdfDocument(file) as document:
        if request["page"] is None:
            return {"pages": len(document)}, b""
        page = document[request["page"] - 1]
        refused = _picture_over(page, request["picture_pixels"])
        if refused is not None:
            return {"picture": refused}, b""
        scale = _scale(page, request["dpi"] / POINTS_PER_INCH, request["page_pixels"])
        bitmap = page.render(scale=scale, rev_byteorder=True)
        pixels = _rows(bitmap)
        found = {"width": bitmap.width, "height": bitmap.height, "dpi": scale * POINTS_PER_INCH, "text": _text(page)}
        return found, pixels


def _text(page: pypdfium2.PdfPage) -> str:
    """What the page's own text says, in the order of the file; nothing where it can't be had."""
    try:
        layer = page.get_textpage()
        text = layer.get_text_range(0, min(layer.count_chars(), MOST_TEXT))
    except Exception:
        return ""
    return "".join(c for c in text.replace("\r\n", "\n") if c == "\n" or c.isprintable())


def _rows(bitmap: pypdfium2.PdfBitmap) -> bytes:
    """The bitmap's RGB bytes without the padding of its rows."""
    wide = bitmap.width * 3
    view = memoryview(bitmap.buffer).cast("B")
    if bitmap.stride == wide:
        return bytes(view)
    return b"".join(view[y * bitmap.stride : y * bitmap.stride + wide] for y in range(bitmap.height))


def _scale(page: pypdfium2.PdfPage, scale: float, most: int) -> float:
    """Pixels a point: `scale`, or less where the page would have more than `most` pixels."""
    width, height = page.get_size()
    if not (0 < width < 1e9 and 0 < height < 1e9):
        raise ValueError(f"the page measures {width:g} x {height:g} points")
    scale = min(scale, math.sqrt(most / (width * height)))
    while math.ceil(width * scale) * math.ceil(height * scale) > most:
        scale *= 0.995
    return scale


def _picture_over(page: pypdfium2.PdfPage, most: int) -> list[int] | None:
    """Width and height of an embedded picture with more pixels than allowed, read before it is decoded."""
    import pypdfium2.raw as pdfium

    for found in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE]):
        width, height = c_uint(), c_uint()
        if pdfium.FPDFImageObj_GetImagePixelSize(found.raw, width, height) and width.value * height.value > most:
            return [width.value, height.value]
    return None


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
