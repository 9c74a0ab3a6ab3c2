"""What every engine that lives elsewhere has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from ..errors import ProcessError
from ..types import Generation, SamplingParams
from .handle import RemoteHandle
from .line import Address


class RemoteFront(ABC):
    """The part of `Engine` that follows from `submit`."""

    remote = True
    name: str
    address: Address

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
    ) -> RemoteHandle:
        """Queue a request and return at once; as `Engine.submit`. Pictures are opened here, under this side's limits.

        :raises RequestError: nothing was asked, or what the server can't take.
        :raises EngineClosedError: the server has gone, or the engine was closed.
        """

    @abstractmethod
    def close(self) -> None:
        """End this side's requests as cancelled. The server goes on. Twice is harmless."""

    def generate(
        self,
        prompt: Any = None,
        images: Sequence[Any] = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Submit and wait; as `Engine.generate`."""
        handle = self.submit(prompt, images, sampling, system=system)
        try:
            return handle.result(timeout)
        except BaseException:
            handle.cancel()
            raise

    async def agenerate(
        self,
        prompt: Any = None,
        images: Sequence[Any] = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
    ) -> Generation:
        """`generate` for async code. Cancelling the task cancels the request."""
        handle = self.submit(prompt, images, sampling, system=system)
        try:
            return await handle.aresult()
        except BaseException:
            handle.cancel()
            raise

    def forget(self) -> None:
        """The server's cache is everybody's: it stays."""
        return

    async def aclose(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise ProcessError("an engine can't be pickled; connect in the other process.")

    def __repr__(self) -> str:
        return f"<Engine {self.name} on {self.address.shown}>"
