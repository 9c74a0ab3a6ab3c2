"""What every engine has in common, wherever its model lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import anyio
import anyio.to_thread

from ..types import Generation, Message, SamplingParams
from .readable import Readable

if TYPE_CHECKING:
    from ..images.grounding import Grounding
    from ..types import Tools
    from .lanes import Finished, Lane
    from .stats import Capabilities, EngineStats


class FoundCall(Protocol):
    """A tool call in an answer; `arguments` is a JSON object as text."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class BegunCall(FoundCall, Protocol):
    """One of an answer that goes on; `arguments` is what its JSON begins with, until it is `whole`."""

    @property
    def whole(self) -> bool: ...


class TakenApart(Protocol):
    """An answer without its calls. `note` says what was malformed; the text then holds it as it came."""

    @property
    def text(self) -> str: ...
    @property
    def calls(self) -> Sequence[FoundCall]: ...
    @property
    def note(self) -> str: ...


class FindsCalls(Protocol):
    """A parser of a model's own format of tool calls, as far as chat uses it."""

    @property
    def starts(self) -> Sequence[str]: ...
    @property
    def begins(self) -> tuple[str, ...]: ...
    @property
    def start_id(self) -> int | None: ...
    @property
    def style(self) -> str: ...
    def grammar(self, tools: Sequence[Mapping[str, object]], several: bool) -> str | None: ...
    def begun(self, token_ids: Sequence[int], tools: Tools = None) -> Sequence[BegunCall]: ...


class Handle(Readable[Generation]):
    """A request that runs somewhere."""

    @abstractmethod
    def detach(self) -> Self:
        """Let the request run to its end though nobody holds its handle."""


class Speaks(Protocol):
    """An engine whose model's tokens and tool calls are known here: what OpenAI's shapes are made over."""

    @property
    def name(self) -> str: ...
    @property
    def tool_parser(self) -> FindsCalls: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...
    def parse_tools(self, result: Generation, tools: Tools = None) -> TakenApart: ...
    def submit(
        self,
        prompt: list[Message],
        images: object = (),
        sampling: SamplingParams | None = None,
        *,
        tools: Sequence[object] | None = None,
        chat_template_kwargs: Mapping[str, object] | None = None,
        hint: str = "",
        begin: str = "",
    ) -> Handle: ...


class Front(ABC):
    """What is known of every engine, and the part of it that follows from `submit` and `close`."""

    name: str
    family: str
    path: str | Path  # what makes its answers: a checkpoint's folder, or a server's word for it
    is_ocr: bool
    sees: bool
    thinks: bool  # its thoughts can be told from its answers
    context: int  # tokens; 0 is unknown
    drafter: str  # the one that was named, "" is none
    warnings: tuple[str, ...]

    if TYPE_CHECKING:  # an attribute of some, a property of others

        @property
        def grounding(self) -> Grounding:
            """How the model counts places in pictures."""

    @abstractmethod
    def submit(
        self,
        prompt: str | Sequence[Message] | None = None,
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
    ) -> Handle:
        """Queue a request and return at once."""

    @abstractmethod
    def close(self) -> None:
        """End what runs as cancelled. Twice is harmless."""

    @abstractmethod
    def parse_tools(self, result: Generation, tools: Tools = None) -> TakenApart:
        """An answer's text and tool calls, in the model's own format."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """Its figures; state `closed` where it has gone."""

    @abstractmethod
    def requests(self) -> list[Lane]:
        """Requests that aren't finished, in order of arrival."""

    @abstractmethod
    def recent(self) -> list[Finished]:
        """The last that finished, newest first."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the model may do, and why not.

        :raises EngineClosedError: the engine was closed, or the server has gone.
        """

    @abstractmethod
    def forget(self) -> None:
        """Empty the prefix cache's RAM tier, where it is this engine's own."""

    @abstractmethod
    def forget_proofs(self) -> None:
        """Let the next load of this model show anew what it may do."""

    def token_ends(self, token_ids: Sequence[int]) -> list[int] | None:
        """How many characters of their text stand before each token's end; of a character that is cut between two
        tokens, at its begin. None: this engine's tokens aren't known."""
        return None

    def generate(
        self,
        prompt: str | Sequence[Message] | None = None,
        images: Sequence[object] = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Submit and wait. Ctrl-C cancels the request.

        :raises OmlxError: the request failed.
        :raises TimeoutError: no answer in time; the request is cancelled.
        """
        handle = self.submit(prompt, images, sampling, system=system)
        try:
            return handle.result(timeout)
        except BaseException:
            handle.cancel()
            raise

    async def agenerate(
        self,
        prompt: str | Sequence[Message] | None = None,
        images: Sequence[object] = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
    ) -> Generation:
        """`generate` for async code (asyncio or trio). Cancelling the task cancels the request."""
        handle = self.submit(prompt, images, sampling, system=system)
        try:
            return await handle.aresult()
        except BaseException:
            handle.cancel()
            raise

    async def aclose(self) -> None:
        await anyio.to_thread.run_sync(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
