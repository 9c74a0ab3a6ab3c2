"""The public engine: the batching engine, and what chat adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ..engine.engine import Engine as _Engine
from ..engine.request import RequestHandle
from ..types import SamplingParams
from .completions import AsyncCompletions, Chat, Completions
from .messages import checked_system, conversation
from .parts import checked_text
from .responses import AsyncResponses, Responses

if TYPE_CHECKING:
    from ..engine.front import Front
    from ..reading.recipe import Recipe


class Engine(_Engine):
    __doc__ = _Engine.__doc__

    def submit(
        self,
        prompt: object = None,
        images: object = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
        tools: Sequence[object] | None = None,
        chat_template_kwargs: Mapping[str, object] | None = None,
        draft: bool = True,
        hint: str = "",
        begin: str = "",
        group: int = 0,
    ) -> RequestHandle:
        return super().submit(
            conversation(prompt),
            images,
            sampling,
            system=checked_system(system),
            tools=tools,
            chat_template_kwargs=chat_template_kwargs,
            draft=draft,
            hint=hint,
            begin=checked_text(begin, "the answer's beginning"),
            group=group,
        )

    submit.__doc__ = _Engine.submit.__doc__

    @property
    def recipe(self) -> Recipe | None:
        """How the checkpoint wants pages read; None if it says nothing.

        :raises ModelError: its reading.json is damaged.
        """
        from ..reading.recipe import recipe_of

        return recipe_of(self.path)

    @staticmethod
    def connect(name_or_url: str = "main", model: str | None = None, *, key: str = "") -> Front:
        """An engine that lives elsewhere, with the same front: a server of this user by its name
        (`python -m omlx_jupyter serve --name NAME`), or any by its address. See `omlx_jupyter.connect`, which is the
        same and doesn't import what an engine of this process needs."""
        made: Front = import_module("omlx_jupyter.remote.connect").connect(name_or_url, model, key=key)
        return made

    @property
    def chat(self) -> Chat:
        """`engine.chat.completions.create(messages=[...])`, with the `openai` package's types."""
        return Chat(Completions(self))

    @property
    def responses(self) -> Responses:
        """`engine.responses.create(input=...)`: the Responses shape, as far as it maps."""
        return Responses(self)

    @property
    def async_responses(self) -> AsyncResponses:
        """The same, awaited."""
        return AsyncResponses(self)

    @property
    def async_chat(self) -> Chat:
        """The same, awaited: `await engine.async_chat.completions.create(...)`."""
        return Chat(AsyncCompletions(self))
