"""A PDF's text layer is guessed from, and only the model's own reading is believed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine
from omlx_jupyter.chat.pages import read_picture, recipe_for
from omlx_jupyter.images.source import open_images
from omlx_jupyter.reading.recipe import Recipe

from ..conftest import no_cache

LINES = ["Invoice 4711 of the Harbour Works", "Paint and brushes, two boxes 128.40", "Total to be paid 152.80"]


def pdf(lines: list[str], size: int = 16) -> bytes:
    """A page of one font, written by hand: every PDF reader has Helvetica."""
    shown = "\n".join(f"BT /F1 {size} Tf 40 {760 - 30 * i} Td ({line}) Tj ET" for i, line in enumerate(lines))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 420 800] /Contents 4 0 R"
        " /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream",
    ]
    made, places = io.BytesIO(b""), []
    made.write(b"%PDF-1.4\n")
    for number, text in enumerate(objects, 1):
        places.append(made.tell())
        made.write(f"{number} 0 obj\n{text}\nendobj\n".encode())
    start = made.tell()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    made.write(
        f"xref\n0 5\n0000000000 65535 f \n{table}trailer << /Size 5 /Root 1 0 R >>\nstartxref\n{start}\n%%EOF".encode()
    )
    return made.getvalue()


@pytest.fixture
def page(tmp_path: Path) -> Any:
    (tmp_path / "invoice.pdf").write_bytes(pdf(LINES))
    return open_images(str(tmp_path / "invoice.pdf"))[0]


def test_a_page_brings_its_text(page: Any) -> None:
    assert page.text.split("\n") == LINES
    assert page.shrunk_to(50_000).text == page.text


def test_it_is_drafted_and_the_reading_is_the_model_s(page: Any) -> None:
    with Engine.load(cache=no_cache()) as tiny:  # no earlier answer
        assert isinstance(recipe_for(tiny), Recipe)
        found = read_picture(tiny, [page]).result(60)
    assert found.text.split("\n") == LINES
    assert found.usage.accepted_from["hint"] > 40
    assert found.usage.completion_tokens >= 3 * found.usage.steps


def test_a_text_that_lies_changes_nothing(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "other.pdf").write_bytes(pdf(["The sum to be paid is 152.80"]))
    right = open_images(str(tmp_path / "other.pdf"))[0]
    lying = replace(right, text="The sum to be paid is 999.99")
    assert read_picture(tiny, [lying]).result(60).text == read_picture(tiny, [right]).result(60).text
