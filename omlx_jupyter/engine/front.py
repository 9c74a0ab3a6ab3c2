"""What every engine has in common, wherever its model lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from ..types import Generation, Message, SamplingParams
from .readable import Readable


class Handle(Readable[Generation]):
    """A request that runs somewhere."""

    @abstractmethod
    def cancel(self) -> None:
        """End the request within one step; what was said so far is kept. From any thread."""


class Front(ABC):
    """The part of an engine that follows from `submit` and `close`."""

    @abstractmethod
    def submit(
        self,
        prompt: Any = None,
        images: Any = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
        tools: Any = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        draft: bool = True,
        hint: str = "",
        begin: str = "",
        group: int = 0,
    ) -> Handle:
        """Queue a request and return at once."""

    @abstractmethod
    def close(self) -> None:
        """End what runs as cancelled. Twice is harmless."""

    def token_ends(self, token_ids: Sequence[int]) -> list[int] | None:
        """How many characters of their text stand before each token's end; of a character that is cut between two
        tokens, at its begin. None: this engine's tokens aren't known."""
        return None

    def generate(
        self,
        prompt: str | Sequence[Message] | None = None,
        images: Sequence[Any] = (),
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
        images: Sequence[Any] = (),
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
