"""PDF pages: drawn at the size that is needed, in a process that can be ended."""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.pdf import PdfPage, pdf_pages
from omlx_jupyter.images.source import expand, open_images


def made_of(objects: list[bytes]) -> bytes:
    """A PDF of objects 1, 2, …, the first of which is the catalogue."""
    body, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        len(body),
    )


def stream(content: bytes, keys: bytes = b"") -> bytes:
    packed = zlib.compress(content, 1)
    return b"<</Length %d/Filter/FlateDecode%s>>stream\n%s\nendstream" % (len(packed), keys, packed)


def page_of(box: str, content: bytes = b"", resources: bytes = b"", more: tuple[bytes, ...] = ()) -> bytes:
    return made_of(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 4 0 R/Resources<<%s>>>>" % (box.encode(), resources),
            stream(content),
            *more,
        ]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.pdf"


def test_a_page_is_drawn_as_pdfium_draws_it(file: Path) -> None:
    file.write_bytes(page_of("0 0 201 143", b"1 0 0 rg 20 30 50 60 re f 0 0 1 RG 5 w 0 0 m 200 140 l S"))
    drawn = open_images(str(file))[0]
    with pypdfium2.PdfDocument(file) as document:
        expected = document[0].render(scale=150 / 72).to_pil().convert("RGB")
    assert np.array_equal(drawn.pixels, np.asarray(expected))
    assert drawn.note == ""
    assert drawn.source == f"{file}[1]"


def test_a_huge_page_is_drawn_at_the_size_that_is_needed(file: Path) -> None:
    file.write_bytes(page_of("0 0 14400 14400", b"1 0 0 rg 0 0 14400 7200 re f"))
    page = open_images(str(file), Limits(pixel_budget=250_000))[0]
    assert page.pixels.shape == (500, 500, 3)
    assert "drawn at 2 instead of 150 dots per inch" in page.note or "drawn at 3 instead" in page.note
    assert tuple(page.pixels[400, 250]) == (255, 0, 0)
    assert tuple(page.pixels[100, 250]) == (255, 255, 255)
    capped = PdfPage(file, 1).decoded()
    assert 30_000_000 < capped.width * capped.height <= 36_000_000


@pytest.mark.parametrize("box", ["0 0 1437.3 911.7", "0 0 611 3.3", "0 0 2 1999"])
def test_no_page_has_more_pixels_than_the_budget(file: Path, box: str) -> None:
    file.write_bytes(page_of(box))
    page = open_images(str(file), Limits(pixel_budget=777))[0]
    assert 300 < page.width * page.height <= 777


def test_an_embedded_picture_over_the_limit_is_refused_before_it_is_decoded(file: Path) -> None:
    """A one-bit picture of 40,000 pixels a side took 9 s."""
    side = 40_000
    picture = stream(
        bytes(side * side // 8),
        b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 1" % (side, side),
    )
    file.write_bytes(page_of("0 0 200 200", b"200 0 0 200 0 0 cm /I Do", b"/XObject<</I 5 0 R>>", (picture,)))
    started = time.monotonic()
    with pytest.raises(ImageError, match="holds a picture of 40000 x 40000, over the limit of 120 megapixels"):
        open_images(str(file))
    assert time.monotonic() - started < 4


def test_a_page_that_takes_too_long_is_ended(file: Path) -> None:
    """Forms within forms: ten to the sixth drawings from a few lines."""
    forms = [
        stream(b"/F Do " * 12, b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F %d 0 R>>>>" % (6 + n))
        for n in range(7)
    ]
    last = stream(b"0 0 9 9 re f", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]")
    file.write_bytes(page_of("0 0 99 99", b"/F Do", b"/XObject<</F 5 0 R>>", (*forms, last)))
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"took over 0\.5 s to read"):
        open_images(str(file), Limits(decode_timeout_s=0.5))
    assert time.monotonic() - started < 2


def test_memory_of_the_reader_is_bounded(file: Path) -> None:
    """200 kB that become 12 million lines end the reader, not the notebook (or its time, where no limit is kept)."""
    file.write_bytes(page_of("0 0 9 9", b"0 0 m 9 9 l S\n" * 12_000_000))
    words = r"ended the PDF reader|more memory than" if sys.platform == "linux" else "took over|ended"
    with pytest.raises(ImageError, match=words):
        open_images(str(file), Limits(max_pixels=1_000_000, decode_timeout_s=60))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "can't be read as a PDF"),
        (b"%PDF-1.7 nothing", "can't be read as a PDF"),
        (b"not one at all" * 99, "can't be read as a PDF"),
        (
            page_of("0 0 9 9").replace(b"/Type/Page/", b"/Type/Pag_/"),
            r"a\.pdf\[1\] can't be read .*Failed to load page",
        ),
        (page_of("0 0 9 9").replace(b"/Kids[3 0 R]", b"/Kids[9 0 R]"), "Failed to load page"),
    ],
)
def test_broken_files(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        open_images(str(file))
    assert "\n" not in str(caught.value)


def test_pages_are_limited_in_number_and_together(file: Path) -> None:
    pages = [Image.new("L", (50, 50), shade) for shade in range(0, 100, 10)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    assert len(expand(str(file))) == 10
    assert pdf_pages(f"{file}[2-3,7]") == [PdfPage(file, 2), PdfPage(file, 3), PdfPage(file, 7)]
    with pytest.raises(ImageError, match="names 10 pages, over the limit of 9"):
        open_images(str(file), Limits(max_pages=9))
    with pytest.raises(ImageError, match="more than fit in memory at once"):
        open_images(str(file), Limits(max_pixels=11_000))
    with pytest.raises(ImageError, match="over the limit of 99 bytes"):
        open_images(str(file), Limits(max_pdf_bytes=99))


def test_a_count_that_lies_costs_nothing(file: Path) -> None:
    file.write_bytes(page_of("0 0 9 9").replace(b"/Count 1>>", b"/Count 999999999>>"))
    assert len(open_images(str(file))) == 1
