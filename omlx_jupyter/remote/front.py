"""What every engine that lives elsewhere has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ..engine.front import Front
from ..errors import ProcessError
from ..types import SamplingParams
from .handle import RemoteHandle
from .line import Address


class RemoteFront(Front):
    """An engine whose model is elsewhere. `close` ends this side's requests alone; the server goes on."""

    remote = True
    name: str
    address: Address
    asked_for: tuple[str, str | None, str]  # name or address, model, where its key is: by whoever connected

    @abstractmethod
    def others(self) -> list[str]:
        """Who else is connected."""

    @abstractmethod
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
        """Queue a request and return at once; as `Engine.submit`. Pictures are opened here, under this side's limits.

        :raises RequestError: nothing was asked, or what the server can't take.
        :raises EngineClosedError: the server has gone, or the engine was closed.
        """

    def forget(self) -> None:
        """The server's cache is everybody's: it stays."""
        return

    def __reduce__(self) -> NoReturn:
        raise ProcessError("an engine can't be pickled; connect in the other process.")

    def __repr__(self) -> str:
        return f"<Engine {self.name} on {self.address.shown}>"
