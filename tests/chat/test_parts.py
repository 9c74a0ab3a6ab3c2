"""Parts of messages: files, data frames, arrays, and what can't be taken."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pypdfium2
import pytest
from PIL import Image

from omlx_jupyter.chat.messages import conversation, from_openai
from omlx_jupyter.errors import ImageError, RequestError
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import open_images
from omlx_jupyter.types import ImagePart

from ..conftest import draw_text, noise_image


def pdf(*pages: Image.Image) -> bytes:
    made = io.BytesIO()
    pages[0].save(made, "PDF", save_all=True, append_images=pages[1:], resolution=150)
    return made.getvalue()


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def parts(*content: Any) -> list[Any]:
    (message,) = from_openai([{"role": "user", "content": list(content)}])
    return list(message.parts)


def test_a_pdf_in_a_message_is_read_as_its_pages(tiny: Any) -> None:
    pages = [draw_text("first page"), draw_text("second page")]
    part = {"type": "file", "file": {"filename": "two.pdf", "file_data": data_url(pdf(*pages), "application/pdf")}}
    found = tiny.chat.completions.create(messages=[{"role": "user", "content": [part]}], max_tokens=40)
    alone = tiny.generate(images=pages, sampling=None).usage.images
    assert alone == 2
    assert found.usage.prompt_tokens == tiny.generate(images=open_images(pdf(*pages))).usage.prompt_tokens
    assert "first page" in found.choices[0].message.content


@pytest.mark.parametrize("how", ["bytes", "file object", "data URL", "input_file"])
def test_pdfs_that_are_no_files(how: str, tmp_path: Path) -> None:
    pages = [noise_image(120, 80, 1), noise_image(120, 80, 2)]
    data = pdf(*pages)
    (tmp_path / "two.pdf").write_bytes(data)
    wanted = [image.digest for image in open_images(str(tmp_path / "two.pdf"))]
    source: Any = {"bytes": data, "file object": io.BytesIO(data), "data URL": data_url(data, "application/pdf")}.get(
        how
    )
    if how == "input_file":
        (part,) = parts({"type": "input_file", "filename": "x.pdf", "file_data": base64.b64encode(data).decode()})
        source = part.source
    found = open_images(source)
    assert [image.digest for image in found] == wanted
    assert len({image.source for image in found}) == 2
    assert "omlx-" not in found[0].source  # not the name of a file that is gone
    with pytest.raises(ImageError, match=r"has 2 pages, over the limit of 1; save it, choose some"):
        open_images(data, Limits(max_pages=1))
    with pytest.raises(ImageError, match=r"^\d+ bytes can't be read as a PDF"):
        open_images(data[:200])


def test_a_locked_pdf_says_so(tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    document.new_page(100, 100)
    document.save(tmp_path / "x.pdf")
    assert len(open_images((tmp_path / "x.pdf").read_bytes())) == 1
    picture = io.BytesIO()
    noise_image(40, 40, 1).save(picture, "JPEG", comment=b"%PDF-1.7")
    assert open_images(picture.getvalue())[0].width == 40  # a picture that only speaks of a PDF


def test_text_files_are_text_under_their_names() -> None:
    made = parts(
        {"type": "text", "text": "Sum it up."},
        {"type": "file", "file": {"filename": "a.csv", "file_data": data_url(b"a,b\n1,2\n", "text/csv")}},
        {"type": "file", "file": {"filename": "b.md", "file_data": base64.b64encode("Größe".encode()).decode()}},
    )
    assert made == ["Sum it up.", "a.csv:\na,b\n1,2\n\n", "b.md:\nGröße\n"]


def test_frames_and_arrays_are_parts_too() -> None:
    frame, array = pd.DataFrame({"shop": ["A|B"], "total": [3]}), np.zeros((8, 8, 3), np.uint8)
    made = parts(frame, frame["total"], array, "Compare.")
    assert made[0] == "\n|  | shop | total |\n| --- | --- | --- |\n| 0 | A\\|B | 3 |\n"
    assert "| 0 | 3 |" in made[1]
    assert isinstance(made[2], ImagePart)
    (message,) = conversation([{"role": "user", "content": [frame]}])  # type: ignore[misc]
    assert message.parts == made[:1]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "file", "file": {"file_id": "f-1"}}, "names a file_id, which nobody here holds"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "has no data; give it as file_data"),
        ({"type": "file", "file": {"filename": "a.txt", "file_data": "§"}}, "a.txt, whose data is no base64"),
        ({"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64"}}, "no base64"),
        ({"type": "file", "file": {"filename": "a.txt", "file_data": data_url(b"\xff\xfe", "")}}, "is no UTF-8"),
        ({"type": "input_audio"}, "part of type 'input_audio'; use text, image_url, file"),
        (3.5, "a part that is a float"),
    ],
)
def test_what_cannot_be_taken_is_told(part: Any, said: str) -> None:
    with pytest.raises(RequestError, match=f"message 0 has.*{said}"):
        parts(part)


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    picture = noise_image(64, 48, 3)
    pillow_heif.from_pillow(picture).save(tmp_path / "photo.heic", quality=-1)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    for held in ("HEIF", "AVIF_HEIF"):
        monkeypatch.delitem(Image.OPEN, held, raising=False)
    with pytest.raises(ImageError, match=r"it is HEIC: install omlx_jupyter\[heic\]"):
        open_images(str(tmp_path / "photo.heic"))
    monkeypatch.undo()
    (found,) = open_images(str(tmp_path / "photo.heic"))
    assert found.pixels.shape == (48, 64, 3)
    assert np.abs(found.pixels.astype(int) - np.asarray(picture).astype(int)).mean() < 8
