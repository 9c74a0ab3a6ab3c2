"""An engine on a server that speaks OpenAI's shapes: vLLM, SGLang, mlx_vlm.server, a provider."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import EngineClosedError, ModelError, RequestError
from ..images.grounding import THOUSANDTHS
from ..types import Generation, SamplingParams
from .flight import MOST, Flight
from .foreign_call import ForeignCall
from .front import RemoteFront
from .handle import Asked, RemoteHandle
from .line import Address, Line
from .parser import Call, Taken

if TYPE_CHECKING:
    from ..engine.lanes import Finished, Lane
    from ..engine.stats import Capabilities, EngineStats
    from ..images.limits import Limits


@dataclass(frozen=True)
class ForeignAnswer(Generation):
    """An answer with the calls that the server itself found. It has no token ids."""

    calls: tuple[Call, ...] = ()


class ForeignEngine(RemoteFront):
    """The front of the kernel's own engine, as far as a foreign server can follow. What it can't do is told once, in
    the `notes` of the answer that showed it, and is in `capabilities.why` from then on."""

    is_ocr, sees, drafter, family, context = False, True, "", "openai", 0
    recipe, pixel_budget = None, 4_000_000
    grounding = THOUSANDTHS  # a tool says so; what the model was trained on isn't known

    def __init__(
        self, url: str, model: str | None = None, *, key: str = "", image_limits: Limits | None = None
    ) -> None:
        """:raises EngineClosedError: nobody answers there.
        :raises RequestError: the key is missing or wrong.
        :raises ModelError: the server doesn't say which models it has, and none is named."""
        self.url, self._key, self._image_limits = url, key, image_limits
        self.address = Address(url, url=url)
        self._base = url if urlsplit(url).path.strip("/") else f"{url}/v1"
        self.name = model or self._first()
        self.path: str = f"{url} {self.name}"
        self.warnings: tuple[str, ...] = ()
        self.thinks = False  # until an answer shows a thought
        self.lacks: dict[str, str] = {}  # what the server showed that it can't do, and how
        self.flight = Flight()
        self._lock = threading.Lock()
        self._counts = {"finished": 0, "failed": 0, "cancelled": 0, "prompt_tokens": 0, "completion_tokens": 0}
        self._running: weakref.WeakSet[ForeignCall] = weakref.WeakSet()
        self._workers = ThreadPoolExecutor(MOST, "omlx-foreign")
        self._client: Any = None
        self._closed = threading.Event()

    def _first(self) -> str:
        line = Line(Address(self.url, url=self.url, token=self._key))
        try:
            reply = line.ask("GET", f"{urlsplit(self._base).path}/models", timeout=20.0)
            if reply.status == 401 or reply.status == 403:
                raise RequestError(f"{self.url} wants a key; name the variable that holds it with --key-env VAR.")
            listed = reply.json().get("data") if reply.status == 200 else None
            if listed:
                return str(listed[0]["id"])
        except (EngineClosedError, KeyError, AttributeError, TypeError) as error:
            if isinstance(error, EngineClosedError) and "has gone" in str(error):
                raise EngineClosedError(f"nobody answers at {self.url}; check the address.") from None
        finally:
            line.close()
        raise ModelError(f"{self.url} doesn't say which models it has; name one with --model.")

    @property
    def client(self) -> Any:
        """The `openai` package's client, made at the first request.

        :raises RequestError: the package isn't installed.
        """
        with self._lock:
            if self._client is None:
                try:
                    from openai import OpenAI
                except ImportError:
                    raise RequestError("servers of others need the openai package: pip install openai.") from None
                # never a key that the environment holds for somebody else
                self._client = OpenAI(base_url=self._base, api_key=self._key or "none", max_retries=0, timeout=600.0)
            return self._client

    def submit(
        self,
        prompt: object = None,
        images: object = (),
        sampling: SamplingParams | None = None,
        *,
        system: str | None = None,
        tools: Sequence[object] | None = None,
        chat_template_kwargs: Mapping[str, object] | None = None,
        draft: bool = True,
        hint: str = "",
        begin: str = "",
        group: int = 0,
    ) -> RemoteHandle:
        """Queue a request and return at once; as `Engine.submit`. `draft`, `hint` and `group` have no effect there.

        :raises RequestError: nothing was asked, or what no such server takes.
        :raises EngineClosedError: the engine was closed.
        """
        from ..chat.messages import checked_system, conversation, tool_schemas
        from ..chat.parts import checked_text
        from ..engine.prompt import as_messages
        from .shapes import options_of

        if self._closed.is_set():
            raise EngineClosedError("the engine was closed; load or connect a new one.")
        messages = as_messages(conversation(prompt), images, checked_system(system))
        begin = checked_text(begin, "the answer's beginning")
        wanted = sampling or SamplingParams()
        options = options_of(wanted, dict(chat_template_kwargs or {}), begin)
        if given := tool_schemas(tools):
            options["tools"] = given
        asked = Asked()
        call = ForeignCall(self, asked, messages, options, wanted, begin)
        self._running.add(call)
        self._workers.submit(call.run)
        return RemoteHandle(asked, call.tell)

    @property
    def limits(self) -> Limits:
        from ..images.limits import Limits

        return replace(self._image_limits or Limits(), pixel_budget=self.pixel_budget)

    def count(self, what: str, made: Generation | None = None) -> None:
        with self._lock:
            self._counts[what] += 1
            if made is not None:
                self._counts["prompt_tokens"] += made.usage.prompt_tokens
                self._counts["completion_tokens"] += made.usage.completion_tokens

    def lack(self, what: str, how: str) -> str:
        """A note, the first time."""
        with self._lock:
            if what in self.lacks:
                return ""
            self.lacks[what] = how
        return f"{self.address.shown} doesn't do {what}: {how}"

    def safe(self, text: object) -> str:
        """A server's words without the key, should it repeat it."""
        said = str(text)
        return said.replace(self._key, "…") if self._key else said

    def parse_tools(self, result: Generation, tools: Sequence[object] | None = None) -> Taken:
        """The calls that the server found in its answer."""
        return Taken(result.text, getattr(result, "calls", ()))

    def stats(self) -> EngineStats:
        """What this side has counted."""
        from . import figures

        with self._lock:
            going = [call for call in self._running if not call.asked.ended]
            counts: Any = dict(self._counts)
        state = "closed" if self._closed.is_set() else "decode" if going else "idle"
        return replace(figures.closed(self.name), state=state, decoding=len(going), **counts)

    def requests(self) -> list[Lane]:
        from ..engine.lanes import Lane

        going = [call.asked for call in list(self._running) if not call.asked.ended]
        return [Lane(a.number, a.phase, 0, 0, a.tokens, 0, a.images, 0, 0) for a in going]

    def recent(self) -> list[Finished]:
        return []

    def others(self) -> list[str]:
        return []

    @property
    def capabilities(self) -> Capabilities:
        from ..engine.stats import Capabilities

        return Capabilities(True, False, False, why={"cached": "it is the server's", **self.lacks}, identity=self.path)

    @property
    def chat(self) -> Any:
        """The `openai` client's own."""
        return self.client.chat

    @property
    def responses(self) -> Any:
        return self.client.responses

    def forget_proofs(self) -> None:
        """:raises RequestError: always."""
        raise RequestError("the model is a server's; nothing is proved here.")

    def close(self) -> None:
        """End what runs as cancelled. Twice is harmless."""
        self._closed.set()
        for call in list(self._running):
            call.tell("cancel", call.asked)
        self._workers.shutdown(wait=False, cancel_futures=True)
        for call in list(self._running):
            call.asked.stop()
