"""`engine.responses.create(...)`: OpenAI's Responses shape, as far as it maps onto a completion.

What a response needs that a completion hasn't (conversations kept by a server, hosted tools, background work) is
refused by name.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from .completions import AsyncCompletions, Completions

if TYPE_CHECKING:
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall
    from openai.types.responses import Response, ResponseStreamEvent

    from ..engine.front import Speaks

Item = dict[str, Any]
_SAME = ("temperature", "top_p", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
         "parallel_tool_calls", "stream_options", "timeout", "extra_body", "extra_headers")  # fmt: skip


def as_completion(input: object, options: Mapping[str, object]) -> tuple[list[Item], dict[str, Any]]:
    """(messages, options) of the chat completion that a response stands for.

    :raises RequestError: something that doesn't map, by its name.
    """
    left: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    made = {key: left.pop(key) for key in _SAME if key in left}
    instructions = left.pop("instructions", None)
    messages = [{"role": "system", "content": instructions}] if instructions else []
    messages += _messages(input)
    if "max_output_tokens" in left:
        made["max_completion_tokens"] = left.pop("max_output_tokens")
    if effort := (left.pop("reasoning", None) or {}).get("effort"):
        made["reasoning_effort"] = effort
    if form := (left.pop("text", None) or {}).get("format"):
        made["response_format"] = _format(form)
    if tools := left.pop("tools", None):
        made["tools"] = [_tool(tool) for tool in tools]
    choice = left.pop("tool_choice", None)
    if choice is not None:
        named = isinstance(choice, Mapping) and choice.get("type") == "function"
        made["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}} if named else choice
    if left.pop("truncation", "disabled") != "disabled" or left.pop("background", False):
        raise RequestError("truncation and background aren't supported; leave them out.")
    if left:
        raise RequestError(f"responses don't take {next(iter(left))!r} here; leave it out, or use chat.completions.")
    return messages, made


def _messages(input: object) -> list[Item]:
    """:raises RequestError: an item of another kind, by its place."""
    if isinstance(input, str):
        return [{"role": "user", "content": input}]
    if not isinstance(input, Iterable) or isinstance(input, Mapping | bytes):
        raise RequestError(f"input is a {type(input).__name__}; give text or a list of items.")
    made: list[Item] = []
    for place, value in enumerate(input):
        item = dict(value.model_dump(exclude_none=True)) if hasattr(value, "model_dump") else dict(value)
        kind = item.get("type", "message")
        if kind == "message":
            made.append({"role": item.get("role"), "content": item.get("content")})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if made and made[-1].get("tool_calls"):
                made[-1]["tool_calls"].append(call)
            else:
                made.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            made.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
        elif kind != "reasoning":  # earlier thoughts don't go back to the model
            raise RequestError(f"item {place} of the input is of type {kind!r}; use messages and function calls.")
    return made


def _tool(tool: object) -> object:
    """Responses have a function's fields beside its type, completions below it."""
    if callable(tool) or not isinstance(tool, Mapping) or "function" in tool:
        return tool
    if tool.get("type") != "function":
        raise RequestError(f"a tool is of type {tool.get('type')!r}; only functions can be called here.")
    kept = {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key) is not None}
    return {"type": "function", "function": kept}


def _format(form: Mapping[str, Any]) -> Any:
    if form.get("type") != "json_schema":
        return dict(form)
    return {"type": "json_schema", "json_schema": {"name": form.get("name"), "schema": form.get("schema")}}


class Events:
    """Chunks of a completion in, events of a response out. `response` is the whole of it, as far as it has come."""

    def __init__(self, model: str, options: Mapping[str, object]) -> None:
        self.response: Item = {
            "id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time()), "model": model,
            "status": "in_progress", "output": [], "error": None, "incomplete_details": None,
            "instructions": options.get("instructions"), "metadata": options.get("metadata") or {},
            "parallel_tool_calls": options.get("parallel_tool_calls") is not False,
            "temperature": options.get("temperature"), "top_p": options.get("top_p"),
            "max_output_tokens": options.get("max_output_tokens"),
            "tool_choice": options.get("tool_choice") or "auto", "tools": [],
        }  # fmt: skip
        self._number = -1
        self._open: Item | None = None  # the item that grows
        self._calls: dict[int, Item] = {}

    def begin(self) -> list[Item]:
        """What comes before anything is said."""
        return [self._event(f"response.{kind}", response=self._now()) for kind in ("created", "in_progress")]

    def feed(self, chunk: ChatCompletionChunk) -> Iterator[Item]:
        """What a chunk brings."""
        for choice in chunk.choices:
            delta = choice.delta
            if thought := getattr(delta, "reasoning_content", None):
                yield from self._grow("reasoning", "response.reasoning_text.delta", thought)
            if delta.content:
                yield from self._grow("message", "response.output_text.delta", delta.content)
            for call in delta.tool_calls or ():
                yield from self._call(call)
            if choice.finish_reason:
                yield from self._close()
                self._end(choice.finish_reason)
        if chunk.usage is not None:
            self.response["usage"] = _usage(chunk.usage)

    def end(self) -> list[Item]:
        kind = "response.completed" if self.response["status"] == "completed" else "response.incomplete"
        return [self._event(kind, response=self._now())]

    def _end(self, reason: str) -> None:
        cut = reason == "length"
        self.response["status"] = "incomplete" if cut else "completed"
        self.response["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None

    def _grow(self, kind: str, event: str, text: str) -> Iterator[Item]:
        """More of a thought or of the answer's text."""
        if self._open is None or self._open["type"] != kind:
            yield from self._close()
            part: Item = {"type": "reasoning_text" if kind == "reasoning" else "output_text", "text": ""}
            item: Item = {"type": kind, "id": f"{'rs' if kind == 'reasoning' else 'msg'}_{uuid.uuid4().hex}"}
            item |= {"status": "in_progress", "content": []}
            if kind == "reasoning":
                item["summary"] = []
            else:
                item["role"] = "assistant"
            if kind == "message":
                part |= {"annotations": [], "logprobs": []}
            yield self._added(item)
            item["content"].append(part)
            if kind == "message":
                yield self._about(item, "response.content_part.added", content_index=0, part=dict(part))
        assert self._open is not None
        self._open["content"][0]["text"] += text
        more: Item = {"logprobs": []} if kind == "message" else {}
        yield self._about(self._open, event, content_index=0, delta=text, **more)

    def _call(self, call: ChoiceDeltaToolCall) -> Iterator[Item]:
        item, function = self._calls.get(call.index), call.function
        assert function is not None  # as our chunks have it
        if item is None:
            yield from self._close()
            item = {"type": "function_call", "id": f"fc_{uuid.uuid4().hex}", "call_id": call.id}
            item |= {"status": "in_progress", "name": function.name, "arguments": ""}
            self._calls[call.index] = item
            yield self._added(item)
        item["arguments"] += function.arguments or ""
        if function.arguments:
            yield self._about(item, "response.function_call_arguments.delta", delta=function.arguments)

    def _added(self, item: Item) -> Item:
        self._open = item
        self.response["output"].append(item)
        return self._about(item, "response.output_item.added", item=_copied(item))

    def _close(self) -> Iterator[Item]:
        """The item that grew is whole."""
        item, self._open = self._open, None
        if item is None:
            return
        item["status"] = "completed"
        if item["type"] == "function_call":
            told = {"arguments": item["arguments"], "name": item["name"]}
            yield self._about(item, "response.function_call_arguments.done", **told)
        else:
            part = item["content"][0]
            if item["type"] == "reasoning":
                yield self._about(item, "response.reasoning_text.done", content_index=0, text=part["text"])
            else:
                yield self._about(item, "response.output_text.done", content_index=0, text=part["text"], logprobs=[])
                yield self._about(item, "response.content_part.done", content_index=0, part=dict(part))
        yield self._about(item, "response.output_item.done", item=_copied(item))

    def _about(self, held: Item, kind: str, **fields: object) -> Item:
        place: Item = {"output_index": self.response["output"].index(held)}
        if "item" not in fields:
            place["item_id"] = held["id"]
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: object) -> Item:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}

    def _now(self) -> Item:
        return {**self.response, "output": [_copied(item) for item in self.response["output"]]}


def _copied(item: Item) -> Item:
    made = dict(item)
    if "content" in item:
        made["content"] = [dict(part) for part in item["content"]]
    return made


def _usage(usage: CompletionUsage) -> Item:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    assert prompt is not None  # as our chunks have them
    assert completion is not None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": prompt.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": completion.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }


def _typed(event: Item) -> Any:
    """An event of the `openai` package's types."""
    from openai.types.responses import ResponseStreamEvent
    from pydantic import TypeAdapter

    return TypeAdapter(ResponseStreamEvent).validate_python(event)


def _response(events: Events) -> Response:
    from openai.types.responses import Response

    return Response.model_validate(events.response)


class Responses:
    """The sync side."""

    def __init__(self, engine: Speaks) -> None:
        self._engine = engine

    def create(self, *, input: object, model: str | None = None, stream: bool = False, **options: object) -> Any:
        """As `openai.OpenAI().responses.create`, over this engine; with `stream` an iterator of its events.

        :raises OmlxError: the request can't be served; what doesn't map is refused by name.
        """
        messages, asked = as_completion(input, options)
        chunks = Completions(self._engine).create(messages=messages, model=model, stream=True, **asked)
        events = Events(model or self._engine.name, options)
        if stream:
            return self._stream(events, chunks)
        for chunk in chunks:
            for _ in events.feed(chunk):
                pass
        return _response(events)

    @staticmethod
    def _stream(events: Events, chunks: Iterator[ChatCompletionChunk]) -> Iterator[ResponseStreamEvent]:
        yield from map(_typed, events.begin())
        for chunk in chunks:
            yield from map(_typed, events.feed(chunk))
        yield from map(_typed, events.end())


class AsyncResponses:
    """The async side, for asyncio and trio."""

    def __init__(self, engine: Speaks) -> None:
        self._engine = engine

    async def create(self, *, input: object, model: str | None = None, stream: bool = False, **options: object) -> Any:
        """As `openai.AsyncOpenAI().responses.create`. See `Responses.create`."""
        messages, asked = as_completion(input, options)
        chunks = await AsyncCompletions(self._engine).create(messages=messages, model=model, stream=True, **asked)
        events = Events(model or self._engine.name, options)
        if stream:
            return self._stream(events, chunks)
        async for chunk in chunks:
            for _ in events.feed(chunk):
                pass
        return _response(events)

    @staticmethod
    async def _stream(events: Events, chunks: AsyncIterator[ChatCompletionChunk]) -> AsyncIterator[ResponseStreamEvent]:
        for event in events.begin():
            yield _typed(event)
        async for chunk in chunks:
            for event in events.feed(chunk):
                yield _typed(event)
        for event in events.end():
            yield _typed(event)
