"""What is known of a request, grouped by who may write it. `tests/engine/test_request.py` holds the code to that."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..types import SamplingParams, TokenLogprob
from .budget import Need

if TYPE_CHECKING:
    from ..models.guide import Guide


@dataclass(frozen=True)
class Wants:
    """What was asked for; nobody changes it."""

    sampling: SamplingParams
    group: int = 0  # requests of one page have the same; 0 stands alone
    stop_loops: bool = False
    draft: bool = True
    hint: str = ""  # text that the answer may repeat
    begin: str = ""  # text that the answer begins with
    pictures: bool = False
    seed: int = field(default_factory=lambda: random.getrandbits(63))  # where none was asked for: the same if repeated
    at: float = field(default_factory=time.monotonic)


@dataclass
class Flags:
    """Anyone may set these, at any time."""

    cancelled: bool = False
    detached: bool = False  # runs to its end though nobody holds its handle
    background: bool = False  # gives its turn, and its row, to requests that aren't


@dataclass
class PromptState:
    """Written by the worker that prepares the request; from then on it stays as it is."""

    ready: Any = None  # the Prepared: ids, pictures and where they are
    tokens: int = 0
    images: int = 0
    max_tokens: int | None = None  # what the model's context leaves of what was asked for
    guide: Guide | None = None  # what decides which tokens may come
    hint: list[int] = field(default_factory=list)  # tokens that the answer may repeat
    thinking: bool = False  # the prompt ends inside a thought
    cut_by: str = ""  # what leaves less than was asked for: context or memory
    need: Need = field(default_factory=Need)  # estimate of what its row takes
    notes: list[str] = field(default_factory=list)
    at: float = 0.0  # when it was done


@dataclass
class Course:
    """How far the engine thread, which alone writes this, has come; and where the prompt came from."""

    prefilled: int = 0
    images_encoded: int = 0
    images_reused: int = 0
    cached_tokens: int = 0
    cached_tokens_ram: int = 0
    cached_tokens_ssd: int = 0
    saved_s: float = 0.0
    peak_rows: int = 1
    steps: int = 0  # decode steps that it took part in
    drafted: int = 0  # tokens of drafts that were tried
    accepted: int = 0
    accepted_from: dict[str, int] = field(default_factory=dict)  # by source
    admitted_at: float = 0.0
    first_token_at: float = 0.0

    def taken_from(self, source: str) -> None:
        """A token of the answer had been drafted. What was drafted behind the answer's end never counts."""
        self.accepted += 1
        self.accepted_from[source] = self.accepted_from.get(source, 0) + 1

    def nothing_reused(self) -> None:
        """A restore failed: the prompt is computed from its first token."""
        self.prefilled = self.cached_tokens = self.cached_tokens_ram = self.cached_tokens_ssd = 0
        self.images_reused, self.saved_s = 0, 0.0


@dataclass
class Answer:
    """What was said so far. Written by the request's row, on the engine thread."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)  # what was thought before the answer
    reasoning_tokens: int = 0  # of the thought, its markers included
