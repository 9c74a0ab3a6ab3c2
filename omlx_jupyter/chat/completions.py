"""`engine.chat.completions.create(...)`: takes and gives the `openai` package's types."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import RequestError
from ..types import Delta, Generation, Message, TokenLogprob
from .messages import from_openai
from .options import asked_of
from .tool_stream import CallPiece, ToolStream

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from ..engine.front import FoundCall, Handle, Speaks

_LOOK_S = 0.01  # between looks at several choices that are streamed


class _Choice:
    """One answer of a call."""

    def __init__(self, engine: Speaks, index: int, handle: Handle, tools: list[dict[str, Any]] | None) -> None:
        self._engine, self.index, self.handle, self.tools = engine, index, handle, tools
        self._stream = ToolStream(engine.tool_parser, tools) if tools else None
        self._untold: list[TokenLogprob] = []  # of tokens that no chunk has told yet

    def whole(self, result: Generation) -> tuple[dict[str, Any], str]:
        """OpenAI's choice, and what was noted of it."""
        parsed = self._engine.parse_tools(result, self.tools) if self.tools else None
        message: dict[str, Any] = {"role": "assistant", "content": parsed.text if parsed else result.text}
        if result.thinking:
            message["reasoning_content"] = result.thinking
        reason = _finish(result)
        if parsed and parsed.calls:
            message["tool_calls"] = [_openai_call(call) for call in parsed.calls]
            message["content"] = parsed.text or None
            reason = "tool_calls"
        logprobs = None if result.logprobs is None else self._logprobs(result.logprobs)
        made = {"index": self.index, "finish_reason": reason, "message": message, "logprobs": logprobs}
        return made, parsed.note if parsed else ""

    def _logprobs(self, told: Iterable[TokenLogprob]) -> dict[str, Any]:
        def entry(token: int, logprob: float) -> dict[str, Any]:
            text = self._engine.decode([token])
            return {"token": text, "bytes": list(text.encode()), "logprob": logprob}

        content = [{**entry(t.token_id, t.logprob), "top_logprobs": [entry(i, p) for i, p in t.top]} for t in told]
        return {"content": content, "refusal": None}

    def told(self) -> dict[str, Any] | None:
        """The log-probabilities of tokens that no chunk has told yet, in OpenAI's shape."""
        untold, self._untold = self._untold, []
        return self._logprobs(untold) if untold else None

    def pieces(self, delta: Delta) -> Iterator[dict[str, Any]]:
        """A piece of the answer as deltas: its text, and the tool calls as they come."""
        self._untold += delta.logprobs
        text, calls = (delta.text, ()) if self._stream is None else self._stream.feed(delta)
        if delta.thinking:
            yield {"reasoning_content": delta.thinking}
        if text:
            yield {"content": text}
        if calls:
            yield {"tool_calls": [_openai_piece(piece) for piece in calls]}

    def last(self) -> tuple[dict[str, Any], str]:
        """(what wasn't streamed of the text and the calls, the finish reason)."""
        result = self.handle.result()
        if self._stream is None:
            return {}, _finish(result)
        parsed = self._engine.parse_tools(result, self.tools)
        calls = self._stream.finish(parsed.calls)
        delta: dict[str, Any] = {"tool_calls": [_openai_piece(piece) for piece in calls]} if calls else {}
        if not self._stream.calls and len(parsed.text) > len(self._stream.text):
            delta["content"] = parsed.text[len(self._stream.text) :]  # what looked like a call and was none
        return delta, "tool_calls" if parsed.calls else _finish(result)


class _Call:
    """One request on its way to OpenAI's shape. Its choices are rows of one batch over one prompt."""

    def __init__(
        self,
        engine: Speaks,
        model: str | None,
        messages: Iterable[object],
        tools: Sequence[object] | None,
        options: dict[str, object],
    ):
        asked = asked_of(options, tools, engine.tool_parser if tools else None)
        self.timeout = asked.timeout
        self.identity = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model or engine.name
        self.choices: list[_Choice] = []
        told = from_openai(messages)
        given: dict[str, Any] = {"chat_template_kwargs": asked.words, "hint": asked.hint}
        given["begin"] = _beginning(told) if asked.continues else ""
        try:
            for index, sampling in enumerate(asked.sampling):
                handle = engine.submit(told, sampling=sampling, tools=asked.tools, **given)
                self.choices.append(_Choice(engine, index, handle, asked.tools))
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Without effect after the end."""
        for choice in self.choices:
            choice.handle.cancel()

    def completion(self, results: list[Generation]) -> ChatCompletion:
        from openai.types.chat import ChatCompletion

        made = [choice.whole(result) for choice, result in zip(self.choices, results, strict=True)]
        completion = ChatCompletion.model_validate(
            {
                "id": self.identity,
                "object": "chat.completion",
                "created": self.created,
                "model": self.model,
                "choices": [choice for choice, _ in made],
                "usage": _usage(results),
            }
        )
        notes = [note for result in results for note in result.notes] + [note for _, note in made if note]
        completion.omlx = {"detail": results[0].detail, "notes": list(dict.fromkeys(notes))}  # type: ignore[attr-defined]
        return completion

    def chunk(
        self, choice: _Choice, delta: dict[str, Any], reason: str | None = None, usage: dict[str, Any] | None = None
    ) -> ChatCompletionChunk:
        from openai.types.chat import ChatCompletionChunk

        return ChatCompletionChunk.model_validate(
            {
                "id": self.identity,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "choices": [
                    {"index": choice.index, "delta": delta, "finish_reason": reason, "logprobs": choice.told()}
                ],
                "usage": usage,
            }
        )

    def begin(self) -> Iterator[ChatCompletionChunk]:
        for choice in self.choices:
            yield self.chunk(choice, {"role": "assistant", "content": ""})

    def chunks(
        self, choice: _Choice, pieces: Iterable[Delta], ended: bool, last: bool
    ) -> Iterator[ChatCompletionChunk]:
        """What came of a choice; at the very `last` end the usage of all."""
        for piece in pieces:
            for delta in choice.pieces(piece):
                yield self.chunk(choice, delta)
        if ended:
            delta, reason = choice.last()
            usage = _usage([c.handle.result() for c in self.choices]) if last else None
            yield self.chunk(choice, delta, reason, usage)


def _beginning(told: list[Message]) -> str:
    """The text of the last message, which is taken off: the answer goes on from there.

    :raises RequestError: it isn't the assistant's, or isn't text alone.
    """
    last = told.pop()
    if last.role != "assistant" or not told or not all(isinstance(part, str) for part in last.parts):
        raise RequestError("continue_final_message goes on with the last message, which must be the assistant's text.")
    return "".join(last.parts)


def _openai_call(call: FoundCall | CallPiece) -> dict[str, Any]:
    identity = f"call_{uuid.uuid4().hex[:24]}"
    return {"id": identity, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _openai_piece(piece: CallPiece) -> dict[str, Any]:
    """A call's first piece names it; those after it bring arguments only."""
    if not piece.name:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, **_openai_call(piece)}


def _finish(result: Generation) -> str:
    return "length" if result.finish_reason == "length" else "stop"


def _usage(results: list[Generation]) -> dict[str, Any]:
    """The prompt counts once, however many answers it has."""
    prompt, written = results[0].usage, sum(result.usage.completion_tokens for result in results)
    reasoned = sum(result.usage.reasoning_tokens for result in results)
    return {
        "prompt_tokens": prompt.prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt.prompt_tokens + written,
        "prompt_tokens_details": {"cached_tokens": prompt.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reasoned},
    }


class Completions:
    """The sync side. `create(..., stream=True)` gives an iterator of chunks."""

    def __init__(self, engine: Speaks) -> None:
        self._engine = engine

    def create(
        self,
        *,
        messages: Iterable[object],
        model: str | None = None,
        tools: Sequence[object] | None = None,
        stream: bool = False,
        **options: object,
    ) -> Any:
        """As `openai.OpenAI().chat.completions.create`, over this engine.

        `tools` also takes Python functions. A streamed tool call comes as it is written.

        :raises OmlxError: the request can't be served; unknown options are errors.
        """
        call = _Call(self._engine, model, messages, tools, options)
        return self._stream(call) if stream else call.completion(_finished(call))

    @staticmethod
    def _stream(call: _Call) -> Iterator[ChatCompletionChunk]:
        try:
            yield from call.begin()
            for event in _events(call):
                yield from call.chunks(*event)
        finally:
            call.cancel()  # a reader that leaves early


class AsyncCompletions:
    """The async side, for asyncio and trio."""

    def __init__(self, engine: Speaks) -> None:
        self._engine = engine

    async def create(
        self,
        *,
        messages: Iterable[object],
        model: str | None = None,
        tools: Sequence[object] | None = None,
        stream: bool = False,
        **options: object,
    ) -> Any:
        """As `openai.AsyncOpenAI().chat.completions.create`. See `Completions.create`."""
        call = _Call(self._engine, model, messages, tools, options)
        if stream:
            return self._stream(call)
        try:
            with anyio.fail_after(call.timeout):
                return call.completion([await choice.handle.aresult() for choice in call.choices])
        finally:
            call.cancel()

    @staticmethod
    async def _stream(call: _Call) -> AsyncIterator[ChatCompletionChunk]:
        try:
            for chunk in call.begin():
                yield chunk
            going, heard = list(call.choices), time.monotonic()
            while going:
                for event in _look(going, 0.0):
                    heard = time.monotonic()
                    for chunk in call.chunks(*event):
                        yield chunk
                _check_silence(call, heard)
                await anyio.sleep(_LOOK_S if going else 0)
        finally:
            call.cancel()


def _finished(call: _Call) -> list[Generation]:
    """:raises TimeoutError: no answer within the call's timeout; the request is cancelled."""
    ends = None if call.timeout is None else time.monotonic() + call.timeout
    try:
        return [c.handle.result(None if ends is None else max(0.0, ends - time.monotonic())) for c in call.choices]
    finally:
        call.cancel()


_Event = tuple[_Choice, list[Delta], bool, bool]  # what `_Call.chunks` takes


def _events(call: _Call) -> Iterator[_Event]:
    """What comes of all choices, as it comes.

    :raises TimeoutError: nothing came for the call's timeout.
    """
    going, heard = list(call.choices), time.monotonic()
    while going:
        for event in _look(going, _LOOK_S / len(going)):
            heard = time.monotonic()
            yield event
        _check_silence(call, heard)


def _look(going: list[_Choice], wait_s: float) -> Iterator[_Event]:
    """Choices of which something came; those that ended are taken out of `going`."""
    for choice in list(going):
        pieces, ended = choice.handle.poll(wait_s)
        if ended:
            going.remove(choice)
        if pieces or ended:
            yield choice, pieces, ended, not going


def _check_silence(call: _Call, heard: float) -> None:
    if call.timeout is not None and time.monotonic() - heard > call.timeout:
        raise TimeoutError(f"nothing came for {call.timeout} s; the request was cancelled.")


class Chat:
    """`engine.chat` and `engine.async_chat`."""

    def __init__(self, completions: Completions | AsyncCompletions) -> None:
        self.completions = completions
