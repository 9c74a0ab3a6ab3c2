"""Plain values that cross rooms. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypedDict

from .errors import RequestError

FinishReason = Literal["stop", "length", "cancelled", "error"]
Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"  # what json.loads gives
Tools: TypeAlias = "Sequence[Mapping[str, Any]] | None"  # functions in OpenAI's form
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class SamplingParams:
    """How a request's tokens are chosen and when it ends.

    A field left at None takes the model's own default (OCR profile, then the checkpoint's
    generation config, then greedy with at most 1,024 tokens).

    :raises RequestError: a value lies outside its range.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None  # the answer is JSON that follows it; {} is any JSON
    lark: str | None = None  # the answer follows this grammar, in llguidance's dialect of Lark
    think: bool | None = None  # whether to think first; None leaves it to the model's template
    think_budget: int | None = None  # tokens after which a thought is ended, and the answer begins

    def __post_init__(self) -> None:
        for name, (least, most) in _WHOLE.items():
            _set(self, name, _checked(name, getattr(self, name), least, most, whole=True))
        for name, (low, high) in _REAL.items():
            _set(self, name, _checked(name, getattr(self, name), low, high))
        if self.repetition_penalty is not None and not self.repetition_penalty > 0:
            raise RequestError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0 (1 is off).")
        if self.lark is not None and not (isinstance(self.lark, str) and self.json_schema is None):
            raise RequestError("lark is a grammar as text, and excludes json_schema.")
        if self.think not in (None, True, False):
            raise RequestError(f"think is {self.think!r}; it must be True or False.")
        _set(self, "stop", _stops(self.stop))
        _set(self, "stop_token_ids", tuple(_token("stop_token_ids", i) for i in _listed(self.stop_token_ids)))
        if self.logit_bias is not None:
            _set(self, "logit_bias", _biases(self.logit_bias))
        if self.json_schema is not None and not isinstance(self.json_schema, Mapping):
            raise RequestError(f"json_schema is a {type(self.json_schema).__name__}; give the schema as a dict.")

    def with_defaults(self, defaults: SamplingParams) -> SamplingParams:
        """A copy whose unset fields are taken from `defaults`. What is set here wins."""
        unset = {f.name: getattr(defaults, f.name) for f in fields(self) if getattr(self, f.name) in (None, ())}
        return replace(self, **unset)


class SamplingWords(TypedDict, total=False):
    """`SamplingParams`' fields as keyword arguments."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    max_tokens: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int]
    logit_bias: Mapping[int, float] | None
    logprobs: int | None
    json_schema: Mapping[str, Any] | None
    lark: str | None
    think: bool | None
    think_budget: int | None


_WHOLE: dict[str, tuple[int, int | None]] = {
    "top_k": (0, None),
    "max_tokens": (1, None),
    "logprobs": (0, 20),
    "think_budget": (0, None),
    "seed": (-(2**63), 2**64 - 1),
}
_REAL: dict[str, tuple[float, float | None]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0, 100),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}


def _set(params: SamplingParams, name: str, value: object) -> None:
    object.__setattr__(params, name, value)


def _checked(name: str, value: object, low: float, high: float | None, whole: bool = False) -> float | int | None:
    """The value as a plain number, or None.

    :raises RequestError: it is no number, no whole one where that is wanted, or outside [low, high].
    """
    if value is None:
        return None
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise RequestError(f"{name} is {value!r}; it must be {kind}.")
    number = int(value) if isinstance(value, Integral) else float(value)
    if not number >= low or (high is not None and number > high):
        limit = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise RequestError(f"{name} is {number}; it must be {limit}.")
    return number


def _listed(value: object) -> Sequence[object]:
    if value is None:
        return ()
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]


def _stops(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else _listed(value)
    for stop in stops:
        if not isinstance(stop, str):
            raise RequestError(f"stop holds {stop!r}; stop strings are text, stop_token_ids takes ids.")
        if not stop:
            raise RequestError("a stop string is empty; leave it out instead.")
    return tuple(str(stop) for stop in stops)


def _token(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 0:
        raise RequestError(f"{name} names the token {value!r}; token ids are whole numbers from 0.")
    return int(value)


def _biases(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise RequestError("logit_bias maps token ids to numbers.")
    made = {}
    for token, bias in value.items():
        made[_token("logit_bias", token)] = float(_checked(f"logit_bias[{token}]", bias, -1e30, 1e30) or 0)
    return made


@dataclass(frozen=True)
class Message:
    """One turn. `parts` are text (str) and pictures (anything that `omlx_jupyter.images` takes)."""

    role: Role
    parts: Sequence[Any]
    extra: Mapping[str, Any] = field(default_factory=dict)  # tool_calls, tool_call_id, name


@dataclass(frozen=True)
class ImagePart:
    """Marks a value in `Message.parts` as a picture, whatever its type."""

    source: Any


@dataclass(frozen=True)
class Usage:
    """What one request cost. Times in seconds, counts in tokens or pictures.

    `reasoning_tokens` are those of the answer's thought. `cached_tokens` of the prompt were restored, from RAM or
    from SSD; `saved_s` is what computing them would have taken at this machine's measured prefill rate.
    Of `drafted` tokens the model chose `accepted` itself, so that the answer took `steps` decode steps;
    `accepted_from` says where they came from.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    images_encoded: int = 0
    images_reused: int = 0
    cached_tokens: int = 0
    cached_tokens_ram: int = 0
    cached_tokens_ssd: int = 0
    saved_s: float = 0.0
    queue_s: float = 0.0
    prepare_s: float = 0.0
    ttft_s: float = 0.0
    total_s: float = 0.0
    decode_tokens_per_s: float = 0.0
    peak_rows: int = 1
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_from: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def line(self) -> str:
        """One line of figures, as the notebook prints it under an answer."""
        pictures = f" · {self.images} picture{'s' * (self.images != 1)}" if self.images else ""
        thought = f" ({self.reasoning_tokens} thought)" if self.reasoning_tokens else ""
        return (
            f"{self.prompt_tokens} + {self.completion_tokens} tokens{thought}{pictures}"
            f" · first token {_seconds(self.ttft_s)} · {self.decode_tokens_per_s:.0f} tokens/s"
            f"{self._reused()}{self._from_drafts()}"
        )

    def _reused(self) -> str:
        if not self.cached_tokens:
            return ""
        tiers = (("RAM", self.cached_tokens_ram), ("SSD", self.cached_tokens_ssd))
        where = " and ".join(f"{count} from {tier}" for tier, count in tiers if count)
        saved = f", about {_seconds(self.saved_s)} saved" if self.saved_s >= 0.001 else ""
        return f" · reused {where}{saved}"

    def _from_drafts(self) -> str:
        if not self.accepted:
            return ""
        source = max(self.accepted_from, key=lambda name: self.accepted_from[name])
        return f" · {self.accepted} of {self.completion_tokens} tokens from {_DRAFTED.get(source, source)}"


_DRAFTED = {
    "earlier answer": "an earlier answer",
    "hint": "the hint",
    "text": "text before",
    "grammar": "the schema",
    "drafter": "the drafter",
}


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


@dataclass(frozen=True)
class TokenLogprob:
    """A token's log-probability (natural log) and the most likely alternatives at its place."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """A piece of a streamed answer: whole characters, never part of a stop string. `thinking` is of the model's
    thought before its answer, which `text` never holds."""

    text: str
    token_ids: tuple[int, ...] = ()
    thinking: str = ""
    reasoning: bool = False  # `token_ids` are of the thought, its markers included
    logprobs: tuple[TokenLogprob, ...] = ()  # of `token_ids`, where they were asked for


@dataclass(frozen=True)
class Generation:
    """A finished (or cancelled) request.

    `token_ids` holds every token the model chose, the ending token included; `text` has neither
    special tokens nor stop strings. `thinking` is what the model thought before. `detail` says more
    than `finish_reason` where there is more to say, such as the stop string that matched.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    detail: str = ""
    notes: tuple[str, ...] = ()
    logprobs: list[TokenLogprob] | None = None
    thinking: str = ""
