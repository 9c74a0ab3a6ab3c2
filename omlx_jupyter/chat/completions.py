"""`engine.chat.completions.create(...)`: takes and gives the `openai` package's types."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import RequestError
from ..types import Delta, Generation, SamplingParams
from .messages import from_openai, tool_schemas
from .tool_stream import ToolStream

_IGNORED = {"user", "metadata", "store", "service_tier", "parallel_tool_calls", "tool_choice", "timeout"}


def sampling_from(options: dict[str, Any]) -> SamplingParams:
    """OpenAI's option names -> ours; `top_k`, `min_p` and `repetition_penalty` as in `extra_body`.

    :raises RequestError: an option that isn't known: it would else be ignored in silence.
    """
    options = {k: v for k, v in options.items() if v is not None and k not in _IGNORED}
    options.update(options.pop("extra_body", {}))
    if options.pop("n", 1) != 1:
        raise RequestError("n must be 1; submit the request several times, they share a batch.")
    taken = {
        name: options.pop(name)
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        )
        if name in options
    }
    most = options.pop("max_completion_tokens", options.pop("max_tokens", None))
    stop = options.pop("stop", None)
    bias = options.pop("logit_bias", None)
    wanted = options.pop("logprobs", False)
    top = options.pop("top_logprobs", 0)
    if options:
        raise RequestError(f"unknown option {next(iter(options))!r}.")
    return SamplingParams(
        max_tokens=most,
        stop=(stop,) if isinstance(stop, str) else tuple(stop) if stop else None,
        logit_bias={int(k): float(v) for k, v in bias.items()} if bias else None,
        logprobs=int(top) if wanted else None,
        **taken,
    )


class _Call:
    """One request on its way to OpenAI's shape."""

    def __init__(self, engine: Any, model: str | None, messages: Iterable[Any], tools: Any, options: dict[str, Any]):
        schema = _schema(options.pop("response_format", None))
        options.pop("stream_options", None)
        self._engine = engine
        self.identity = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model or engine.name
        self.tools = tool_schemas(tools)
        self._stream = ToolStream(engine.tool_parser, self.tools) if self.tools else None
        sampling = replace(sampling_from(options), json_schema=schema)
        self.handle = engine.submit(from_openai(messages), sampling=sampling, tools=self.tools)

    def completion(self, result: Generation) -> Any:
        from openai.types.chat import ChatCompletion

        parsed = self._engine.parse_tools(result, self.tools) if self.tools else None
        message: dict[str, Any] = {"role": "assistant", "content": parsed.text if parsed else result.text}
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
        if text:
            yield self.chunk({"content": text})
        if calls and self._stream is not None:
            first = self._stream.calls - len(calls)
            made = [{"index": i, **_openai_call(call)} for i, call in enumerate(calls, first)]
            yield self.chunk({"tool_calls": made})


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
    if kind == "json_schema" and isinstance(wanted.get("json_schema", {}).get("schema"), dict):
        return dict(wanted["json_schema"]["schema"])
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
        return self._stream(call) if stream else call.completion(_finished(call.handle))

    @staticmethod
    def _stream(call: _Call) -> Iterator[Any]:
        try:
            yield call.chunk({"role": "assistant", "content": ""})
            for piece in call.handle:
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
            return call.completion(await call.handle.aresult())
        finally:
            call.handle.cancel()

    @staticmethod
    async def _stream(call: _Call) -> AsyncIterator[Any]:
        try:
            yield call.chunk({"role": "assistant", "content": ""})
            async for piece in call.handle:
                for chunk in call.chunks(piece):
                    yield chunk
            yield call.last_chunk()
        finally:
            call.handle.cancel()


def _finished(handle: Any) -> Generation:
    try:
        return handle.result()
    finally:
        handle.cancel()


class Chat:
    """`engine.chat` and `engine.async_chat`."""

    def __init__(self, completions: Any) -> None:
        self.completions = completions
