"""Where a page is cut, against where its lines were drawn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from omlx_jupyter.reading.ink import upright_ink
from omlx_jupyter.reading.layout import Layout
from omlx_jupyter.reading.marks import marks_of
from omlx_jupyter.reading.page import cut, join
from omlx_jupyter.reading.recipe import Recipe

from .drawing import WORDS, assert_boxes, blank, bounds, page_of, write


def test_lines_come_in_order_as_pieces_of_one_size() -> None:
    image, canvas = blank()
    wanted = write(canvas, WORDS)
    page = page_of(image)
    assert_boxes(page, wanted)
    assert [line.before for line in page.lines] == ["", *["\n"] * 5]
    for piece in page.pieces:
        height, width, channels = piece.pixels.shape
        assert (height, width % 16, channels) == (32, 0, 3)
        assert 160 <= width <= 640
        inked = np.flatnonzero((piece.pixels[:, :, 0] < 128).any(1))
        assert abs(inked[0] - 8) <= 2
        assert abs(inked[-1] - 23) <= 2
        assert piece.pixels[0].min() == 255
        assert piece.pixels.min() < 40


@pytest.mark.parametrize("size", [11, 14, 24, 40, 64])
def test_sizes(size: int) -> None:
    image, canvas = blank(900, 560)
    wanted = write(canvas, WORDS, size=size, pitch=int(size * 1.35))
    assert_boxes(page_of(image), wanted, off=3 + size / 12)


def test_huge_letters() -> None:
    image, canvas = blank(900, 260)
    wanted = write(canvas, ["HUGE Type"], size=150)
    for left in range(-4, 5):  # bold
        write(canvas, ["HUGE Type"], left=30 + left, size=150)
    assert_boxes(page_of(image), wanted, off=16)


# The last six are darker than their paper in one channel and lighter in another.
PLAIN = [("black", "white"), ("#203040", "#e0c080"), ("#ffe0a0", "#703010"), ("white", "#999999")]
OPPOSED = [
    ("#ff0", "navy"),
    ("#ff0", "#00f"),
    ("blue", "yellow"),
    ("skyblue", "red"),
    ("green", "red"),
    ("red", "cyan"),
]


@pytest.mark.parametrize(("paper", "ink"), PLAIN + OPPOSED)
def test_colours(paper: str, ink: str) -> None:
    image, canvas = blank(paper=paper)
    wanted = write(canvas, WORDS, ink=ink)
    page = page_of(image)
    assert_boxes(page, wanted)
    assert all(piece.pixels[0, 0, 0] == 255 and piece.pixels.min() < 60 for piece in page.pieces)


def test_uneven_light_and_grain() -> None:
    image, canvas = blank()
    wanted = write(canvas, WORDS)
    light = np.linspace(80, 250, 520)[None, :, None] + np.linspace(-40, 0, 300)[:, None, None]
    grain = np.random.default_rng(1).normal(0, 4, (300, 520, 3))
    shaded = np.asarray(image) / 255 * light + grain
    assert_boxes(page_of(Image.fromarray(shaded.clip(0, 255).astype(np.uint8))), wanted)


@pytest.mark.parametrize("degrees", [-5, -2.2, 0.8, 3, 5])
def test_skew_is_turned_back(degrees: float) -> None:
    image, canvas = blank()
    wanted = write(canvas, WORDS)
    turned = image.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor="white")
    page = page_of(turned)
    assert page.skew == pytest.approx(-degrees, abs=0.2)
    angle = np.radians(degrees)
    for line, (left, top, right, bottom) in zip(page.lines, wanted, strict=True):
        corner = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float) - (260, 150)
        there = corner @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) + (260, 150)
        assert np.abs(np.array(line.box) - there).max() <= 4


def test_a_bar_and_a_button_on_one_page() -> None:
    image, canvas = blank()
    canvas.rectangle((0, 0, 520, 40), fill="#2050a0")
    canvas.rectangle((20, 60, 200, 92), fill="#208040")
    wanted = write(canvas, ["White header"], top=10, ink="white") + write(canvas, ["Press me"], top=66, ink="white")
    wanted += write(canvas, ["Dark text below"], top=120, ink="#555555")
    page = page_of(image)
    assert page.skew == 0
    assert_boxes(page, wanted)


def test_boxes_rules_and_underlines_go() -> None:
    image, canvas = blank()
    wanted = write(canvas, WORDS)
    for left, top, right, bottom in wanted[:3]:
        canvas.rectangle((left - 7, top - 4, right + 90, bottom + 4), outline="black")
    for left, _, right, bottom in wanted[3:5]:
        canvas.line((left, bottom + 1, right, bottom + 1), fill="black")
    canvas.line((20, 180 + 10, 500, 180 + 10), fill="black", width=2)
    page = page_of(image)
    assert_boxes(page, wanted, off=4)
    assert len(page.pieces) == 6


@pytest.mark.parametrize("degrees", [-1, 1, 1.5])
def test_letters_that_have_run_together_are_no_rule(degrees: float) -> None:
    image, canvas = blank(300, 160, "#f4f0e8")
    write(canvas, ["raising hardware summers", "numerous harmonium drawn"], size=11, pitch=24, ink="#303030")
    turned = image.rotate(degrees, expand=True, fillcolor="#f4f0e8", resample=Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).normal(0, 10, (turned.height, turned.width, 3))
    found = upright_ink((np.asarray(turned) + grain).clip(0, 255).astype(np.uint8))
    marks = marks_of(found.ink, found.mask, found.doubt, found.noisy)
    for strip in Layout(marks).strips:
        erased = marks.erased[strip.top : strip.bottom, strip.left : strip.right]
        assert erased.sum(1).max() < 10  # pixels of a row, in a line of type


def test_lines_whose_letters_touch() -> None:
    image, canvas = blank()
    write(canvas, ["gypsy jumping jetty", "Apply hybrid dogs", "gypsy jumping jetty", "Apply hybrid dogs"], pitch=15)
    page = page_of(image)
    assert len(page.lines) == 4
    tops = [bounds(line.box)[1] for line in page.lines]
    assert np.abs(np.diff(tops) - 15).max() <= 4


def test_a_picture_between_paragraphs_is_left_out() -> None:
    image, canvas = blank(height=460)
    wanted = write(canvas, WORDS[:3]) + write(canvas, WORDS[3:], top=330)
    colours = np.random.default_rng(3).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    image.paste(Image.fromarray(colours).resize((300, 180), Image.Resampling.BICUBIC), (40, 120))
    page = page_of(image)
    assert_boxes(page, wanted)
    assert page.lines[3].before == "\n\n"
    assert "left out" in page.notes[0]


def test_columns_are_read_one_after_another() -> None:
    image, canvas = blank(760, 400)
    prose = [f"{words} and some more words {n}" for n, words in enumerate(WORDS)]
    title = write(canvas, ["A title over both of the columns, quite long"])
    left = write(canvas, prose, top=70)
    right = write(canvas, prose, left=400, top=76)
    assert_boxes(page_of(image), [*title, *left, *right])


def test_a_table_keeps_its_rows() -> None:
    image, canvas = blank(700)
    rows = [("Coffee", "2", "5.60"), ("Fresh bread", "1", "3.10"), ("Tax", "", "0.87"), ("Total due", "3", "9.57")]
    for x, column in ((30, 0), (250, 1), (400, 2)):
        for index, row in enumerate(rows):
            write(canvas, [row[column]], left=x, top=20 + 27 * index) if row[column] else None
    page = page_of(image)
    assert len(page.lines) == 4
    texts = [[cell for cell in row if cell] for row in rows]
    assert [len(line.pieces) for line in page.lines] == [len(cells) for cells in texts]
    assert join(page, texts) == "Coffee\t2\t5.60\nFresh bread\t1\t3.10\nTax\t0.87\nTotal due\t3\t9.57"


def test_blank_lines_bullets_and_a_heading() -> None:
    image, canvas = blank(height=420)
    wanted = write(canvas, ["A Heading"], size=36)
    items = write(canvas, WORDS[:3], left=50, top=100)
    for _, top, _, bottom in items:
        middle = (top + bottom) // 2
        canvas.ellipse((30, middle - 3, 36, middle + 3), fill="black")
    last = write(canvas, WORDS[3:], top=230)
    wanted += [(30, top, right, bottom) for _, top, right, bottom in items] + last
    page = page_of(image)
    assert_boxes(page, wanted, off=5)
    assert [line.before for line in page.lines] == ["", "\n\n", "\n", "\n", "\n\n", "\n", "\n"]


def test_indents_of_fixed_width_type_are_blanks() -> None:
    image, canvas = blank()
    code = ["while True:", "    value = read()", "    if value:", "        print(value)", "finish(all)"]
    for row, line in enumerate(code):  # each letter in a cell, as fixed-width type stands
        for column, letter in enumerate(line):
            if letter != " ":
                write(canvas, [letter], left=30 + 10 * column, top=20 + 27 * row)
    page = page_of(image)
    assert join(page, [[line] for line in code]) == "\n".join(code)
    prose = [["iiiiiiiiiiiiiiiiiiiiii"], ["a word of text"], ["some other words"], ["wide"], ["mmm"]]
    assert join(page, prose) == "\n".join(line for (line,) in prose)


def test_code_between_paragraphs_keeps_its_indents() -> None:
    image, canvas = blank(height=460)
    prose = ["Some words of ordinary type", "with a second line, mild", "      and one that is set in a bit"]
    write(canvas, prose[:2])
    write(canvas, [prose[2].strip()], left=60, top=20 + 27 * 2)
    code = [
        "while nothing stops it:",
        "    value = read(some_file)",
        "",
        "    if value > 12:",
        "        print(value, 12)",
    ]
    for row, line in enumerate(code):
        for column, letter in enumerate(line):
            if letter != " ":
                write(canvas, [letter], left=50 + 10 * column, top=140 + 27 * row)
    write(canvas, prose, top=330)
    page = page_of(image)
    told = [line.strip() for line in [*prose, *filter(None, code), *prose]]
    wanted = "\n".join([*told[:3], "", *code, "", *told[:3]])
    assert join(page, [[line] for line in told]) == wanted


def test_long_lines_are_cut_between_words_and_joined() -> None:
    image, canvas = blank(1300, 80)
    line = " ".join(WORDS * 3)
    write(canvas, [line])
    page = page_of(image)
    assert len(page.lines) == 1
    assert len(page.pieces) >= 2
    assert {piece.before for piece in page.pieces[1:]} == {" "}
    assert all(piece.pixels.shape[1] <= 640 for piece in page.pieces)
    assert join(page, [["one"] * len(page.pieces)]) == " ".join(["one"] * len(page.pieces))


def test_nothing_is_nothing() -> None:
    grain = 240 + np.random.default_rng(2).normal(0, 6, (300, 520, 3))
    for page in (page_of(blank()[0]), page_of(Image.fromarray(grain.clip(0, 255).astype(np.uint8)))):
        assert (page.lines, page.whole) == ((), False)
    assert join(page, []) == ""
    tiny = cut(np.full((1, 1, 3), 7, np.uint8), Recipe())
    assert (tiny.lines, tiny.whole) == ((), False)


def test_a_photograph_is_read_whole_and_noise_has_no_lines() -> None:
    random = np.random.default_rng(4)
    for grain in (1, 5):  # coarse and fine
        colours = random.integers(0, 255, (8 * grain, 10 * grain, 3), dtype=np.uint8)
        page = page_of(Image.fromarray(colours).resize((520, 400), Image.Resampling.BICUBIC))
        assert page.whole
        assert page.reason
    noise = page_of(Image.fromarray(random.integers(0, 255, (300, 520, 3), dtype=np.uint8)))
    assert noise.whole or not noise.lines


def test_a_page_is_cut_quickly() -> None:
    image, canvas = blank(900, 1000)
    write(canvas, WORDS * 5, pitch=32)
    page_of(image)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert len(page_of(image).lines) == 30
        took.append(time.perf_counter() - began)
    assert min(took) < 0.25  # 0.04 s on two idle cores
