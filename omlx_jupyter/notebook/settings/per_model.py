"""Settings kept per model, in `models.toml` of the user's configuration folder; what is edited there by hand stays.

["org/name"]
temperature = 0.2
think = "off"
alias = "q"
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ..plain import name as on_one_line
from .config import Omlx, config_file, read_toml
from .traits import Number, Words

if TYPE_CHECKING:
    from ...types import SamplingParams

ALIAS = "alias"
EMBEDDED = "tiny-ocr"
Values = dict[str, Any]


def _number(low: float, high: float, unit: str = "", whole: bool = False) -> Number:
    return Number(low, low, high, unit, "", whole=whole)


KINDS: dict[str, Number | Words] = {
    "temperature": _number(0, 10),
    "top_p": _number(0, 1),
    "top_k": _number(0, 1_000_000, whole=True),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.01, 100),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "max_tokens": _number(1, 10_000_000, "tokens", whole=True),
    "seed": _number(0, 2**53, whole=True),
    "think": Words("", among=("on", "off")),
    "think_budget": _number(0, 10_000_000, "tokens", whole=True),
}


def models_file() -> Path | None:
    """None: there is no configuration folder for this user."""
    place = config_file()
    return None if place is None else place.with_name("models.toml")


def kept() -> dict[str, Values]:
    """Every model's settings, checked.

    :raises UsageError: the file can't be read, or holds what doesn't fit; the sentence names it.
    """
    place = models_file()
    found: dict[str, Values] = {}
    for model, values in _entries(place).items():
        found[model] = {key: _checked(key, value, f"{key} of {model} in {place}") for key, value in values.items()}
    return found


def of(model: str) -> Values:
    """A model's settings, without its alias. What others have is not looked at.

    :raises UsageError: the file can't be read, or this model's settings don't fit.
    """
    place = models_file()
    values = _entries(place).get(model, {})
    return {key: _checked(key, value, f"{key} of {model} in {place}") for key, value in values.items() if key != ALIAS}


def resolve(model: str) -> str:
    """The model that an alias stands for; any other name as it is. :raises UsageError: the file can't be read."""
    return next((name for name, values in _entries(models_file()).items() if values.get(ALIAS) == model), model)


def change(model: str, changes: Mapping[str, str]) -> Values:
    """Set values given as text, take those out that are empty; the model's settings then.

    :raises UsageError: an unknown name, a value that doesn't fit, an alias in use, or a file that can't be written.
    """
    import tomlkit

    place, before = models_file(), kept()
    if place is None:
        raise UsageError("there is no configuration folder for this user; give the flags with each cell instead.")
    parsed = {key: _parsed(key, text) for key, text in changes.items()}
    if (alias := parsed.get(ALIAS)) and (owner := _owner(alias, before, model)):
        raise UsageError(f"{alias} is {owner} already; choose another alias.")
    if alias and (alias in (model, EMBEDDED) or "/" in alias or os.path.exists(alias)):
        raise UsageError(f"{alias} is the name of a model, or a file here; choose another alias.")
    document = tomlkit.parse(place.read_text(encoding="utf-8") if place.exists() else "")
    table = document.get(model)
    if table is None:
        table = document[model] = tomlkit.table()
    for key, value in parsed.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    if not table:
        del document[model]
    _write(place, tomlkit.dumps(document))
    return kept().get(model, {})


def _owner(alias: str, known: Mapping[str, Values], model: str) -> str:
    names = (name for name, values in known.items() if name != model and alias in (name, values.get(ALIAS)))
    return next(names, "")


def filled(sampling: SamplingParams, model: str) -> SamplingParams:
    """What is kept for a model, where a request and the settings of all models leave it open."""
    values = of(model)
    if not values:
        return sampling
    think = values.pop("think", None)
    taken = {key: value for key, value in values.items() if getattr(sampling, key) is None}
    if think is not None and sampling.think is None:
        taken["think"] = think == "on"
    if taken.get("think", sampling.think) is False:
        taken.pop("think_budget", None)
    return replace(sampling, **taken)


def for_model(config: Omlx, sampling: SamplingParams, model: str, thinks: bool) -> SamplingParams:
    """A request's own words, then `%config`'s, then what is kept for its model; thoughts only where it `thinks`."""
    made = filled(config.with_thinking(sampling, thinks), model)
    return made if thinks else replace(made, think=sampling.think, think_budget=sampling.think_budget)


def sources(config: Omlx, model: str, defaults: SamplingParams) -> list[tuple[str, Any, str]]:
    """(setting, value, where it comes from) of each that a request of `model` has where its cell says nothing."""
    values, rows = of(model), []
    said = {"temperature": config.temperature >= 0, "max_tokens": config.max_tokens > 0, "think": bool(config.think)}
    said["think_budget"] = config.think_budget >= 0
    for key in KINDS:
        if said.get(key):
            rows.append((key, getattr(config, key), f"Omlx.{key} ({config.origins.get(key, 'default')})"))
        elif key in values:
            rows.append((key, values[key], "%omlx set"))
        elif getattr(defaults, key) is not None:
            rows.append((key, getattr(defaults, key), "the checkpoint"))
    return rows


def _parsed(key: str, text: str) -> Any:
    """:raises UsageError: no such setting, or a value that doesn't fit."""
    if text.strip() == "":
        return None
    if key == ALIAS:
        return _checked(key, text.strip(), ALIAS)
    kind = KINDS.get(key)
    return _checked(key, text if kind is None else kind.read(text.strip()), key)


def _checked(key: str, value: object, where: str) -> Any:
    if key == ALIAS:
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 100 or " " in value:
            raise UsageError(f"{on_one_line(where)} is {on_one_line(value)!r}; an alias is one word.")
        return value
    if key not in KINDS:
        raise UsageError(f"{on_one_line(where)} is no setting of a model; there are {', '.join((*KINDS, ALIAS))}.")
    return KINDS[key].checked(value, on_one_line(where))


def _entries(place: Path | None) -> dict[str, Mapping[str, Any]]:
    """What stands below each model's name, unchecked. :raises UsageError: it can't be read, or a value stands alone."""
    read = read_toml(place)
    if alone := [name for name, values in read.items() if not isinstance(values, Mapping)]:
        raise UsageError(f'{place}: {on_one_line(alone[0])} stands alone; settings stand below ["org/name"].')
    return read


def _write(place: Path, text: str) -> None:
    """Whole or not at all. :raises UsageError: it can't be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".models-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise UsageError(f"{place} can't be written ({error.strerror}); make its folder writable.") from None
