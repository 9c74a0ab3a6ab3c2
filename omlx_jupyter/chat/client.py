"""The public engine: the batching engine, and what chat adds to it."""

from __future__ import annotations

from functools import cached_property

from ..engine.engine import Engine as _Engine
from .completions import AsyncCompletions, Chat, Completions


class Engine(_Engine):
    __doc__ = _Engine.__doc__

    @cached_property
    def chat(self) -> Chat:
        """`engine.chat.completions.create(messages=[...])`, with the `openai` package's types."""
        return Chat(Completions(self))

    @cached_property
    def async_chat(self) -> Chat:
        """The same, awaited: `await engine.async_chat.completions.create(...)`."""
        return Chat(AsyncCompletions(self))
