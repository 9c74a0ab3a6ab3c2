"""A request on the engine thread: its caches while it prefills, its text while it decodes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..types import Delta, FinishReason, TokenLogprob
from .phase import Phase
from .repetition import CHECK_EVERY, loop_period
from .request import Request
from .stops import StopMatcher

if TYPE_CHECKING:
    from .reuse import RowPrefix


@dataclass
class Slot:
    """What a decode batch keeps of a row besides its caches: where the token to feed next stands."""

    chosen: Any = None  # its Chosen, or the error that its sampler raised
    fresh: bool = True  # the token is still the prompt's last
    told: bool = False  # the token was handed out already
    token: Any = None  # (1,), while the row is put aside in mid-answer; else the batch has it


class Row:
    """Holds what only the engine thread touches."""

    def __init__(self, request: Request, model: Any, sampler: Any, stream: Any) -> None:
        self.request = request
        self.prompt = request.prompt.ready
        self.sampler = sampler
        self.cache: list[Any] | None = None  # per layer; None once it has joined the batch
        self.prefix: RowPrefix | None = None  # while the prefix cache follows the row
        self.images_done = 0  # pictures inside the restored prefix: never encoded
        self.features: list[Any] = []
        self.embeds: Any = None  # of the prompt that isn't restored; None for text models
        self.embeds_from = 0  # the prompt token at which `embeds` begins
        self.embedded = False
        self.positions: Any = None
        self.follows: Row | None = None  # the row that computes the beginning of this one's prompt right now
        self.follows_to = 0  # how many of its tokens have to be prefilled first
        self.followed = False  # that has happened: look the prefix up again
        self.slot = Slot()
        self.aside = 0  # bytes of its caches while it is put aside
        self.delta = 0
        self._end_tokens = model.end_tokens | set(request.wants.sampling.stop_token_ids)
        self._stream = stream
        self._stops = StopMatcher(request.wants.sampling.stop or ())
        self._again = list(request.answer.token_ids)  # said before the row was dropped: computed again, not said

    @property
    def last_prompt_token(self) -> int:
        return int(self.prompt.ids[-1])

    def accept(self, token: int, logprob: TokenLogprob | None) -> tuple[FinishReason, str] | None:
        """Take one sampled token; a pair of reason and detail when it ends the request."""
        request = self.request
        request.to(Phase.DECODE)
        if self._again:
            self._repeat(token)
            return None
        if not request.answer.token_ids:
            request.course.first_token_at = time.monotonic()
        request.answer.token_ids.append(token)
        if logprob is not None:
            request.answer.logprobs.append(logprob)
        if token in self._end_tokens:
            self._say(self._stops.feed(self._stream.finish()) + self._stops.finish(), token)
            return "stop", ""
        shown = self._stops.feed(self._stream.add(token))
        self._say(shown, token)
        if self._stops.matched is not None:
            return "stop", f"stop string {self._stops.matched!r}"
        count = len(request.answer.token_ids)
        if request.wants.stop_loops and count % CHECK_EVERY == 0 and loop_period(request.answer.token_ids):
            self.flush()
            return "stop", "the model repeated itself without end"
        if count >= request.max_tokens:
            self.flush()
            if request.prompt.cut_by == "context":
                return "length", f"the model's context of {request.prompt.tokens + count:,} tokens is full"
            if request.prompt.cut_by == "memory":
                return "length", f"the memory that there is for a request is full after {count:,} tokens"
            return "length", f"max_tokens ({request.max_tokens}) reached"
        return None

    def _repeat(self, token: int) -> None:
        """A token that was said before. The sampler is one of position and seed, so that it is the same."""
        known = self._again.pop(0)
        if token != known:
            raise RuntimeError(f"the answer went another way when it was computed again ({token} for {known})")
        self._stops.feed(self._stream.add(token))

    @property
    def nbytes(self) -> int:
        """Of its own caches: while it prefills, or is put aside."""
        return sum(_bytes_of(part) for part in self.cache or ())

    def flush(self) -> None:
        """Say what was held back, the beginning of a stop string. The answer was cut: half a character is left out."""
        self._say(self._stops.feed(self._stream.finish(cut=True)) + self._stops.finish(), None)

    def _say(self, text: str, token: int | None) -> None:
        if text:
            self.request.answer.text.append(text)
        if text or token is not None:
            self.request.events.put(Delta(text, () if token is None else (token,)))


def _bytes_of(part: Any) -> int:
    """Of a layer's cache, or of its keys and values where it was put aside."""
    return int(part.nbytes) if hasattr(part, "nbytes") else int(part.keys.nbytes + part.values.nbytes)
