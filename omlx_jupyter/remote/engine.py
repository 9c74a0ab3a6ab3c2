"""An engine on a server of ours, with the front of the kernel's own."""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import EngineClosedError, ProcessError, RequestError
from ..images.grounding import Grounding
from ..types import Generation, Message, SamplingParams
from . import wire
from .channel import Channel
from .front import RemoteFront
from .handle import Asked, RemoteHandle
from .line import OPENS_S, Address, Line
from .parser import RemoteParser, Taken

if TYPE_CHECKING:
    from ..chat.completions import Chat
    from ..chat.responses import AsyncResponses, Responses
    from ..engine.lanes import Finished, Lane
    from ..engine.stats import Capabilities, EngineStats
    from ..images.decoded import DecodedImage
    from ..images.limits import Limits
    from ..reading.recipe import Recipe

_LOAD_S = 1800.0  # a model may have to be loaded first
_FRESH_S = 0.1  # a look at the server's figures serves all who ask within this time


class RemoteEngine(RemoteFront):
    """A model that a server holds; see `Engine`. Safe to use from any thread and from async code, not after a fork."""

    def __init__(self, address: Address, model: str | None = None, image_limits: Limits | None = None) -> None:
        """:raises EngineClosedError: nobody answers there.
        :raises RequestError: the token is missing or wrong, or the server has no such model."""
        self._line = Line(address)
        self._line.ask("GET", "/health", timeout=OPENS_S)
        path = f"{wire.ROOT}/hello" + (f"?model={quote(model, safe='')}" if model else "")
        try:
            said = wire.hello_in(self._line.told(self._line.ask("GET", path, timeout=_LOAD_S)))
        except ValueError:
            raise RequestError(f"{address.shown} is no server of omlx_jupyter.") from None
        self.hello, self.address, self._pid = said, address, os.getpid()
        self.name, self.family, self.drafter, self.warnings = said.name, said.family, said.drafter, said.warnings
        self.is_ocr, self.sees, self.thinks, self.context = said.is_ocr, said.sees, said.thinks, said.context
        self.path = said.identity  # what makes its answers; its files lie elsewhere
        self._image_limits = image_limits
        self._channel = Channel(self._line, said.name, _who(), said.max_body)
        self._look: tuple[float, wire.Item] | None = None
        self._looking = threading.Lock()
        self.tool_parser = RemoteParser(self._line, said)
        weakref.finalize(self, _close, self._channel, self._line).atexit = False

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
    ) -> RemoteHandle:
        from ..chat.messages import checked_system, conversation, tool_schemas
        from ..chat.parts import checked_text
        from ..engine.prompt import as_messages, refuse_endless

        if os.getpid() != self._pid:
            raise ProcessError("an engine can't be used in a forked child; connect anew there.")
        _check_beginning(begin, sampling or SamplingParams())
        messages = as_messages(conversation(prompt), images, checked_system(system))
        refuse_endless(messages, self.name, self.hello.context)
        asked = Asked()
        fields: wire.Item = {
            "id": asked.number,
            "sampling": wire.sampling_out(sampling),
            "tools": tool_schemas(tools),
            "words": dict(chat_template_kwargs or {}),
            "draft": draft,
            "hint": hint,
            "begin": checked_text(begin, "the answer's beginning"),
            "group": group,
        }
        self._channel.submit(asked, partial(self._prepared, fields, messages))
        return RemoteHandle(asked, self._channel.tell)

    submit.__doc__ = RemoteFront.submit.__doc__

    def _prepared(self, fields: wire.Item, messages: Sequence[Message]) -> tuple[wire.Item, dict[str, DecodedImage]]:
        """(what is asked, its pictures by their digests). On a worker's thread.

        :raises ImageError: a picture can't be opened.
        """
        from ..images.source import open_images

        pictures: dict[str, DecodedImage] = {}

        def take(source: object) -> list[DecodedImage]:
            found = [image.shrunk_to(self.hello.pixel_budget) for image in open_images(source, self._limits)]
            pictures.update((image.digest, image) for image in found)
            return found

        return {**fields, "messages": wire.messages_out(messages, take)}, pictures

    @cached_property
    def _limits(self) -> Limits:
        from ..images.limits import Limits

        return replace(self._image_limits or Limits(), pixel_budget=self.hello.pixel_budget)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return str(self._ask("decode", {"token_ids": list(token_ids)})["text"])

    def token_ends(self, token_ids: Sequence[int]) -> list[int]:
        return list(self._ask("token-ends", {"token_ids": list(token_ids)})["ends"])

    token_ends.__doc__ = RemoteFront.token_ends.__doc__

    def parse_tools(self, result: Generation, tools: Sequence[object] | None = None) -> Taken:
        """An answer's text and tool calls, in the model's own format."""
        return self.tool_parser.parsed(result, tools)

    def _ask(self, what: str, body: wire.Item) -> Any:
        return self._line.told(self._line.ask("POST", f"{wire.ROOT}/{what}", {"model": self.name, **body}))

    @property
    def recipe(self) -> Recipe | None:
        """How the checkpoint wants pages read, or None."""
        from ..reading.recipe import Recipe

        return None if self.hello.recipe is None else Recipe(**self.hello.recipe)

    @property
    def grounding(self) -> Grounding:
        """How the model counts places in pictures."""
        return Grounding(**self.hello.grounding)

    def look(self) -> wire.Item:
        """The server's figures, its requests and who else is connected.

        :raises EngineClosedError: the server has gone.
        """
        with self._looking:
            now = time.monotonic()
            if self._look is None or now - self._look[0] > _FRESH_S:
                path = f"{wire.ROOT}/stats?model={quote(self.name, safe='')}"
                self._look = now, self._line.told(self._line.ask("GET", path, timeout=5.0))
            return self._look[1]

    def stats(self) -> EngineStats:
        """The server's figures; state `closed` where it has gone."""
        from . import figures

        try:
            return figures.stats_in(self.look()["stats"])
        except EngineClosedError:
            return figures.closed(self.name)

    def requests(self) -> list[Lane]:
        """The server's requests that aren't finished, whoever asked."""
        from . import figures

        return figures.lanes_in(self._seen("requests"))

    def recent(self) -> list[Finished]:
        from . import figures

        return figures.finished_in(self._seen("recent"))

    def others(self) -> list[str]:
        """Who else is connected."""
        return [name for name in self._seen("sessions") if name != _who()]

    def _seen(self, key: str) -> list[Any]:
        try:
            return list(self.look()[key])
        except EngineClosedError:
            return []

    @property
    def capabilities(self) -> Capabilities:
        """:raises EngineClosedError: the server has gone."""
        from . import figures

        return figures.capabilities_in(self._ask("capabilities", {}))

    def forget_proofs(self) -> None:
        """:raises RequestError: always; the server's models are its own."""
        raise RequestError("the model is a server's; what it may do is shown where it is loaded.")

    @property
    def chat(self) -> Chat:
        """`engine.chat.completions.create(messages=[...])`, with the `openai` package's types."""
        from ..chat.completions import Chat, Completions

        return Chat(Completions(self))

    @property
    def async_chat(self) -> Chat:
        from ..chat.completions import AsyncCompletions, Chat

        return Chat(AsyncCompletions(self))

    @property
    def responses(self) -> Responses:
        from ..chat.responses import Responses

        return Responses(self)

    @property
    def async_responses(self) -> AsyncResponses:
        from ..chat.responses import AsyncResponses

        return AsyncResponses(self)

    def close(self) -> None:
        _close(self._channel, self._line)


def _close(channel: Channel, line: Line) -> None:
    channel.close()
    line.close()


def _who() -> str:
    """How others see this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _check_beginning(begin: str, sampling: SamplingParams) -> None:
    """:raises RequestError: an answer's beginning and a grammar for it."""
    if begin and (sampling.json_schema is not None or sampling.lark is not None):
        raise RequestError("an answer's beginning and a schema for it exclude each other; leave one out.")
