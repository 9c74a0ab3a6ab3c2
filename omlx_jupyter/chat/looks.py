"""A piece of a page that is read again, a little larger, where the first answer is doubtful.

Small type read wrong is wrong in another way at another size, and the right answer is the more probable one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from ..engine.request import RequestHandle
from ..errors import OmlxError
from ..types import Delta, Generation, TokenLogprob
from .several import Several

if TYPE_CHECKING:
    from ..reading.recipe import Recipe
    from ..reading.types import Piece

_ALIKE = 0.25  # of the longer answer's characters may differ, or the look saw something else
Submit = Callable[[np.ndarray, str], RequestHandle]  # pixels (h, w, 3) uint8, and what they probably say


class Looks(Several[Generation]):
    """One piece's answer. What is read again is queued when somebody asks after the first look's end."""

    def __init__(self, submit: Submit, piece: Piece, recipe: Recipe, hint: str) -> None:
        self._submit, self._piece, self._recipe = submit, piece, recipe
        self._first = submit(piece.pixels, hint)
        super().__init__([self._first], time.monotonic())
        self._decided = self._background = False

    @property
    def done(self) -> bool:
        self._look_again()
        return super().done

    @property
    def settled(self) -> bool:
        self._look_again()
        return super().settled

    def in_background(self) -> Self:
        self._background = True
        return super().in_background()

    def cancel(self) -> None:
        self._decided = True
        super().cancel()

    def poll(self, timeout: float | None = 0.0) -> tuple[list[Delta], bool]:
        """Nothing but whether it has ended: which look is told is known then."""
        return [], self.wait(timeout)

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the end.

        :raises OmlxError: the first look failed.
        :raises TimeoutError: it didn't end in time; it goes on running.
        """
        if self._result is None:
            if not self.wait(timeout):
                raise TimeoutError(f"request {self.number} is still running after {timeout} s")
            seen = [self._first.result()]
            for handle in self._handles[1:]:
                try:
                    seen.append(handle.result())
                except OmlxError:  # the first look stands
                    continue
            self._result = replace(chosen(seen), usage=self.sums()) if len(seen) > 1 else seen[0]
        return self._result

    def _look_again(self) -> None:
        if self._decided or not self._first.settled:
            return
        self._decided = True
        try:
            read = self._first.result()
            if not doubtful(read, self._recipe):
                return
            for taller in range(1, self._recipe.again + 1):
                handle = self._submit(self._piece.drawn(self._recipe.ink + taller), read.text)
                self._handles.append(handle.in_background() if self._background else handle)
        except OmlxError:  # of the first look, which `result` raises; or the engine was closed meanwhile
            return


def doubtful(read: Generation, recipe: Recipe) -> bool:
    """Whether an answer is worth another look: words, and neither certain nor what strokes are taken for, which must
    not become more probable by being looked at more often."""
    from ..reading.sure import is_sure

    if not recipe.again or read.finish_reason != "stop":
        return False
    sure = mean_logprob(read)
    return sure < recipe.doubt and is_sure(read.text, sure, recipe)


def chosen(seen: Sequence[Generation]) -> Generation:
    """The most probable of answers that say nearly what the first one says."""
    first = seen[0]
    able = [
        read for read in seen[1:] if read.finish_reason == "stop" and read.logprobs and alike(first.text, read.text)
    ]
    return max((first, *able), key=mean_logprob)


def alike(one: str, other: str) -> bool:
    """Whether two answers can be of the same line."""
    from difflib import SequenceMatcher

    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= 1 - _ALIKE


def mean_logprob(read: Generation) -> float:
    """Of an answer's tokens; 0 where there are none."""
    return mean(read.logprobs or ())


def mean(logprobs: Sequence[TokenLogprob]) -> float:
    """0 where there are none."""
    return sum(item.logprob for item in logprobs) / len(logprobs) if logprobs else 0.0
