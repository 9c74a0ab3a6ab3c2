"""How a checkpoint wants pages handed to it: `reading.json` in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import ModelError

FILE_NAME = "reading.json"
_CHOICES = {"by": ("lines",), "paper": ("light",)}
_RANGE: dict[str, tuple[float, float]] = {
    "ink": (8, 256),
    "height": (16, 256),
    "step": (1, 256),
    "narrowest": (0, 4096),
    "widest": (64, 4096),
    "gap": (0.5, 100),
    "improbable": (-100, 0),
    "doubt": (-100, 0),
    "again": (0, 8),
}


@dataclass(frozen=True)
class Recipe:
    """A page is cut into `by`; a piece is dark ink on `paper`.

    In a piece's pixels: its line's ink is `ink` tall, centred in `height`; its width is a multiple of `step`
    between `narrowest` and `widest`. A line is cut where a gap is wider than `gap` of its height. A line whose
    tokens' mean log-probability lies below `improbable` is left out (`sure.py` asks more where no words are); a piece
    whose lies below `doubt` is read `again` so many times, with ink a pixel taller each time, and the most probable
    answer is taken.
    """

    by: str = "lines"
    paper: str = "light"
    ink: int = 16
    height: int = 32
    step: int = 16
    narrowest: int = 160
    widest: int = 640
    gap: float = 1.5
    improbable: float = -0.35
    doubt: float = -0.01
    again: int = 2


def recipe_of(folder: Path) -> Recipe | None:
    """The recipe of a checkpoint's folder; None where it has none.

    :raises ModelError: the file can't be read, or holds something that isn't known.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} can't be read ({error}); mend or remove it.") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON ({error}); mend or remove it.") from error
    return parse(found, str(path))


def parse(found: object, name: str = FILE_NAME) -> Recipe:
    """:raises ModelError: one sentence that names the word and what it may be."""
    if not isinstance(found, dict):
        raise ModelError(f"{name} holds a {type(found).__name__}; it must be an object such as {{}}.")
    kinds: dict[str, type] = {name: type(value) for name, value in asdict(Recipe()).items()}
    for word, value in found.items():
        if word not in kinds:
            raise ModelError(f"{name} has {word!r}, which isn't known; it may have {', '.join(kinds)}.")
        _check(name, word, value, kinds[word])
    recipe = Recipe(**{word: kinds[word](value) for word, value in found.items()})
    if recipe.height < recipe.ink + recipe.again or recipe.widest < recipe.narrowest:
        raise ModelError(f"{name}: height must be at least ink and again, and widest at least narrowest.")
    return recipe


def _check(name: str, word: str, value: object, kind: type) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number if kind is float else isinstance(value, kind) and not isinstance(value, bool)
    if not fits:
        wanted = {int: "a whole number", float: "a number", str: "a word"}[kind]
        raise ModelError(f"{name}: {word} is {value!r}; it must be {wanted}.")
    if word in _CHOICES and value not in _CHOICES[word]:
        raise ModelError(f"{name}: {word} is {value!r}; it must be {' or '.join(map(repr, _CHOICES[word]))}.")
    if word in _RANGE and isinstance(value, int | float):
        least, most = _RANGE[word]
        if not least <= value <= most:
            raise ModelError(f"{name}: {word} is {value}; it must be between {least:g} and {most:g}.")
