"""One session with a server: requests go out in bundles, what comes of all of them comes over one stream."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..engine.phase import Phase
from ..errors import EngineClosedError, OmlxError, RequestError
from . import wire
from .handle import Asked
from .line import Line, Reply, gone, refused

if TYPE_CHECKING:
    from ..images.decoded import DecodedImage

_SILENCE_S = 45.0  # a server says something every ten seconds, if only a blank line
_UPLOAD = 32 * 2**20  # bytes of pictures in one body
_BUNDLE = 64  # requests in one body
_BUSY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # waits where the server's queue is full
Said = tuple[Asked, wire.Item, dict[str, "DecodedImage"]]  # what is asked, as JSON, and its pictures by digest


class Channel:
    """Threads of one session; they end with it. `prepare` runs on a worker, so that `submit` returns at once."""

    def __init__(self, line: Line, model: str, who: str, max_body: int) -> None:
        self._line, self._model, self._who, self._most = line, model, who, max_body - 4096
        self._lock = threading.Lock()
        self._asked: dict[int, Asked] = {}
        self._session = ""
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._openers = ThreadPoolExecutor(4, "omlx-send")
        self._stream: Any = None
        self._lost: EngineClosedError | None = None
        self._stop = threading.Event()
        self._aside: list[Any] = []  # what came while the sender waited

    @property
    def lost(self) -> bool:
        return self._lost is not None

    def submit(self, asked: Asked, prepare: Callable[[], tuple[wire.Item, dict[str, DecodedImage]]]) -> None:
        """:raises EngineClosedError: the server has gone, or the engine was closed."""
        self._open()
        with self._lock:
            if self._lost is not None:
                raise self._lost
            self._asked[asked.number] = asked
            self._openers.submit(self._prepare, asked, prepare)

    def tell(self, what: str, asked: Asked) -> None:
        """Of a request that has been sent; of others it goes along when they are."""
        if asked.sent and not asked.ended:
            self._out.put((what, asked))

    def close(self) -> None:
        """End all that runs as cancelled."""
        self._stop.set()
        for asked in self._drop(EngineClosedError("the engine was closed; load or connect a new one.")):
            asked.stop()
        self._openers.shutdown(wait=False, cancel_futures=True)
        self._out.put(None)
        connection = self._stream
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(2)

    def _drop(self, why: EngineClosedError) -> list[Asked]:
        with self._lock:
            self._lost = self._lost or why
            left = list(self._asked.values())
            self._asked.clear()
        return left

    def lose(self) -> None:
        """The server has gone: whoever waits is told."""
        error = gone(self._line.address)
        for asked in self._drop(error):
            asked.fail(error)

    def _open(self) -> None:
        """The stream, at the first request."""
        with self._lock:
            if self._session or self._lost is not None:
                return
            path = f"{wire.ROOT}/events?model={quote(self._model, safe='')}&who={quote(self._who, safe='')}"
            connection, response = self._line.stream(path, _SILENCE_S)
            if response.status != 200:
                reply = Reply(response.status, response.read())
                connection.close()
                raise refused(reply, self._line.address)
            self._session = json.loads(response.readline())["session"]
            self._stream = connection
            for name, work in (("hear", lambda: self._hear(connection, response)), ("say", self._say)):
                threading.Thread(target=work, name=f"omlx-{name}", daemon=True).start()

    def _prepare(self, asked: Asked, prepare: Callable[[], tuple[wire.Item, dict[str, DecodedImage]]]) -> None:
        try:
            said, pictures = prepare()
        except OmlxError as error:
            self._forget(asked).fail(error)
        except Exception as error:
            self._forget(asked).fail(RequestError(f"the request failed ({type(error).__name__}: {error})."))
        else:
            self._out.put((asked, said, pictures))

    def _forget(self, asked: Asked) -> Asked:
        with self._lock:
            self._asked.pop(asked.number, None)
        return asked

    # the sender

    def _say(self) -> None:
        while True:
            waiting = self._aside or [self._out.get()]
            self._aside = []
            while len(waiting) < _BUNDLE and not self._out.empty():
                waiting.append(self._out.get())
            try:
                self._send([item for item in waiting if item is not None and len(item) == 3])
                self._pass_on([item for item in waiting if item is not None and len(item) == 2])
            except EngineClosedError:
                self.lose()
            if None in waiting or self.lost:
                return

    def _send(self, bundle: list[Said]) -> None:
        told = {}
        for asked, said, pictures in bundle:
            if asked.cancelled and not asked.detached:
                self._forget(asked).stop()
            elif (largest := max((p.pixels.nbytes for p in pictures.values()), default=0)) > self._most:
                limit = f"{largest / 2**20:.0f} MiB, over the limit of {(self._most + 4096) // 2**20} MiB"
                self._forget(asked).fail(RequestError(f"a picture has {limit} of the server's requests; shrink it."))
            else:
                told[asked.number] = (asked, said, pictures)
        for _ in range(3):  # a picture may be dropped by the server between two tries
            if not told:
                return
            body = {"session": self._session, "requests": [said for _, said, _ in told.values()]}
            reply = self._patiently(body)
            if reply.status != 200:
                self._refuse(told, reply)
                return
            unknown = reply.json()["unknown"]
            for number in [n for n in told if str(n) not in unknown]:
                self._was_sent(told.pop(number)[0])
            refusal = self._upload({d: told[int(n)][2][d] for n, digests in unknown.items() for d in digests})
            if refusal is not None:
                self._refuse(told, refusal)
                return
        for asked, _, _ in told.values():
            self._forget(asked).fail(RequestError("the server keeps no pictures of this request; send fewer at once."))

    def _was_sent(self, asked: Asked) -> None:
        asked.sent = True
        for what, wanted in (("background", asked.background), ("cancel", asked.cancelled)):
            if wanted:
                self._out.put((what, asked))

    def _patiently(self, body: wire.Item) -> Reply:
        """A full queue is waited for."""
        tries = 0
        while True:
            reply = self._line.ask("POST", f"{wire.ROOT}/submit", body)
            if reply.status not in (429, 503) or self._stop.is_set():
                return reply
            self._stop.wait(_BUSY_S[min(tries, len(_BUSY_S) - 1)])
            self._let_words_pass()  # a cancelled request may be what is waited for
            tries += 1

    def _let_words_pass(self) -> None:
        words: list[Any] = []
        while not self._out.empty():
            item = self._out.get()
            (words if item is not None and len(item) == 2 else self._aside).append(item)
        self._pass_on(words)

    def _refuse(self, told: dict[int, Said], reply: Reply) -> None:
        """A server that answers, but not what was asked."""
        error = refused(reply, self._line.address)
        for asked, _, _ in told.values():
            self._forget(asked).fail(error)

    def _upload(self, pictures: dict[str, DecodedImage]) -> Reply | None:
        """Send what isn't known; the reply of a server that doesn't take it."""
        left = list(pictures.values())
        while left:
            body: list[bytes | memoryview] = []
            size = 0
            while left and (not body or size + left[0].pixels.nbytes <= min(_UPLOAD, self._most)):
                image = left.pop(0)
                head = {"digest": image.digest, "width": image.width, "height": image.height}
                body += wire.frame(head, memoryview(image.pixels.tobytes()))
                size += image.pixels.nbytes
            reply = self._line.ask("POST", f"{wire.ROOT}/pictures", pieces=body)
            if reply.status != 200:
                return reply
        return None

    def _pass_on(self, words: list[tuple[str, Asked]]) -> None:
        body: wire.Item = {"session": self._session}
        for what, asked in words:
            body.setdefault(what, []).append(asked.number)
        if words:
            self._line.ask("POST", f"{wire.ROOT}/tell", body)

    # the reader

    def _hear(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        try:
            while line := response.readline():
                if line.strip():
                    self._take(json.loads(line))
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # AttributeError: http.client's response was closed under the reader
        finally:
            response.close()
            connection.close()
            self.lose()
            self._out.put(None)

    def _take(self, event: wire.Item) -> None:
        asked = self._asked.get(event.get("id", 0))
        if asked is None:
            return
        if progress := event.get("p"):
            phase, asked.prefilled, asked.prompt_tokens, asked.tokens, asked.images = progress
            asked.phase = Phase(phase)
            asked.usage = wire.usage_in(event["u"])
        if deltas := event.get("d"):
            asked.take([wire.delta_in(item) for item in deltas])
        if "end" in event:
            self._forget(asked).finish(wire.generation_in(event["end"]))
        elif "error" in event:
            self._forget(asked).fail(wire.error_in(event["error"]))
