"""Pages by regions: order, kinds and cells by white space, a detector's regions, and what is asked of each."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.chat.documents import Document, read_document
from omlx_jupyter.chat.pages import read_picture
from omlx_jupyter.errors import ModelError, RequestError
from omlx_jupyter.images.source import open_images
from omlx_jupyter.models.layout_model import LayoutModel
from omlx_jupyter.reading.document import markdown_of, table_of, unfenced

from ..checkpoints import layouts
from ..conftest import draw_text, no_cache
from .test_kinds import FONTS, KINDS, SANS, Sheet, columns, plain, table
from .test_pages import errors


def read(engine: Any, image: Any, detector: LayoutModel | None = None, **options: Any) -> Document:
    return read_document(engine, open_images(image)[0], detector, **options).result(120)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_twelve_pages_of_six_kinds(tiny: Any, kind: Callable[[random.Random], Sheet]) -> None:
    """Their text in order, marks of Markdown left out."""
    for seed in (11, 12):
        sheet = kind(random.Random(seed))
        found = read(tiny, sheet.image)
        said = found.text
        for mark in ("| --- " * 2, "```", "|", "---"):
            said = said.replace(mark, " ")
        wanted = " ".join(sheet.text.split())
        assert errors(" ".join(said.split()), wanted) <= 0.01 * len(wanted), found.text
        assert {"table": "table", "receipt": "table", "code": "code"}.get(kind.__name__, "text") in {
            region.kind for region in found.regions
        }


@pytest.mark.parametrize("seed", range(4))
def test_a_tables_cells(tiny: Any, seed: int) -> None:
    sheet = table(random.Random(seed))
    found = read(tiny, sheet.image)
    (region,) = found.regions
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in region.text.split("\n")]
    del rows[1]
    wanted = [row.split(" ") for row in sheet.text.split("\n")]
    wanted = [[" ".join(row[:-3]), *row[-3:]] for row in wanted]  # goods have names of two words
    assert len(rows) == len(wanted) == 8
    wrong = sum(a != b for made, right in zip(rows, wanted, strict=True) for a, b in zip(made, right, strict=True))
    assert wrong <= 1, found.text  # of 32; what is read is another test's matter
    assert all(len(row) == 4 for row in rows)


def test_a_missing_cell_keeps_its_column(tiny: Any) -> None:
    sheet = Sheet(560, 220, SANS, 16)
    rows = (("Item", "Count", "Price"), ("Rice", "", "2.50"), ("", "7", "9.10"), ("Salt", "3", ""))
    for row, cells in enumerate(rows):
        for left, cell in zip((30, 220, 380), cells, strict=True):
            sheet.put(left, 24 + 40 * row, cell)
    found = read(tiny, sheet.image)
    assert found.text.split("\n") == [
        "| Item | Count | Price |", "| --- | --- | --- |", "| Rice |  | 2.50 |", "|  | 7 | 9.10 |", "| Salt | 3 |  |",
    ]  # fmt: skip


def photograph(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    wave = 120 + 90 * np.sin(x / 17.0) * np.cos(y / 13.0)
    return Image.fromarray(np.stack([wave, wave * 0.8, 255 - wave], 2).astype(np.uint8))


@pytest.fixture(scope="module")
def report() -> Image.Image:
    sheet = Sheet(760, 980, SANS, 16)
    small, sheet.font = sheet.font, ImageFont.truetype(FONTS / SANS, 30)
    sheet.put(60, 110, "Harbour report")
    sheet.font = small
    sheet.put(60, 30, "Quay office, May")
    for at, line in enumerate(("Boats came on every day of the month, and", "the crane was mended twice by our own")):
        sheet.put(60, 190 + 26 * at, line)
    sheet.image.paste(photograph(420, 230), (120, 290))
    for at, line in enumerate(("Boats   412", "Crates   908")):
        for left, cell in zip((60, 330), line.split("   "), strict=True):
            sheet.put(left, 580 + 34 * at, cell)
    for at, line in enumerate(("Next month the old pier is closed, so that", "all boats go to the new one.")):
        sheet.put(60, 700 + 26 * at, line)
    sheet.put(370, 940, "17")
    return sheet.image


def test_a_report(tiny: Any, report: Image.Image) -> None:
    found = read(tiny, report)
    kinds = [region.kind for region in found.regions]
    assert kinds == ["header", "title", "text", "figure", "table", "text", "footer"]
    assert found.regions[1].text == "# Harbour report"
    figure = found.regions[3]
    (left, top), _, (right, bottom), _ = figure.box
    assert (left, top, right, bottom) == pytest.approx((120, 290, 540, 520), abs=6)
    assert figure.picture is not None
    assert abs(figure.picture.width - 420) < 12
    assert "[figure 1]\n\n| Boats | 412 |\n| --- | --- |\n| Crates | 908 |" in found.text
    assert found.text.startswith("Quay office, May\n\n# Harbour report\n\nBoats came")
    assert found.text.endswith("17")
    assert found.usage.images == 1


def test_the_same_regions_when_it_is_turned(tiny: Any, report: Image.Image) -> None:
    turned = report.rotate(-2, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    kinds = [region.kind for region in read(tiny, turned).regions]
    assert kinds[1:6] == ["title", "text", "figure", "table", "text"]


def test_a_photograph_and_blank_paper(tiny: Any) -> None:
    assert read(tiny, Image.new("RGB", (300, 200), "white")).regions == ()
    found = read(tiny, photograph(400, 300))
    assert found.text == ""
    assert "improbable" in found.notes[0]


class Listening:
    """An engine that hears what it is asked."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.asked = engine, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def submit(self, messages: Any = None, **options: Any) -> Any:
        self.asked.append(messages[0].parts)
        return self.engine.submit(messages, **options)


def test_each_region_has_words_for_its_kind(checkpoint: Any, report: Image.Image) -> None:
    with Engine.load(checkpoint("glm_ocr"), cache=no_cache()) as engine:
        heard = Listening(engine)
        found = read(heard, report, sampling=SamplingParams(max_tokens=4))
        prompts = [parts[1] for parts in heard.asked]
        assert prompts == ["Text Recognition:"] * 3 + ["Table Recognition:"] + ["Text Recognition:"] * 2
        assert found.usage.peak_rows > 1
        assert found.finish_reason == "length"
        sizes = [(parts[0].source.width, parts[0].source.height) for parts in heard.asked]
        assert all(height < 100 for _, height in sizes), sizes
        assert [region.kind for region in found.regions][3] == "figure"
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        heard = Listening(engine)
        handle = read_document(heard, open_images(report)[0], None, SamplingParams(max_tokens=4))
        streamed = "".join(piece.text for piece in handle)
        assert streamed == handle.result().text
        assert "HTML" in heard.asked[3][1]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = LayoutModel(layouts.write(tmp_path_factory.mktemp("layout"), seed=1), side=128)
    yield made
    made.close()


def test_a_detectors_regions_are_mlx_vlms_own(detector: LayoutModel, tiny: Any, report: Image.Image) -> None:
    from mlx_vlm.utils import load_model

    found = detector.detect(open_images(report)[0])
    assert found
    for one in found:
        left, top, right, bottom = one.box
        assert 0 <= left < right <= 760
        assert 0 <= top < bottom <= 980
    own = detector._thread.call(lambda: load_model(Path(detector.name)).detect(report, img_size=128))
    best = max(own, key=lambda record: record["score"])
    top, left, bottom, right = best["bbox"]
    wanted = (max(0, left * 0.76), max(0, top * 0.98), min(760, right * 0.76), min(980, bottom * 0.98))
    surest = max(found, key=lambda one: one.score)
    assert surest.box == pytest.approx(wanted, abs=0.2)
    document = read(tiny, report, detector)
    assert len(document.regions) == len(found)
    assert [region.score for region in document.regions] == [one.score for one in found]


class Says:
    """A detector's place, for what it finds on this page."""

    name = "says"

    def __init__(self, *found: tuple[str, tuple[float, float, float, float]]) -> None:
        self._found = found

    def detect(self, picture: Any) -> Any:
        from omlx_jupyter.models.layout_model import Detected

        return [Detected(kind, box, 0.9) for kind, box in self._found]


def test_regions_are_read_by_lines_where_the_model_does(tiny: Any, report: Image.Image) -> None:
    says = Says(("title", (50, 100, 400, 160)), ("figure", (120, 290, 540, 520)), ("text", (50, 690, 600, 760)))
    found = read(tiny, report, says)  # type: ignore[arg-type]
    assert found.text.startswith("# Harbour report\n\n[figure 1]\n\nNext month the old pier")
    tops = [line.box[0][1] for line in found.lines]
    assert tops == pytest.approx([115, 703, 729], abs=8)  # of the page, not of the region


def test_a_detector_that_finds_nothing(tiny: Any) -> None:
    found = read(tiny, draw_text("Hello 42"), Says())  # type: ignore[arg-type]
    assert found.text == "Hello 42"
    assert "no regions" in found.notes[-1]


def test_what_is_no_layout_model(tmp_path: Path, checkpoint: Any) -> None:
    with pytest.raises(ModelError, match="a layout model is of the type"):
        LayoutModel(checkpoint("qwen2_vl"))
    with pytest.raises(ModelError):
        LayoutModel(tmp_path / "nowhere")
    folder = layouts.write(tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="is damaged or cut short"):
        LayoutModel(folder)


def test_a_closed_detector_says_so(tmp_path: Path) -> None:
    made = LayoutModel(layouts.write(tmp_path / "layout"), side=64)
    made.close()
    made.close()
    with pytest.raises(ModelError, match="was closed"):
        made.detect(open_images(draw_text("x"))[0])


def test_a_layout_is_of_one_picture_without_a_prompt(tiny: Any) -> None:
    pictures = open_images(draw_text("a"))
    with pytest.raises(RequestError, match="one picture"):
        read_picture(tiny, [*pictures, *pictures], layout=True)
    with pytest.raises(RequestError, match="one picture"):
        read_picture(tiny, pictures, "What?", layout=True)


def test_cancelled_regions(tiny: Any) -> None:
    handle = read_document(tiny, open_images(columns(random.Random(1)).image)[0])
    handle.cancel()
    assert handle.result(60).finish_reason in ("cancelled", "stop")


def test_a_frame_round_text_is_no_figure(tiny: Any) -> None:
    sheet = plain()
    width, height = sheet.image.size
    sheet.canvas.rectangle((8, 8, width - 9, height - 9), outline="black", width=2)
    assert {region.kind for region in read(tiny, sheet.image).regions} <= {"text", "header", "footer", "title"}


def test_markdown() -> None:
    assert markdown_of("code", "a `` b") == "```\na `` b\n```"
    assert markdown_of("code", "a ``` b") == "````\na ``` b\n````"
    assert markdown_of("formula", "x^2") == "$$\nx^2\n$$"
    assert markdown_of("formula", "$x$") == "$x$"
    assert markdown_of("title", "One\ntwo") == "# One two"
    assert markdown_of("heading", "## There") == "## There"
    assert markdown_of("figure", "", 3) == "[figure 3]"
    assert table_of([["a|b", "c"], ["1", "2"]]) == "| a\\|b | c |\n| --- | --- |\n| 1 | 2 |"
    assert unfenced("```html\n<table></table>\n```") == "<table></table>"
    assert unfenced("a ```b``` c") == "a ```b``` c"
