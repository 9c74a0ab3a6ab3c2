"""`%omlx settings` and `%omlx set`: what is set, where from, and what is kept for a model."""

from __future__ import annotations

from IPython.core.error import UsageError

from ..plain import name, tell
from ..settings import per_model
from ..settings.config import settings, table_of_settings
from ..work import session


def show(rest: list[str]) -> None:
    """%omlx settings: every setting, its value and where it comes from; below, those of the model's requests."""
    tell(table_of_settings())
    engine = session.current_engine()
    if engine is None:
        return
    rows = per_model.sources(settings(), engine.name, engine.capabilities.sampling)
    tell(f"\nRequests of {name(engine.name)}, where a cell says nothing else:\n")
    tell("| setting | value | from |\n|---|---|---|")
    for key, value, source in rows:
        tell(f"| `{key}` | {name(value)} | {source} |")


def change(rest: list[str]) -> None:
    """%omlx set [MODEL] KEY=VALUE ...: keep settings for a model. Without a model: for the loaded one."""
    words = [word for word in rest if "=" in word]
    models = [word for word in rest if "=" not in word]
    engine = session.current_engine()
    if len(models) > 1:
        raise UsageError("%omlx set takes one model, then settings like temperature=0.2 think=off.")
    if not models and engine is None and not settings().model:
        raise UsageError("%omlx set needs a model while none is loaded: %omlx set org/name temperature=0.2")
    model = per_model.resolve(models[0]) if models else engine.name if engine else settings().model
    values = per_model.change(model, dict(_pair(word) for word in words)) if words else per_model.kept().get(model, {})
    if not values:
        tell(f"Nothing is kept for {name(model)}.")
    for key, value in values.items():
        tell(f"{name(model)}: {key} = {name(value)}")


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key, "" if value == "default" else value
