"""What is read piece by piece: a request, or a page of several. One way to iterate and to wait, sync and async."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import anyio

from ..types import Delta, Generation, Usage

if TYPE_CHECKING:
    from .request import Progress

ASYNC_TICK_S = 0.02  # an async reader notices cancellation within this time
Answer = TypeVar("Answer", bound=Generation, covariant=True)


class Readable(ABC, Generic[Answer]):
    """Iterate it (also with `async for`) for the pieces of the answer."""

    @property
    @abstractmethod
    def number(self) -> int:
        """What it is known by, among this engine's."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether it has ended."""

    @property
    @abstractmethod
    def progress(self) -> Progress:
        """How far it is."""

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """The figures so far."""

    @abstractmethod
    def in_background(self) -> Self:
        """Let requests that somebody waits for go first."""

    @abstractmethod
    def cancel(self) -> None:
        """End it within one step; what was said so far is kept. From any thread."""

    @property
    @abstractmethod
    def settled(self) -> bool:
        """Whether the answer is there, or nobody is left who could end it."""

    @abstractmethod
    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        """(new pieces, whether the answer is complete), waiting at most `timeout` seconds for one."""

    @abstractmethod
    def result(self, timeout: float | None = None) -> Answer:
        """Wait for the end.

        :raises OmlxError: it failed.
        :raises TimeoutError: it didn't end in time; it goes on running.
        """

    def __iter__(self) -> Iterator[Delta]:
        """:raises OmlxError: it failed."""
        ended = False
        while not ended:
            items, ended = self.poll(None)
            yield from items
        self.result()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        ended = False
        while not ended:
            items, ended = self.poll()
            for item in items:
                yield item
            if not items and not ended:
                await anyio.sleep(ASYNC_TICK_S)
        self.result()

    async def aresult(self) -> Answer:
        """`result` for async code, under asyncio and trio."""
        while not self.settled:
            await anyio.sleep(ASYNC_TICK_S)
        return self.result()
