"""`engine.chat.completions.create(...)`: takes and gives the `openai` package's types."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import anyio

from ..errors import RequestError
from ..types import Delta, Generation, SamplingParams
from .messages import from_openai, tool_schemas
from .tool_stream import ToolStream

# What says who asks or how it is billed, not what is answered: taken, and without effect by nature.
_LABELS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "extra_headers"}
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
    if options.pop("n", 1) != 1:
        raise RequestError("n must be 1; submit the request several times, they share a batch.")
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


def _bias(bias: Any) -> Any:
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


def _bound_calls(options: dict[str, Any], tools: list[dict[str, Any]] | None, parser: Any) -> tuple[bool, str | None]:
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
    grammar = parser.grammar(meant, several and named is None)
    if grammar is None:
        raise RequestError(
            f"tool_choice {choice!r} can't be enforced in this model's format of calls; use 'auto' and say in the "
            "prompt what to call."
        )
    return True, grammar


def _names_one(choice: Any) -> bool:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _timeout(value: Any) -> float | None:
    """Seconds, as a number or as httpx has them.

    :raises RequestError: something else.
    """
    seconds = getattr(value, "read", value)
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise RequestError(f"timeout is {value!r}; it must be a number of seconds above 0.")
    return float(seconds)


class _Call:
    """One request on its way to OpenAI's shape."""

    def __init__(self, engine: Any, model: str | None, messages: Iterable[Any], tools: Any, options: dict[str, Any]):
        schema = _schema(options.pop("response_format", None))
        _check_stream_options(options.pop("stream_options", None))
        given = tool_schemas(tools)
        shown, grammar = _bound_calls(options, given, engine.tool_parser if given else None)
        if schema is not None and grammar is not None:
            raise RequestError("response_format and a required tool exclude each other; leave one out.")
        self.timeout = _timeout(options.pop("timeout", None))
        logprobs = _logprobs(options)
        words, think = template_words(options)
        self._engine = engine
        self.identity = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model or engine.name
        self.tools = given if shown else None
        self._stream = ToolStream(engine.tool_parser, self.tools) if self.tools else None
        sampling = replace(sampling_from(options), json_schema=schema, lark=grammar, logprobs=logprobs, think=think)
        self.handle = engine.submit(
            from_openai(messages), sampling=sampling, tools=self.tools, chat_template_kwargs=words
        )

    def completion(self, result: Generation) -> Any:
        from openai.types.chat import ChatCompletion

        parsed = self._engine.parse_tools(result, self.tools) if self.tools else None
        message: dict[str, Any] = {"role": "assistant", "content": parsed.text if parsed else result.text}
        if result.thinking:
            message["reasoning_content"] = result.thinking
        reason = _finish(result)
        if parsed and parsed.calls:
            message["tool_calls"] = [_openai_call(call) for call in parsed.calls]
            message["content"] = parsed.text or None
            reason = "tool_calls"
        choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": self._logprobs(result)}
        made = {
            "id": self.identity,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": _usage(result),
        }
        completion = ChatCompletion.model_validate(made)
        note = parsed.note if parsed else ""
        completion.omlx = {"detail": result.detail, "notes": [*result.notes, *([note] if note else [])]}  # type: ignore[attr-defined]
        return completion

    def _logprobs(self, result: Generation) -> dict[str, Any] | None:
        if result.logprobs is None:
            return None

        def entry(token: int, logprob: float) -> dict[str, Any]:
            text = self._engine.decode([token])
            return {"token": text, "bytes": list(text.encode()), "logprob": logprob}

        content = [
            {**entry(t.token_id, t.logprob), "top_logprobs": [entry(i, p) for i, p in t.top]} for t in result.logprobs
        ]
        return {"content": content, "refusal": None}

    def chunk(self, delta: dict[str, Any], reason: str | None = None, usage: Any = None) -> Any:
        from openai.types.chat import ChatCompletionChunk

        return ChatCompletionChunk.model_validate(
            {
                "id": self.identity,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
                "usage": usage,
            }
        )

    def last_chunk(self) -> Any:
        """What wasn't streamed of the text and the calls, the finish reason and the usage."""
        result = self.handle.result()
        usage = _usage(result)
        if self._stream is None:
            return self.chunk({}, _finish(result), usage)
        parsed = self._engine.parse_tools(result, self.tools)
        sent = self._stream.calls
        calls = [{"index": i, **_openai_call(call)} for i, call in enumerate(parsed.calls[sent:], sent)]
        delta: dict[str, Any] = {"tool_calls": calls} if calls else {}
        if not sent and not calls and len(parsed.text) > len(self._stream.text):
            delta["content"] = parsed.text[len(self._stream.text) :]  # what looked like a call and was none
        return self.chunk(delta, "tool_calls" if sent or calls else _finish(result), usage)

    def chunks(self, delta: Delta) -> Iterator[Any]:
        """A piece of the answer as chunks: its text, and each tool call once it is complete."""
        text, calls = (delta.text, ()) if self._stream is None else self._stream.feed(delta)
        if delta.thinking:
            yield self.chunk({"reasoning_content": delta.thinking})
        if text:
            yield self.chunk({"content": text})
        if calls and self._stream is not None:
            first = self._stream.calls - len(calls)
            made = [{"index": i, **_openai_call(call)} for i, call in enumerate(calls, first)]
            yield self.chunk({"tool_calls": made})


def _check_stream_options(options: Any) -> None:
    """The usage comes with the last chunk, asked for or not.

    :raises RequestError: a word that OpenAI doesn't have.
    """
    if options is not None and (
        not isinstance(options, Mapping) or set(options) - {"include_usage", "include_obfuscation"}
    ):
        raise RequestError(f"stream_options is {options!r}; it takes include_usage.")


def _schema(wanted: Any) -> dict[str, Any] | None:
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


def _openai_call(call: Any) -> dict[str, Any]:
    identity = f"call_{uuid.uuid4().hex[:24]}"
    return {"id": identity, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish(result: Generation) -> str:
    return "length" if result.finish_reason == "length" else "stop"


def _usage(result: Generation) -> dict[str, Any]:
    u = result.usage
    return {
        "prompt_tokens": u.prompt_tokens,
        "completion_tokens": u.completion_tokens,
        "total_tokens": u.total_tokens,
        "prompt_tokens_details": {"cached_tokens": u.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": u.reasoning_tokens},
    }


class Completions:
    """The sync side. `create(..., stream=True)` gives an iterator of chunks."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def create(
        self,
        *,
        messages: Iterable[Any],
        model: str | None = None,
        tools: Any = None,
        stream: bool = False,
        **options: Any,
    ) -> Any:
        """As `openai.OpenAI().chat.completions.create`, over this engine.

        `tools` also takes Python functions. A streamed tool call comes in one chunk, once it is complete.

        :raises OmlxError: the request can't be served; unknown options are errors.
        """
        call = _Call(self._engine, model, messages, tools, options)
        return self._stream(call) if stream else call.completion(_finished(call))

    @staticmethod
    def _stream(call: _Call) -> Iterator[Any]:
        try:
            yield call.chunk({"role": "assistant", "content": ""})
            for piece in _pieces(call):
                yield from call.chunks(piece)
            yield call.last_chunk()
        finally:
            call.handle.cancel()  # a reader that leaves early; without effect after the end


class AsyncCompletions:
    """The async side, for asyncio and trio."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def create(
        self,
        *,
        messages: Iterable[Any],
        model: str | None = None,
        tools: Any = None,
        stream: bool = False,
        **options: Any,
    ) -> Any:
        """As `openai.AsyncOpenAI().chat.completions.create`. See `Completions.create`."""
        call = _Call(self._engine, model, messages, tools, options)
        if stream:
            return self._stream(call)
        try:
            with anyio.fail_after(call.timeout):
                return call.completion(await call.handle.aresult())
        finally:
            call.handle.cancel()

    @staticmethod
    async def _stream(call: _Call) -> AsyncIterator[Any]:
        try:
            yield call.chunk({"role": "assistant", "content": ""})
            pieces = aiter(call.handle)
            while True:
                try:
                    with anyio.fail_after(call.timeout):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                for chunk in call.chunks(piece):
                    yield chunk
            yield call.last_chunk()
        finally:
            call.handle.cancel()


def _finished(call: _Call) -> Generation:
    """:raises TimeoutError: no answer within the call's timeout; the request is cancelled."""
    try:
        return call.handle.result(call.timeout)
    finally:
        call.handle.cancel()


def _pieces(call: _Call) -> Iterator[Delta]:
    """:raises TimeoutError: nothing came for the call's timeout."""
    ended = False
    while not ended:
        items, ended = call.handle.poll(call.timeout)
        if not items and not ended:
            raise TimeoutError(f"nothing came for {call.timeout} s; the request was cancelled.")
        yield from items


class Chat:
    """`engine.chat` and `engine.async_chat`."""

    def __init__(self, completions: Any) -> None:
        self.completions = completions
