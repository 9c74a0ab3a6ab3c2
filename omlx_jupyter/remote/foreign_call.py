"""One request to a foreign server: tries, the stream, and what its answer shows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..engine.phase import Phase
from ..errors import EngineClosedError, OmlxError, RequestError
from ..types import Delta, Message, SamplingParams, TokenLogprob, Usage
from .flight import wait_before
from .handle import Asked
from .parser import Call
from .shapes import Item, messages_of

if TYPE_CHECKING:
    from openai import APIStatusError
    from openai.types.chat import ChatCompletionChunk

    from .foreign import ForeignEngine

TRIES = 7
_BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
# What an answer may do without, so that a server which refuses it is asked again without it
_SPARE = ("stream_options", "seed", "top_logprobs", "logprobs", "logit_bias", "presence_penalty", "frequency_penalty")
_SPARE_MORE = ("top_k", "min_p", "repetition_penalty", "chat_template_kwargs")


class ForeignCall:
    """Runs on a worker's thread."""

    def __init__(
        self,
        engine: ForeignEngine,
        asked: Asked,
        messages: Sequence[Message],
        options: Item,
        wanted: SamplingParams,
        begin: str,
    ) -> None:
        self.asked = asked
        self._engine, self._messages, self._options, self._wanted = engine, messages, options, wanted
        self._begin = begin
        self._notes: list[str] = []
        self._stop = threading.Event()
        self._stream: Any = None
        self._first = 0.0
        self._text: list[str] = []
        self._thought: list[str] = []
        self._calls: dict[int, list[str]] = {}
        self._logprobs: list[TokenLogprob] = []
        self._usage: Any = None
        self._reason = "stop"

    def tell(self, what: str, asked: Asked) -> None:
        """Cancel it, from any thread: the stream's end tells the server."""
        if what == "cancel":
            self._stop.set()
            if (stream := self._stream) is not None:
                threading.Thread(target=stream.close, daemon=True).start()

    def run(self) -> None:
        engine = self._engine
        try:
            messages, notes, self.asked.images = messages_of(self._messages, engine.limits, engine.pixel_budget)
            self._notes += notes
            if self._begin:
                messages.append({"role": "assistant", "content": self._begin})
                self._hear_text(self._begin, "")
            if not engine.flight.enter(self._stop):
                self._finish("cancelled")
                return
            well = False
            try:
                well = self._tried(messages)
            finally:
                engine.flight.leave(well)
        except OmlxError as error:
            self._fail(error)
        except Exception as error:
            self._fail(RequestError(engine.safe(f"the request failed ({type(error).__name__}: {error}).")))

    def _fail(self, error: OmlxError) -> None:
        if self._stop.is_set():
            self._finish("cancelled")
            return
        self._engine.count("failed")
        self.asked.fail(error)

    def _tried(self, messages: list[Item]) -> bool:
        """Ask until there is an answer. Nothing is asked again once a piece of it was given out.

        :raises OmlxError: there is none.
        """
        import openai

        engine, attempt = self._engine, 0
        self._drop_known()
        while not self._stop.is_set():
            try:
                self._listen(messages)
                self._finish("cancelled" if self._stop.is_set() else self._reason)
                return True
            except openai.APIStatusError as error:
                if self._first or not (self._without(error) or self._later(error, attempt)):
                    raise self._told(error) from None
            except openai.APIConnectionError as error:
                if self._stop.is_set():
                    break
                if self._first or attempt >= 2:
                    raise EngineClosedError(
                        engine.safe(
                            f"{engine.url} doesn't answer ({error}); %omlx disconnect goes back to this kernel's own."
                        )
                    ) from None
                self._stop.wait(wait_before(attempt, None))
            except openai.APIError as error:  # an error that came instead of a piece
                raise RequestError(engine.safe(f"{engine.url} ended the answer: {str(error.message)[:500]}")) from None
            attempt += 1
        self._finish("cancelled")
        return False

    def _listen(self, messages: list[Item]) -> None:
        options = {"stream_options": {"include_usage": True}, **self._options}
        if "stream_options" in self._engine.lacks:
            del options["stream_options"]
        made = self._engine.client.chat.completions.create(
            model=self._engine.name, messages=messages, stream=True, **options
        )
        self._stream = made
        try:
            for chunk in made:
                if self._stop.is_set():
                    return
                self._hear(chunk)
        except Exception:
            if not self._stop.is_set():  # a stream that is closed under its reader may raise anything
                raise
        finally:
            made.close()

    def _hear(self, chunk: ChatCompletionChunk) -> None:
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices[:1]:
            delta = choice.delta
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
            if thought:
                self._engine.thinks = True
            self._hear_text(delta.content or "", str(thought))
            for call in delta.tool_calls or ():
                held = self._calls.setdefault(call.index or 0, ["", ""])
                held[0] += (call.function.name or "") if call.function else ""
                held[1] += (call.function.arguments or "") if call.function else ""
            for item in (choice.logprobs.content if choice.logprobs else None) or ():
                self._logprobs.append(
                    TokenLogprob(-1, item.logprob, tuple((-1, t.logprob) for t in item.top_logprobs or ()))
                )
            self._reason = choice.finish_reason or self._reason

    def _hear_text(self, text: str, thought: str) -> None:
        if not (text or thought):
            return
        self._first = self._first or time.monotonic()
        self._text.append(text)
        self._thought.append(thought)
        self.asked.phase = Phase.DECODE
        self.asked.tokens += 1  # about: a piece is a token with most servers
        self.asked.events.put(Delta(text, (), thought, bool(thought)))

    def _finish(self, reason: str) -> None:
        from .foreign import ForeignAnswer

        ended = "cancelled" if reason == "cancelled" else "length" if reason == "length" else "stop"
        calls = tuple(Call(name, arguments or "{}") for name, arguments in self._calls.values() if name)
        wanted = self._wanted
        if ended != "cancelled":
            self._learn("".join(self._text))
        made: Any = ForeignAnswer(
            "".join(self._text),
            [],
            ended,  # type: ignore[arg-type]
            self._figures(),
            notes=tuple(self._notes),
            logprobs=self._logprobs or None if wanted.logprobs is not None else None,
            thinking="".join(self._thought).strip(),
            calls=calls,
        )
        self._engine.count("cancelled" if ended == "cancelled" else "finished", made)
        self.asked.finish(made)

    def _learn(self, text: str) -> None:
        """What the answer shows of the server."""
        if self._wanted.logprobs is not None and not self._logprobs:
            self._note("logprobs", "its answers have none")
        if self._usage is None:
            self._note("usage", "its answers don't say how many tokens they took")
        if self._wanted.json_schema is not None and not _is_json(text) and self._reason != "length":
            self._note("json_schema", "an answer that was to follow one is no JSON")

    def _note(self, what: str, how: str) -> None:
        if note := self._engine.lack(what, how):
            self._notes.append(note)

    def _figures(self) -> Usage:
        now, asked, said = time.monotonic(), self.asked, self._usage
        written = said.completion_tokens if said else asked.tokens
        details = getattr(said, "prompt_tokens_details", None)
        thought = getattr(getattr(said, "completion_tokens_details", None), "reasoning_tokens", 0) or 0
        first, going = self._first, now - self._first
        return Usage(
            prompt_tokens=said.prompt_tokens if said else 0,
            completion_tokens=written,
            reasoning_tokens=thought,
            images=asked.images,
            cached_tokens=(getattr(details, "cached_tokens", 0) or 0) if details else 0,
            ttft_s=first - asked.began if first else 0.0,
            total_s=now - asked.began,
            decode_tokens_per_s=(written - 1) / going if first and written > 1 and going > 0 else 0.0,
        )

    def _drop_known(self) -> None:
        """What the server has refused before isn't asked for again."""
        for name in self._engine.lacks:
            self._drop(name)

    def _drop(self, name: str) -> bool:
        more = self._options.get("extra_body", {})
        if name == "logprobs":
            self._options.pop("top_logprobs", None)
        return (self._options if name in _SPARE else more).pop(name, None) is not None

    def _without(self, error: APIStatusError) -> bool:
        """Whether the server refuses something that it names and that can be left out; it is, and that is noted."""
        if error.status_code not in (400, 422, 501):
            return False
        said = self._engine.safe(_words(error))
        for name in (*_SPARE, *_SPARE_MORE):
            if name in said and ((name == "stream_options" and name not in self._engine.lacks) or self._drop(name)):
                self._note(name, said[:200])
                return True
        return False

    def _later(self, error: APIStatusError, attempt: int) -> bool:
        """Whether it is worth waiting; then that was done."""
        if error.status_code not in _BUSY or attempt >= TRIES:
            return False
        if error.status_code == 429:
            self._engine.flight.too_much()
        self._stop.wait(wait_before(attempt, error.response.headers.get("retry-after")))
        return True

    def _told(self, error: APIStatusError) -> OmlxError:
        engine = self._engine
        if error.status_code in (401, 403):
            return RequestError(f"{engine.url} refuses the key; name the variable that holds it with --key-env VAR.")
        return RequestError(engine.safe(f"{engine.url} answered {error.status_code}: {_words(error)[:500]}"))


def _words(error: APIStatusError) -> str:
    """What the server said: in a form that the client doesn't know its words are in the body alone."""
    said = str(error.message)
    return said if said != f"Error code: {error.status_code}" else " ".join(error.response.text.split()) or said


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
