"""OpenAI's options of a completion -> what the engine is asked. Nothing is ignored in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..types import SamplingParams
from .messages import tool_schemas

if TYPE_CHECKING:
    from ..engine.front import FindsCalls

# What says who asks or how it is billed, not what is answered: taken, and without effect by nature.
_LABELS = {"user", "metadata", "store", "service_tier", "safety_identifier", "extra_headers", "extra_query"}
_LABELS |= {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}  # a prefix is kept anyway
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "think_budget",
)


def sampling_from(options: dict[str, Any]) -> SamplingParams:
    """OpenAI's option names -> ours; `top_k`, `min_p` and `repetition_penalty` as in `extra_body`.

    :raises RequestError: an option that isn't known or can't be met: nothing is ignored in silence.
    """
    options = {k: v for k, v in options.items() if v is not None and k not in _LABELS}
    options.update(options.pop("extra_body", None) or {})
    taken = {name: options.pop(name) for name in _SAMPLING if name in options}
    most = options.pop("max_completion_tokens", options.pop("max_tokens", None))
    stop = options.pop("stop", None)
    bias = options.pop("logit_bias", None)
    if options:
        raise RequestError(f"unknown option {next(iter(options))!r}.")
    return SamplingParams(max_tokens=most, stop=stop, logit_bias=_bias(bias), **taken)


def template_words(options: dict[str, Any]) -> tuple[dict[str, Any], bool | None]:
    """`chat_template_kwargs`, the names that stand for one of them, and `think`; taken out of the options.

    :raises RequestError: they are no mapping.
    """
    body = dict(options.get("extra_body") or {})
    words = body.pop("chat_template_kwargs", None) or options.pop("chat_template_kwargs", None) or {}
    if not isinstance(words, Mapping):
        raise RequestError(f"chat_template_kwargs is {words!r}; give a dict.")
    think = None
    for held in (body, options):
        if held.get("reasoning_effort") is not None:
            words = {**words, "reasoning_effort": held.pop("reasoning_effort")}
        think = held.pop("enable_thinking", think)
    if "extra_body" in options:
        options["extra_body"] = body
    return dict(words), think


def _bias(bias: object) -> Any:
    """OpenAI's keys are token ids as text."""
    if not isinstance(bias, Mapping):
        return bias
    return {int(k) if isinstance(k, str) and k.lstrip("-").isdigit() else k: v for k, v in bias.items()} or None


def _logprobs(options: dict[str, Any]) -> int | None:
    """:raises RequestError: `logprobs` is no truth value, or `top_logprobs` comes without it."""
    wanted, top = options.pop("logprobs", None), options.pop("top_logprobs", None)
    if wanted not in (None, True, False):
        raise RequestError(f"logprobs is {wanted!r}; it is true or false, top_logprobs says how many.")
    if not wanted:
        if top is not None:
            raise RequestError("top_logprobs needs logprobs=True.")
        return None
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= 20):
        raise RequestError(f"top_logprobs is {top!r}; it must be a whole number between 0 and 20.")
    return top or 0


def _bound_calls(
    options: dict[str, Any], tools: list[dict[str, Any]] | None, parser: FindsCalls | None
) -> tuple[bool, str | None]:
    """(whether the tools are shown to the model, a grammar that makes the answer a call), from `tool_choice`.

    :raises RequestError: a choice that can't be met.
    """
    choice = options.pop("tool_choice", None)
    several = options.pop("parallel_tool_calls", None) is not False
    named = choice["function"]["name"] if _names_one(choice) else None
    if choice in (None, "auto"):
        if not several:
            raise RequestError(
                "parallel_tool_calls=False needs tool_choice 'required' or a named tool; else take the first call."
            )
        return True, None
    if choice == "none":
        return False, None
    if choice != "required" and named is None:
        raise RequestError(f"tool_choice is {choice!r}; it is auto, none, required, or names a function.")
    if not tools:
        raise RequestError(f"tool_choice is {choice!r}, but there are no tools; give tools, or leave it out.")
    meant = [tool for tool in tools if named in (None, tool["function"]["name"])]
    if not meant:
        known = ", ".join(tool["function"]["name"] for tool in tools)
        raise RequestError(f"tool_choice names {named!r}, which is no tool; there are: {known}.")
    grammar = parser.grammar(meant, several and named is None) if parser is not None else None
    if grammar is None:
        raise RequestError(
            f"tool_choice {choice!r} can't be enforced in this model's format of calls; use 'auto' and say in the "
            "prompt what to call."
        )
    return True, grammar


def _names_one(choice: object) -> bool:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _timeout(value: object) -> float | None:
    """Seconds, as a number or as httpx has them.

    :raises RequestError: something else.
    """
    seconds = getattr(value, "read", value)
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise RequestError(f"timeout is {value!r}; it must be a number of seconds above 0.")
    return float(seconds)


def _check_stream_options(options: object) -> None:
    """The usage comes with the last chunk, asked for or not.

    :raises RequestError: a word that OpenAI doesn't have.
    """
    if options is not None and (
        not isinstance(options, Mapping) or set(options) - {"include_usage", "include_obfuscation"}
    ):
        raise RequestError(f"stream_options is {options!r}; it takes include_usage.")


def _schema(wanted: object) -> dict[str, Any] | None:
    """The JSON schema of a `response_format`: a dict of OpenAI's, or a pydantic model.

    :raises RequestError: another kind.
    """
    if wanted is None or wanted == {"type": "text"}:
        return None
    if hasattr(wanted, "model_json_schema"):
        return dict(wanted.model_json_schema())
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return {"type": "object"}
    given = wanted.get("json_schema") if kind == "json_schema" and isinstance(wanted, dict) else None
    if isinstance(given, dict) and isinstance(given.get("schema"), dict):
        return dict(given["schema"])
    raise RequestError("response_format is text, json_object, json_schema with a schema, or a pydantic model.")


_MOST_CHOICES = 128  # as OpenAI has it


@dataclass(frozen=True)
class Asked:
    """`sampling` has one entry a choice; `words` are for the template."""

    sampling: tuple[SamplingParams, ...]
    tools: list[dict[str, Any]] | None
    words: dict[str, Any]
    timeout: float | None
    continues: bool = False  # the last message is the answer's beginning
    hint: str = ""  # what the answer may repeat


def asked_of(options: dict[str, Any], tools: Sequence[object] | None, parser: FindsCalls | None) -> Asked:
    """Take `options` apart, all of them; `parser` knows the model's format of tool calls.

    :raises RequestError: an option that isn't known or can't be met.
    """
    schema = _schema(options.pop("response_format", None))
    _check_stream_options(options.pop("stream_options", None))
    given = tool_schemas(tools)
    shown, grammar = _bound_calls(options, given, parser if given else None)
    if schema is not None and grammar is not None:
        raise RequestError("response_format and a required tool exclude each other; leave one out.")
    timeout, logprobs, count = _timeout(options.pop("timeout", None)), _logprobs(options), _choices(options)
    continues, hint = _continues(options), _predicted(options.pop("prediction", None))
    words, think = template_words(options)
    one = replace(sampling_from(options), json_schema=schema, lark=grammar, logprobs=logprobs, think=think)
    return Asked(
        tuple(_choice(one, number) for number in range(count)),
        given if shown else None,
        words,
        timeout,
        continues,
        hint,
    )


def _predicted(prediction: object) -> str:
    """OpenAI's predicted output is a hint: the model checks it.

    :raises RequestError: it is no text.
    """
    if prediction is None:
        return ""
    content = prediction.get("content") if isinstance(prediction, Mapping) else None
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    raise RequestError('prediction is {"type": "content", "content": text}.')


def _continues(options: dict[str, Any]) -> bool:
    """`continue_final_message`, as vLLM's server has it, alone or in `extra_body`.

    :raises RequestError: no truth value, or an answer that isn't asked for.
    """
    body = dict(options.get("extra_body") or {})
    held = body if "continue_final_message" in body else options
    wanted = held.pop("continue_final_message", False)
    asks = body.pop("add_generation_prompt", options.pop("add_generation_prompt", not wanted))
    if wanted not in (True, False) or asks not in (True, False):
        raise RequestError("continue_final_message and add_generation_prompt are true or false.")
    if asks is wanted:
        raise RequestError(
            "add_generation_prompt begins an answer, continue_final_message goes on with one: set the other."
        )
    if "extra_body" in options:
        options["extra_body"] = body
    return bool(wanted)


def _choices(options: dict[str, Any]) -> int:
    """:raises RequestError: `n` is no whole number that a request may ask for."""
    count = options.pop("n", None)
    if count is None:
        return 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_CHOICES:
        raise RequestError(f"n is {count!r}; it must be a whole number between 1 and {_MOST_CHOICES}.")
    return count


def _choice(sampling: SamplingParams, number: int) -> SamplingParams:
    """A choice's own seed, by a hash, so that near seeds share nothing; the first choice has the request's."""
    if sampling.seed is None or not number:
        return sampling
    made = hashlib.blake2b(f"{sampling.seed}:{number}".encode(), digest_size=7, person=b"omlx choice").digest()
    return replace(sampling, seed=int.from_bytes(made, "little"))
