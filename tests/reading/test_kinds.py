"""Twelve pages of six kinds through the embedded model: in order, and with hardly a mistake."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from omlx_jupyter.chat.pages import read_page, recipe_for
from omlx_jupyter.images.source import open_images

from .test_pages import errors

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # they come with matplotlib, on any machine
SANS, SERIF, MONO = "DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"
PROSE = (
    "The harbour office opens at nine and closes at five on working days . We thank you for your letter of last week "
    "and send the papers that you asked for . Please sign both copies and return one of them before the end of the "
    "month . Visitors may park behind the old station , where a bus leaves every ten minutes . Our garden has apple "
    "and cherry trees , a pond with frogs , and two benches made of oak ."
)
GOODS = ("Apple juice", "Brown bread", "Goat cheese", "Olive oil", "Green tea", "Rice", "Dark honey", "Pepper")


def prose(r: random.Random, letters: int) -> str:
    words = PROSE.split()
    at = r.randrange(len(words))
    text = ""
    while len(text) < letters:
        word = words[at % len(words)]
        text += word if word in ".," or not text else " " + word
        at += 1
    text = text[:letters].rsplit(" ", 1)[0]
    return text.strip(" .,")


def amount(r: random.Random) -> str:
    return f"{r.randint(1, 2999):,}.{r.randint(0, 99):02d}"


class Sheet:
    """A page that is drawn line by line, and its text."""

    def __init__(self, width: int, height: int, font: str, size: int, paper: str = "white", ink: str = "black") -> None:
        self.image = Image.new("RGB", (width, height), paper)
        self.canvas = ImageDraw.Draw(self.image)
        self.font = ImageFont.truetype(FONTS / font, size)
        self.pitch, self.ink = round(size * 1.5), ink
        self.text = ""

    def put(self, left: float, top: float, text: str) -> None:
        self.canvas.text((left, top), text, font=self.font, fill=self.ink)

    def column(self, left: int, top: int, lines: list[str]) -> int:
        for line in lines:
            self.put(left, top, line)
            top += self.pitch
        self.text += ("\n" if self.text else "") + "\n".join(line for line in lines if line)
        return top


def letter(r: random.Random) -> Sheet:
    sheet = Sheet(720, 560, r.choice((SANS, SERIF)), r.randint(14, 18))
    top = sheet.column(40, 30, ["Harbour Office", "12 Quay Street", ""])
    for _ in range(3):
        top = sheet.column(40, top, [*(prose(r, r.randint(40, 58)) for _ in range(r.randint(2, 4))), ""])
    return sheet


def receipt(r: random.Random) -> Sheet:
    sheet = Sheet(340, 340, r.choice((MONO, SANS)), 15)
    top = sheet.column(20, 20, ["Corner Shop"])
    for name in [*r.sample(GOODS, 6), "Total"]:
        price = amount(r)
        sheet.put(320 - sheet.font.getlength(price), top, price)
        top = sheet.column(20, top, [name])
        sheet.text += " " + price
    return sheet


def columns(r: random.Random) -> Sheet:
    sheet = Sheet(860, 420, r.choice((SANS, SERIF)), 14)
    sheet.column(30, 20, ["News from the quay and from the old station"])
    for left in (30, 450):
        sheet.column(left, 70, [prose(r, r.randint(36, 44)) for _ in range(12)])
    return sheet


def code(r: random.Random) -> Sheet:
    sheet = Sheet(560, 260, MONO, r.randint(14, 17))
    name, count = r.choice(("boat", "letter", "garden")), r.randint(10, 99)
    sheet.column(
        24,
        20,
        [
            f"def {name}(values, limit={count}):",
            "    total = 0",
            "    for value in values:",
            "        if value > limit:",
            "            total += value * 2",
            f'    print("{name}", total)',
            "    return total",
        ],
    )
    return sheet


def table(r: random.Random) -> Sheet:
    sheet = Sheet(640, 330, r.choice((SANS, SERIF)), 15)
    lefts, ruled, top = (30, 230, 340, 480), r.random() < 0.5, 24
    for row in [("Item", "Count", "Price", "Sum")] + [
        (name, str(r.randint(1, 90)), amount(r), amount(r)) for name in r.sample(GOODS, 7)
    ]:
        for left, cell in zip(lefts, row, strict=True):
            sheet.put(left, top, cell)
        sheet.text += ("\n" if sheet.text else "") + " ".join(row)
        top += 34
        if ruled:
            sheet.canvas.line((20, top - 8, 600, top - 8), fill="#888888")
    return sheet


def terminal(r: random.Random) -> Sheet:
    sheet = Sheet(700, 260, MONO, r.randint(13, 16), r.choice(("#1e1e1e", "#002b36")), "#d4d4d4")
    level = ("INFO", "WARN", "ERROR")
    stamp = f"{r.randint(10, 23)}:{r.randint(10, 59)}"
    sheet.column(16, 14, [f"{stamp}:{n + 10} {r.choice(level)} {prose(r, r.randint(24, 40))}" for n in range(8)])
    return sheet


KINDS: tuple[Callable[[random.Random], Sheet], ...] = (letter, receipt, columns, code, table, terminal)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_pages_of_six_kinds(tiny: Any, kind: Callable[[random.Random], Sheet]) -> None:
    for seed in (1, 2):
        sheet = kind(random.Random(seed))
        result = read_page(tiny, open_images(sheet.image)[0], recipe_for(tiny)).result()
        if kind is code:
            assert [len(line) - len(line.lstrip()) for line in result.text.split("\n")] == [0, 4, 4, 8, 12, 4, 4]
        found = [" ".join(line.split()) for line in result.text.split("\n") if line]
        wanted = [" ".join(line.split()) for line in sheet.text.split("\n") if line]
        assert len(found) == len(wanted), result.text
        wrong = sum(map(errors, wanted, found))  # line by line, so that the order counts
        assert wrong <= 0.01 * sum(map(len, wanted)), result.text


def plain(paper: str = "white", ink: str = "black") -> Sheet:
    r = random.Random(3)
    sheet = Sheet(640, 330, SANS, 16, paper, ink)
    sheet.column(30, 24, [prose(r, r.randint(36, 56)) for _ in range(6)])
    return sheet


def lit(sheet: Sheet, light: np.ndarray, grain: float = 0) -> Image.Image:
    """The page under uneven light, (h, w), on a grainy film."""
    noise = np.random.default_rng(1).normal(0, grain, (*light.shape, 1)) if grain else 0
    shown = np.asarray(sheet.image) * light[:, :, None] + noise
    return Image.fromarray(shown.clip(0, 255).astype(np.uint8))


def on_a_gradient(sheet: Sheet) -> Image.Image:
    ink = 1 - np.asarray(sheet.image) / 255
    ground = np.stack(np.broadcast_arrays(np.linspace(0, 120, 640), np.linspace(60, 20, 330)[:, None], 120.0), 2)
    return Image.fromarray((ground * (1 - ink) + 255 * ink).astype(np.uint8))


def underlined(sheet: Sheet) -> Image.Image:
    for row in range(6):
        sheet.canvas.line((30, 43 + 24 * row, 560, 43 + 24 * row), fill="black")
    return sheet.image


def framed(sheet: Sheet) -> Image.Image:
    for row in range(6):
        sheet.canvas.rectangle((22, 20 + 24 * row, 600, 43 + 24 * row), outline="#777777")
    return sheet.image


SPOT = 0.4 + 0.6 * np.exp(-np.add.outer(np.linspace(-1, 1, 330) ** 2, np.linspace(-1, 2, 640) ** 2))
HARD: dict[str, Callable[[], tuple[Image.Image, str]]] = {
    "skew": lambda: ((s := plain()).image.rotate(-5, Image.Resampling.BICUBIC, True, fillcolor="white"), s.text),
    "dark and coloured": lambda: ((s := plain("#402060", "#ffe080")).image, s.text),
    "spot of light": lambda: (lit(s := plain(), SPOT, 5), s.text),
    "on a gradient": lambda: (on_a_gradient(s := plain()), s.text),
    "underlined": lambda: (underlined(s := plain()), s.text),
    "framed": lambda: (framed(s := plain()), s.text),
}  # fmt: skip


@pytest.mark.parametrize("how", HARD)
def test_a_page_that_is_hard_to_cut(tiny: Any, how: str) -> None:
    image, text = HARD[how]()
    found = read_page(tiny, open_images(image)[0], recipe_for(tiny)).result().text
    assert errors(text, found) <= 0.01 * len(text), found


def test_letters_of_two_lines_that_touch(tiny: Any) -> None:
    sheet = Sheet(640, 140, SANS, 16)
    sheet.pitch = 15  # less than the type's size
    lines = [
        "gypsy jumping by (benches)",
        "Apply hybrid Qty, of oak",
        "gypsy jumping by (frogs)",
        "Hotly lying flip for you",
    ]
    sheet.column(30, 24, lines)
    found = read_page(tiny, open_images(sheet.image)[0], recipe_for(tiny)).result().text
    assert len(found.split("\n")) == 4, found
    assert errors(sheet.text, found) <= 0.08 * len(sheet.text), found  # 0.14 and more before they were told apart
