"""A page through the embedded model: cut, read in one batch, joined."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omlx_jupyter.chat.pages import PageHandle, read_page, recipe_for
from omlx_jupyter.errors import EngineClosedError
from omlx_jupyter.images.source import open_images
from omlx_jupyter.reading.recipe import Recipe
from tools.make_pictures import FOLDER as PICTURES
from tools.make_pictures import SCREENSHOT_TEXT

from .drawing import WORDS, blank, bounds, write


def start(engine: Any, image: Image.Image, recipe: Recipe | None = None) -> PageHandle:
    return read_page(engine, open_images(image)[0], recipe or recipe_for(engine))


def errors(wanted: str, found: str) -> int:
    """Edit distance in characters."""
    row = list(range(len(found) + 1))
    for index, letter in enumerate(wanted, 1):
        above, row = row, [index]
        for column, other in enumerate(found, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != other)))
    return row[-1]


@pytest.fixture(scope="module")
def page() -> Image.Image:
    image, canvas = blank()
    write(canvas, WORDS)
    return image


@pytest.mark.parametrize("kind", ["plain", "dark", "skewed", "large"])
def test_few_characters_are_wrong(tiny: Any, kind: str) -> None:
    image, canvas = blank(900 if kind == "large" else 520, 420, "#203040" if kind == "dark" else "white")
    size = 36 if kind == "large" else 16
    write(canvas, WORDS, ink="#f0f0e0" if kind == "dark" else "black", size=size, pitch=int(size * 1.7))
    if kind == "skewed":
        image = image.rotate(3, resample=Image.Resampling.BICUBIC, fillcolor="white")
    result = start(tiny, image).result()
    truth = "\n".join(WORDS)
    assert errors(truth, result.text) <= 0.04 * len(truth), result.text
    assert len(result.lines) == 6


def test_a_screenshot_of_a_web_page(tiny: Any) -> None:
    """A bar, bullets, a table with rules and dark code: what the quickstart begins with."""
    assert start(tiny, Image.open(PICTURES / "screenshot.png")).result().text == SCREENSHOT_TEXT


def test_one_result_for_the_page(tiny: Any, page: Image.Image) -> None:
    handle = start(tiny, page)
    streamed = [delta.text for delta in handle]
    result = handle.result()
    assert "".join(streamed) == result.text
    assert len(streamed) == 6
    assert result.finish_reason == "stop"
    assert (result.usage.images, handle.progress.phase, handle.done) == (1, "done", True)
    assert result.usage.completion_tokens == handle.progress.tokens >= len(result.token_ids)  # second looks count too
    assert result.usage.peak_rows > 1 or result.usage.accepted  # what was read before may take a step a line
    for index, line in enumerate(result.lines):
        left, top, _, bottom = bounds(line.box)
        assert left == pytest.approx(30, abs=3)
        assert 20 + 27 * index <= top < bottom <= 20 + 27 * (index + 1) + 2
        assert -0.5 < line.logprob <= 0
    assert asyncio.run(start(tiny, page).aresult()).text == result.text


def test_no_ink_costs_nothing(tiny: Any) -> None:
    before = tiny.stats().prompt_tokens
    handle = start(tiny, blank()[0])
    assert handle.poll() == ([], True)
    result = handle.result()
    assert (result.text, result.lines, result.usage.total_tokens, result.usage.images) == ("", (), 0, 1)
    assert tiny.stats().prompt_tokens == before


def test_an_improbable_line_is_left_out_and_told(tiny: Any, page: Image.Image) -> None:
    worst, next_worst = sorted(line.logprob for line in start(tiny, page).result().lines)[:2]
    assert worst < next_worst
    strict = Recipe(improbable=(worst + next_worst) / 2)
    result = start(tiny, page, strict).result()
    assert len(result.lines) == 5
    assert result.notes[-1] == "1 improbable line left out"
    assert len(result.text.split("\n")) == 5


def test_where_all_lines_are_improbable_the_mend_is_named(tiny: Any, page: Image.Image) -> None:
    result = start(tiny, page, Recipe(improbable=-1e-9)).result()
    assert result.text == ""
    assert result.notes == ("6 improbable lines left out; if the page stands on its side or head, turn it first",)


def scrawl(kind: str) -> Image.Image:
    """A page of marks that are no writing."""
    r = random.Random(kind)
    image, canvas = blank(520, 400)
    if kind == "noise":
        colours = np.random.default_rng(5).integers(0, 255, (100, 130, 3), dtype=np.uint8)
        return Image.fromarray(colours).resize((520, 400), Image.Resampling.BICUBIC)
    for _ in range(120):
        x, y = r.randint(10, 500), r.randint(10, 380)
        if kind == "strokes":
            canvas.line((x, y, x + r.randint(-30, 30), y + r.randint(-30, 30)), fill="black", width=r.randint(1, 4))
        elif kind == "dots":
            canvas.ellipse((x, y, x + r.randint(1, 4), y + r.randint(1, 4)), fill="black")
        else:
            around = [(x + r.randint(-20, 20), y + r.randint(-9, 9)) for _ in range(6)]
            canvas.line(around, fill="black", width=2, joint="curve")
    return image


@pytest.mark.parametrize("kind", ["strokes", "dots", "scribbles", "noise"])
def test_what_is_no_writing_is_left_out_and_told(tiny: Any, kind: str) -> None:
    handle = start(tiny, scrawl(kind))
    streamed = "".join(delta.text for delta in handle)
    result = handle.result()
    assert sum(map(str.isalnum, result.text)) < 3, result.text
    assert len(result.text) < 10, result.text
    assert streamed == result.text
    assert not result.usage.completion_tokens or "left out" in " ".join(result.notes) or kind == "noise"


def test_signs_beside_words_are_kept(tiny: Any) -> None:
    image, canvas = blank()
    write(canvas, ["***", "Total due 12.50", "=", "Return ticket"], size=18)
    handle = start(tiny, image)
    streamed = "".join(delta.text for delta in handle)
    lines = handle.result().text.replace(" ", "").split("\n")
    assert (lines[0], lines[1], lines[-1]) == ("***", "Totaldue12.50", "Returnticket")
    assert streamed == handle.result().text


def test_stop_keeps_whole_lines(tiny: Any, page: Image.Image) -> None:
    once = Recipe(again=0)  # a line that was read only once may say something else than after its second look
    full = start(tiny, page, once).result().text.split("\n")
    tall = Image.fromarray(np.concatenate([np.asarray(page)] * 4))
    handle = start(tiny, tall, once)
    first = next(iter(handle)).text
    handle.cancel()
    result = handle.result(timeout=30)
    assert result.finish_reason == "cancelled"
    assert first == full[0]
    read = [line.text for line in result.lines]
    assert 1 <= len(read) < 24
    assert set(read) <= set(full)


def test_what_cannot_be_cut_is_read_whole(tiny: Any) -> None:
    blobs = np.random.default_rng(4).integers(0, 255, (20, 26, 3), dtype=np.uint8)
    handle = start(tiny, Image.fromarray(blobs).resize((260, 200), Image.Resampling.BICUBIC))
    streamed = "".join(delta.text for delta in handle)
    result = handle.result(timeout=60)
    assert result.notes[0].startswith("read whole: ")
    assert streamed == result.text == ""
    assert result.usage.images == 1
    assert result.lines == ()


def test_a_checkpoint_without_a_recipe(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "path", tmp_path)
    assert recipe_for(tiny) is None


def test_a_closed_engine_says_so(page: Image.Image) -> None:
    from omlx_jupyter import Engine

    engine = Engine.load()
    recipe = recipe_for(engine)
    engine.close()
    assert recipe is not None
    with pytest.raises(EngineClosedError):
        read_page(engine, open_images(page)[0], recipe)


def test_ocr_reads_by_lines(tiny: Any, page: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    from omlx_jupyter import ocr
    from omlx_jupyter.notebook.work import session

    monkeypatch.setattr(session, "submit", lambda start, *_: start(tiny))
    read = ocr(page)
    assert read.text == start(tiny, page).result().text
    assert [line.text for line in read.lines] == read.text.split("\n")
    assert ocr(page, whole=True, max_tokens=4).lines == ()
    assert ocr(page, prompt="Text Recognition:", max_tokens=4).lines == ()


def test_noise_says_nothing(tiny: Any) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    assert start(tiny, Image.fromarray(noise)).result(timeout=60).text == ""


def test_without_opencv_s_system_libraries_a_page_is_read_whole(tmp_path: Path) -> None:
    """A headless Linux has no libGL, which OpenCV's wheel links."""
    told = "libGL.so.1: cannot open shared object file"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({told!r})")
    code = (
        "from omlx_jupyter import Engine\nfrom omlx_jupyter.images.source import open_images\n"
        "from omlx_jupyter.chat.pages import read_page, recipe_for\nengine = Engine.load()\n"
        f"picture = open_images({str(PICTURES / 'sign.png')!r})[0]\n"
        "result = read_page(engine, picture, recipe_for(engine)).result()\n"
        "print(result.text, *result.notes, sep='\\n')\n"
        "engine.close()"
    )
    places = os.pathsep.join([str(tmp_path), str(PICTURES.parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    text, note = done.stdout.strip().split("\n")
    assert text == "Platform 4"
    assert note.startswith("read whole: OpenCV can't be loaded")
    assert told in note
    assert "apt install libgl1" in note
