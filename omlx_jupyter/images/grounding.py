"""Where models say that things stand: the coordinates of each family, turned into pixels of the picture."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError
from .sizes import shrunk_size

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Grounding:
    """How a model counts places in a picture.

    `span` is what the far edge has (1000: thousandths), 0 where the model counts pixels of the picture as its
    processor made it: sides are multiples of `cell`, their product lies between `least` and `most`, of a picture that
    the engine has shrunk to `budget` pixels before. `rows_first`: boxes are [top, left, bottom, right].
    """

    span: float = 1000
    rows_first: bool = False
    cell: int = 28
    least: int = 28 * 28 * 4
    most: int = 28 * 28 * 16384
    budget: int = 0  # pixels; 0 shrinks nothing

    def order(self) -> str:
        return "[top, left, bottom, right]" if self.rows_first else "[left, top, right, bottom]"

    def words(self) -> str:
        """What a tool tells the model of a box."""
        if not self.span:
            return f"{self.order()} in pixels of the picture as you see it"
        return f"{self.order()}, 0 to {self.span:g} over the picture's width and height"

    def seen(self, width: int, height: int) -> tuple[float, float]:
        """The far edges (x, y) of a picture of `width` x `height` pixels, as the model counts."""
        if self.span:
            return self.span, self.span
        small = shrunk_size(width, height, self.budget or width * height)
        return _resized(*small, self.cell, self.least, self.most)

    def pixels(self, box: Sequence[float], width: int, height: int) -> Box:
        """A model's box -> the pixels of a picture of `width` x `height`, at least one each way.

        :raises ImageError: not four numbers, or nothing of the picture lies in it.
        """
        if len(box) != 4 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in box):
            raise ImageError(f"the box is {list(box)!r}; give {self.words()}.")
        right_edge, bottom_edge = self.seen(width, height)
        edges = (bottom_edge, right_edge) * 2 if self.rows_first else (right_edge, bottom_edge) * 2
        clipped = [min(max(n, 0.0), edge) for n, edge in zip(box, edges, strict=True)]
        left, top, right, bottom = (clipped[i] for i in ((1, 0, 3, 2) if self.rows_first else (0, 1, 2, 3)))
        if not (left < right and top < bottom):
            raise ImageError(f"the box {list(box)!r} is empty; it is {self.words()}.")
        x, y = int(left * width / right_edge), int(top * height / bottom_edge)
        return (
            min(x, width - 1),
            min(y, height - 1),
            min(width, max(x + 1, math.ceil(right * width / right_edge))),
            min(height, max(y + 1, math.ceil(bottom * height / bottom_edge))),
        )


THOUSANDTHS = Grounding()

# What families were trained to write. Thousandths with x first have no entry: Qwen2-VL, Qwen3-VL, GLM-4.xV, InternVL
_PIXELS = ("qwen2_5_vl", "dots_ocr")
_OTHERS = {
    **dict.fromkeys(("gemma3", "gemma3n", "gemma4", "gemma4_unified"), Grounding(1000, rows_first=True)),
    **dict.fromkeys(("deepseek_vl_v2", "deepseekocr", "deepseekocr_2", "unlimited_ocr", "florence2"), Grounding(999)),
    **dict.fromkeys(("moondream2", "moondream3", "lfm2_vl", "kimi_vl"), Grounding(1)),
    "molmo": Grounding(100),
    "paligemma": Grounding(1024, rows_first=True),
}


def grounding_of(model_type: str, preprocessor: Mapping[str, Any]) -> Grounding:
    """By a checkpoint's `model_type` and its preprocessor_config.json."""
    if model_type not in _PIXELS:
        return _OTHERS.get(model_type, THOUSANDTHS)
    size = preprocessor.get("size") or {}
    cell = int(preprocessor.get("patch_size") or 14) * int(preprocessor.get("merge_size") or 2)
    return Grounding(
        0,
        cell=cell,
        least=int(preprocessor.get("min_pixels") or size.get("shortest_edge") or cell * cell * 4),
        most=int(preprocessor.get("max_pixels") or size.get("longest_edge") or cell * cell * 16384),
    )


def grounding_in(folder: Path, model_type: str) -> Grounding:
    """Of a checkpoint's folder; files that can't be read tell nothing."""
    found: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(said, dict):
            inner = said.get("image_processor")
            found |= inner if isinstance(inner, dict) else said
    try:
        return grounding_of(model_type, found)
    except (TypeError, ValueError, AttributeError):
        return grounding_of(model_type, {})


def _resized(width: int, height: int, cell: int, least: int, most: int) -> tuple[int, int]:
    """The size that Qwen's processors give a picture (tested against transformers')."""
    w, h = round(width / cell) * cell, round(height / cell) * cell
    if w * h > most:
        shrink = math.sqrt(width * height / most)
        w, h = (max(cell, math.floor(side / shrink / cell) * cell) for side in (width, height))
    elif w * h < least:
        grow = math.sqrt(least / (width * height))
        w, h = (math.ceil(side * grow / cell) * cell for side in (width, height))
    return w, h


@dataclass(frozen=True)
class Place:
    """Something that an answer locates: its words and its box in pixels of the picture."""

    label: str
    box: Box

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Four (x, y), as a line's box has them."""
        left, top, right, bottom = self.box
        return (left, top), (right, top), (right, bottom), (left, bottom)


_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
_FOUR = rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]"
# Found by their numbers, the words before them after that: decoding leaves the marks, which are special tokens, out
_LISTED = re.compile(rf"\[{_FOUR}(?:\s*,\s*{_FOUR})*\]")
_PAIRS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)")
_BLANKS = re.compile(r"<box>\s*\d+(?:\s+\d+){3}\s*</box>")
_LOCS = re.compile(r"(?:<loc\d{4}>){4}")
_MARK = re.compile(r"<[|/]?[a-z_/|]{1,40}>")
_BREAK = re.compile(r"[\[\]()\n;]")
_OPENING = re.compile(r"[\[{]")
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")
_LONGEST_LABEL = 200
_MOST_FAILURES = 300  # brackets that begin no JSON, each of which may be read far
_LONGEST_TEXT = 200_000  # characters of an answer that are looked at
BOX_KEYS = ("bbox_2d", "box_2d", "bbox", "box")
_NAMES = ("label", "text_content", "text", "name", "category", "value")
_DEEPEST = 60


def places(text: str, grounding: Grounding, width: int, height: int) -> tuple[Place, ...]:
    """What an answer to one picture of `width` x `height` pixels locates, in the forms that families write: JSON with
    `bbox_2d`, `box_2d`, `bbox` or `box`, DeepSeek's, InternVL's, Qwen's, MiniCPM's and PaliGemma's marks."""
    found = []
    for label, box in _said(text):
        try:
            found.append(Place(label.strip(), grounding.pixels(box, width, height)))
        except ImageError:
            continue
    return tuple(dict.fromkeys(found))


def _said(text: str) -> Iterator[tuple[str, Sequence[float]]]:
    text = text[:_LONGEST_TEXT]
    structured = list(_of_json(text))
    if structured:
        yield from structured
        return
    for form in (_LISTED, _PAIRS, _BLANKS):
        for match in form.finditer(text):
            label, numbers = _label(text[: match.start()][-_LONGEST_LABEL:], last=True), _floats(match[0])
            yield from ((label, numbers[at : at + 4]) for at in range(0, len(numbers), 4))
    for match in _LOCS.finditer(text):
        yield _label(text[match.end() : match.end() + _LONGEST_LABEL], last=False), _floats(match[0])


def _label(beside: str, last: bool) -> str:
    """The words next to a box: `last` of what stands before it, or the first behind it."""
    words = [word.strip() for word in _BREAK.split(_MARK.sub("\n", beside).strip())]
    return words[-1 if last else 0]


def _floats(text: str) -> list[float]:
    return [float(number) for number in _NUMBERS.findall(text)]


def _of_json(text: str) -> Iterator[tuple[str, Sequence[float]]]:
    decoder, at, failures = json.JSONDecoder(), 0, 0
    while failures < _MOST_FAILURES and (opening := _OPENING.search(text, at)):
        begin = opening.start()
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            at, failures = begin + 1, failures + 1
            continue
        yield from _boxes_in(value, "", _DEEPEST)


def _boxes_in(value: object, name: str, deeper: int) -> Iterator[tuple[str, Sequence[float]]]:
    """A JSON value's boxes. One is called by the path of the object that has it, keys and numbers with dots between;
    one on the outside by its own words."""
    if not deeper:
        return
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _boxes_in(item, f"{name}.{number}" if name else "", deeper - 1)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in BOX_KEYS and isinstance(inner, list) and len(inner) == 4 and all(_is_number(n) for n in inner):
            yield name or next((str(value[k]) for k in _NAMES if isinstance(value.get(k), str)), ""), inner
        else:
            yield from _boxes_in(inner, f"{name}.{key}" if name else key, deeper - 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
