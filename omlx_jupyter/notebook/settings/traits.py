"""Kinds of settings: each knows its range and unit, and says in one sentence what is wrong with a value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import traitlets
from IPython.core.error import UsageError

from ..plain import name as on_one_line

_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class _Setting:
    """What the kinds share: a value that doesn't fit is refused by a sentence, not by traitlets' own words."""

    name: str | None
    default_value: Any
    _expected = ""

    def wanted(self) -> str:
        """What may be given, in words: `a whole number from 1 to 65,536 MiB`."""
        return self._expected

    def fits(self, value: object) -> Any:
        """The value as it is kept; None where it doesn't fit."""
        raise NotImplementedError

    def validate(self, obj: object, value: object) -> Any:
        """:raises UsageError: it doesn't fit."""
        return self.checked(value, f"Omlx.{self.name}")

    def checked(self, value: object, where: str) -> Any:
        """The value as it is kept. `where` names the place that sets it.

        :raises UsageError: it doesn't fit.
        """
        kept = self.fits(value)
        if kept is None:
            given = on_one_line(repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}…")
            raise UsageError(f"{where} is {given}; set it to {self.wanted()}.")
        return kept

    def parsed(self, text: str, where: str) -> Any:
        """The value of a text, from the environment.

        :raises UsageError: it doesn't fit.
        """
        return self.checked(self.read(text.strip()), where)

    def from_string(self, text: str) -> Any:
        return self.parsed(text, f"Omlx.{self.name}")

    def read(self, text: str) -> Any:
        return text


class Number(_Setting, traitlets.TraitType):
    """A number within bounds; `special` are single values with a meaning of their own."""

    def __init__(
        self,
        default: float,
        low: float,
        high: float,
        unit: str,
        help: str,
        special: dict[float, str] | None = None,
        whole: bool = True,
    ) -> None:
        self.low, self.high, self.unit, self.whole = low, high, unit, whole
        self.special = special or {}
        super().__init__(default, help=f"{help} {self.wanted()[:1].upper()}{self.wanted()[1:]}.")
        self.tag(config=True)

    def wanted(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        more = "".join(f", or {value:g} for {meaning}" for value, meaning in self.special.items())
        return f"{kind} from {self.low:,g} to {self.high:,.16g}{f' {self.unit}' if self.unit else ''}{more}"

    def fits(self, value: object) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if self.whole and value != int(value):
            return None
        if not self.low <= value <= self.high and value not in self.special:
            return None
        return int(value) if self.whole else float(value)

    def read(self, text: str) -> Any:
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            return text


class Switch(_Setting, traitlets.TraitType):
    """True or False."""

    _expected = "True or False"

    def __init__(self, default: bool, help: str) -> None:
        super().__init__(default, help=help)
        self.tag(config=True)

    def fits(self, value: object) -> Any:
        return value if isinstance(value, bool) else None

    def read(self, text: str) -> Any:
        return _WORDS.get(text.lower(), text)


class Words(_Setting, traitlets.TraitType):
    """Text on one line; `names`: names of Python functions, with commas between; `among`: one of these or empty."""

    def __init__(self, help: str, names: bool = False, folder: bool = False, among: tuple[str, ...] = ()) -> None:
        self.names, self.folder, self.among = names, folder, among
        super().__init__("", help=help)
        self.tag(config=True)

    def wanted(self) -> str:
        if self.names:
            return "names of functions with commas between, such as 'zoom,search'"
        if self.among:
            return f"{', '.join(map(repr, self.among))} or ''"
        return "the path of a folder, not of a file" if self.folder else "one line of text of up to 4,096 characters"

    def fits(self, value: object) -> Any:
        if self.folder and isinstance(value, Path):
            value = str(value)
        if not isinstance(value, str) or len(value) > 4096 or not (value.isprintable() or value == ""):
            return None
        if self.names and not all(word.strip().isidentifier() for word in value.split(",") if word.strip()):
            return None
        if self.among and value not in ("", *self.among):
            return None
        return None if self.folder and value and _is_file(value) else value


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no home folder to expand ~ to, or no permission to look
        return False
