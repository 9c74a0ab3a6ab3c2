"""How far a fault goes: one request, the cache, or the running batch, and never further."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar, cast

from ..errors import EngineFaultError, OmlxError

if TYPE_CHECKING:
    from .row import Row

_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class FaultCounts:
    """Faults since the engine was loaded, by what they cost. Errors of ours aren't faults."""

    requests: int = 0
    cache: int = 0
    batches: int = 0


class Guard:
    """The engine thread's boundaries. A narrower one lies inside a wider one and takes the fault first.

    - `request`: validation, prefill, sampling, text, stops, delivery: that request ends with its error.
    - `cache` (see `costs_the_cache`): a read becomes a miss, a write is dropped; answers are unchanged.
    - `batch`: whatever no narrower boundary took, such as a fault of the device: the running requests
      end with one sentence, and the next request starts a fresh batch.
    """

    def __init__(self) -> None:
        self.counts = FaultCounts()
        self._told = False

    @contextmanager
    def request(self, end: Callable[[BaseException], None]) -> Iterator[None]:
        """`end(error)` is called where something inside raises."""
        try:
            yield
        except BaseException as error:  # a panic in Rust is no Exception
            if not isinstance(error, OmlxError):
                self.counts = replace(self.counts, requests=self.counts.requests + 1)
            end(error)
            release(error)

    @contextmanager
    def batch(self, end: Callable[[EngineFaultError], None]) -> Iterator[None]:
        """`end(error)` is called with one sentence where something inside raises."""
        try:
            yield
        except BaseException as error:
            self.counts = replace(self.counts, batches=self.counts.batches + 1)
            _log.warning("the engine met a fault and begins a fresh batch", exc_info=error)
            end(batch_fault(error))
            release(error)

    def cache(self, error: BaseException) -> None:
        """Note a fault of the cache; the first one is told, the others are counted."""
        self.counts = replace(self.counts, cache=self.counts.cache + 1)
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        _log.log(level, "a fault of the prefix cache (%s); answers go on without it", error, exc_info=error)


class NotFiniteError(EngineFaultError):
    """A row's logits hold what is no number."""

    def __init__(self) -> None:
        super().__init__("the model computed what is no number; send the request again, or load other weights.")


def batch_fault(error: BaseException) -> EngineFaultError:
    return EngineFaultError(
        f"the engine met a fault while it computed ({type(error).__name__}: {error}); "
        "the requests that ran were ended, send them again."
    )


def release(error: BaseException) -> None:
    """Free what the frames of a caught fault hold: arrays as large as a row, else kept by whoever keeps the error."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


class Guarded(Protocol):
    """Who may use `costs_the_cache`: `detach(row)` parts a row from the cache."""

    guard: Guard

    def detach(self, row: Row) -> None: ...


G = TypeVar("G", bound=Guarded)


def costs_the_cache(
    fallback: object,
) -> Callable[[Callable[Concatenate[G, Row, P], R]], Callable[Concatenate[G, Row, P], R]]:
    """For methods of a row whose faults are the cache's: the row goes on without it, `fallback` is returned."""

    def decorate(method: Callable[Concatenate[G, Row, P], R]) -> Callable[Concatenate[G, Row, P], R]:
        @functools.wraps(method)
        def guarded(self: G, row: Row, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return method(self, row, *args, **kwargs)
            except BaseException as error:
                self.guard.cache(error)
                self.detach(row)
                release(error)
                return cast(R, fallback)

        return guarded

    return decorate
