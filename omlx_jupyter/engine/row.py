"""A request on the engine thread: its caches while it prefills, its text while it decodes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..models.thinking import Thoughts
from ..models.tokenizer import TextStream
from ..types import Delta, FinishReason, TokenLogprob
from .phase import Phase
from .repetition import CHECK_EVERY, loop_period
from .request import Request
from .stops import StopMatcher

if TYPE_CHECKING:
    from ..models.drafter import Heard
    from ..models.loaded import LoadedModel
    from ..models.sampling import RowSampler
    from ..models.shapes import Cache
    from .drafts import Draft, RowDrafts
    from .reuse import RowPrefix


_ALL_THOUGHT = "the answer ended inside its thought"


@dataclass
class Slot:
    """What a decode batch keeps of a row besides its caches: where the token to feed next stands."""

    chosen: Any = None  # its Chosen, or the error that its sampler raised
    fresh: bool = True  # the token is still the prompt's last
    told: bool = False  # the token was handed out already
    token: Any = None  # (1,), while the row is put aside in mid-answer; else the batch has it


class Row:
    """Holds what only the engine thread touches."""

    def __init__(self, request: Request, model: LoadedModel, sampler: RowSampler) -> None:
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
        self.fed = 0  # tokens that its caches have, once it was put aside
        self.aside = 0  # bytes of its caches while it is put aside
        self.failed: Exception | None = None  # its guide's fault, which ends the request at the next step
        self.drafts: RowDrafts | None = None  # what may come next, where it is known from elsewhere
        self.heard: Heard | None = None  # what a drafter model knows of the row, where one follows it
        self.delta = 0
        self._end_tokens = model.end_tokens | set(request.wants.sampling.stop_token_ids)
        self._stream = TextStream(model.tokenizer)
        self._thoughts = Thoughts(model.tokenizer.markers, request.prompt.thinking)
        self._reasons = False  # the last token was one of the thought
        self._stops = StopMatcher(request.wants.sampling.stop or ())

    @property
    def last_prompt_token(self) -> int:
        return int(self.prompt.ids[-1])

    # -- its guide --------------------------------------------------------------------------

    @property
    def waits_for_guide(self) -> bool:
        """Whether the next token can't be chosen before the last one is known."""
        guide = self.sampler.guide
        return guide is not None and guide.waits(len(self.request.answer.token_ids) + (not self.slot.told))

    def follow_to(self, last: int | None) -> bool:
        """Bring the guide up to the token to feed next. False: the answer can't go on, which its reader is told."""
        guide = self.sampler.guide
        if guide is None or self.slot.fresh:
            return True
        try:
            guide.follow(self.request.answer.token_ids, None if self.slot.told else last)
        except Exception as error:
            self.failed = error
            return False
        return True

    # -- its drafts -------------------------------------------------------------------------

    @property
    def last_known(self) -> bool:
        """Whether the token to feed next was heard here already."""
        return self.slot.fresh or self.slot.told

    @property
    def chosen(self) -> int:
        """Tokens of the answer, the one to feed next included."""
        return len(self.request.answer.token_ids) + (not self.last_known)

    def draft_room(self, widest: int) -> int:
        """The most tokens that a draft may have."""
        guide = self.sampler.guide
        if guide is not None and guide.answer_waits:
            return 0  # penalties are about to begin anew
        return max(0, min(widest - 1, self.request.max_tokens - self.chosen - 1))

    def offer(self, widest: int, last: int | None = None) -> Draft | None:
        """What may follow; `last` is the token to feed next, where it wasn't heard yet. None: nothing is worth it."""
        if self.drafts is None:
            return None
        most, chosen = self.draft_room(widest), self.chosen
        guide = self.sampler.guide
        if guide is not None and (guide.answer_waits or (guide.waits(chosen) and not self.last_known and last is None)):
            return None  # or the guide has to know the last token first
        if guide is not None and guide.waits(chosen) and self.follow_to(last):
            certain = guide.certain()[:most]
            if certain:
                return self.drafts.certain(certain)
        return self.drafts.offer(most, last)

    # -- its text ---------------------------------------------------------------------------

    def accept(self, token: int, logprob: TokenLogprob | None) -> tuple[FinishReason, str] | None:
        """Take one sampled token; a pair of reason and detail when it ends the request."""
        request, answer = self.request, self.request.answer
        if not answer.token_ids:
            request.course.first_token_at = request.course.first_token_at or time.monotonic()
            request.to(Phase.DECODE)
        answer.token_ids.append(token)
        if len(answer.token_ids) == 1 and request.wants.begin:
            self._say("", request.wants.begin, None)
        if self.drafts is not None:
            self.drafts.hear(token)
        if logprob is not None:
            answer.logprobs.append(logprob)
        if token in self._end_tokens:
            return self._ended(token)
        self._say(*self._split(self._stream.add(token)), token)
        if self._stops.matched is not None:
            return "stop", f"stop string {self._stops.matched!r}"
        return self._cut_short()

    def _split(self, text: str) -> tuple[str, str]:
        """A piece as (of the thought, of the answer); counts its token."""
        was = self._thoughts.thinking
        thought, said = self._thoughts.feed(text)
        self._reasons = was or self._thoughts.thinking
        if self._reasons:  # a thought stands at the beginning, and its marker may be several tokens
            self.request.answer.reasoning_tokens = len(self.request.answer.token_ids)
        return thought, self._stops.feed(said)

    def _ended(self, token: int) -> tuple[FinishReason, str]:
        thinking = self._thoughts.thinking
        self._finish(token, cut=False)
        return "stop", _ALL_THOUGHT if thinking else ""

    def _cut_short(self) -> tuple[FinishReason, str] | None:
        request, tokens = self.request, self.request.answer.token_ids
        count, said = len(tokens), len(tokens) - request.answer.reasoning_tokens
        if request.wants.stop_loops and said % CHECK_EVERY == 0 and loop_period(tokens[-said:] if said else ()):
            self.flush()
            return "stop", "the model repeated itself without end"
        if count < request.max_tokens:
            return None
        why = f"max_tokens ({request.max_tokens}) reached"
        if request.prompt.cut_by == "context":
            why = f"the model's context of {request.prompt.tokens + count:,} tokens is full"
        if request.prompt.cut_by == "memory":
            why = f"the memory that there is for a request is full after {count:,} tokens"
        thinking = self._thoughts.thinking
        self.flush()
        return "length", f"{why}; {_ALL_THOUGHT}" if thinking else why

    @property
    def nbytes(self) -> int:
        """Of its own caches: while it prefills, or is put aside."""
        return sum(_bytes_of(part) for part in self.cache or ()) + self.heard_bytes

    @property
    def heard_bytes(self) -> int:
        """Of what a drafter model knows of it."""
        return self.heard.nbytes if self.heard is not None else 0

    def flush(self) -> None:
        """Say what was held back, the beginning of a stop string. The answer was cut: half a character is left out."""
        self._finish(None, cut=True)

    def _finish(self, token: int | None, cut: bool) -> None:
        thought, said = self._thoughts.feed(self._stream.finish(cut))
        more, rest = self._thoughts.finish()
        self._say(thought + more, self._stops.feed(said + rest) + self._stops.finish(), token)

    def _say(self, thought: str, said: str, token: int | None) -> None:
        answer = self.request.answer
        if thought:
            answer.thinking.append(thought)
        if said:
            answer.text.append(said)
        again = len(answer.token_ids) <= len(self.request.said.token_ids)  # computed again, after its row was dropped
        if (thought or said or token is not None) and not again:
            told = () if token is None else tuple(answer.logprobs[-1:])
            self.request.events.put(Delta(said, () if token is None else (token,), thought, self._reasons, told))


def _bytes_of(part: Cache) -> int:
    """Of a layer's cache, or of its keys and values where it was put aside."""
    return int(part.nbytes) if hasattr(part, "nbytes") else int(part.keys.nbytes + part.values.nbytes)
