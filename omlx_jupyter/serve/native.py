"""The route of our own clients: what OpenAI's shapes can't say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import RequestError
from ..remote import wire
from ..types import Generation, Usage
from . import about
from .asked import check_queue, json_object
from .guard import Bounds, Receive, Scope, Send
from .house import House
from .session import Session, Sessions
from .shelf import PictureShelf


class Native:
    """Handlers over the models, the sessions and the pictures of one server."""

    def __init__(self, server: str, house: House, sessions: Sessions, shelf: PictureShelf, bounds: Bounds) -> None:
        self._server, self._house, self._sessions, self._shelf, self._bounds = server, house, sessions, shelf, bounds

    def routes(self) -> list[Any]:
        root = wire.ROOT
        return [
            Route(f"{root}/hello", self.hello),
            Route(f"{root}/events", _Events(self)),
            Route(f"{root}/pictures", self.pictures, methods=["POST"]),
            Route(f"{root}/submit", self.submit, methods=["POST"]),
            Route(f"{root}/tell", self.tell, methods=["POST"]),
            Route(f"{root}/stats", self.stats),
            Route(f"{root}/capabilities", self.capabilities, methods=["POST"]),
            Route(f"{root}/decode", self.decode, methods=["POST"]),
            Route(f"{root}/token-ends", self.token_ends, methods=["POST"]),
            Route(f"{root}/tools/{{what}}", self.tools, methods=["POST"]),
        ]

    async def hello(self, request: Request) -> Response:
        slot = self._house.slot(request.query_params.get("model"))
        engine = await self._house.engine(slot.name)
        return JSONResponse(about.hello(self._server, slot.name, engine, self._house.names, self._bounds.body))

    async def session(self, query: str) -> Session:
        """A new session, from the query of its stream."""
        from urllib.parse import parse_qs

        asked = parse_qs(query)
        slot = self._house.slot(asked["model"][0] if "model" in asked else None)
        session = Session(slot.name, (asked.get("who") or [""])[0][:100])
        self._sessions.add(session)
        return session

    def end(self, session: Session) -> None:
        self._sessions.remove(session)

    async def pictures(self, request: Request) -> Response:
        for head, pixels in wire.frames(memoryview(await request.body()), self._shelf.size):
            self._shelf.put(head, pixels)
        return JSONResponse({})

    async def submit(self, request: Request) -> Response:
        """`unknown` has the digests that have to be sent first, by request; all others are begun."""
        body = await json_object(request)
        session = self._sessions.get(body.get("session"))
        asked = body.get("requests")
        if not isinstance(asked, list) or not all(isinstance(r, dict) and isinstance(r.get("id"), int) for r in asked):
            raise RequestError("requests is a list of {id, messages, ...}.")
        check_queue(self._house, len(asked), self._bounds)
        engine = await self._house.engine(session.model)
        unknown: dict[str, list[str]] = {}
        for said in asked:
            named = [part["picture"] for part in wire.pictures_in(said.get("messages"))]
            lacking = [digest for digest in named if digest not in self._shelf]
            if lacking:
                unknown[str(said["id"])] = list(dict.fromkeys(lacking))
            else:
                session.submit(engine, said, wire.messages_in(said["messages"], self._shelf.get))
        return JSONResponse({"unknown": unknown})

    async def tell(self, request: Request) -> Response:
        body = await json_object(request)
        session = self._sessions.get(body.get("session"))
        for what in ("background", "cancel"):
            session.tell(what, body.get(what))
        return JSONResponse({})

    async def stats(self, request: Request) -> Response:
        engine = await self._house.engine(request.query_params.get("model"))
        return JSONResponse(about.figures(engine, self._sessions.who()))

    async def capabilities(self, request: Request) -> Response:
        return JSONResponse(about.capabilities(await self._house.engine((await json_object(request)).get("model"))))

    async def decode(self, request: Request) -> Response:
        body = await json_object(request)
        engine = await self._house.engine(body.get("model"))
        return JSONResponse({"text": engine.decode(_ids(body))})

    async def token_ends(self, request: Request) -> Response:
        body = await json_object(request)
        engine = await self._house.engine(body.get("model"))
        return JSONResponse({"ends": await asyncio.to_thread(engine.token_ends, _ids(body))})

    async def tools(self, request: Request) -> Response:
        body, what = await json_object(request), request.path_params["what"]
        engine = await self._house.engine(body.get("model"))
        tools = body.get("tools")
        if what == "parse":
            reasoning = int(body.get("reasoning") or 0)
            made = Generation(str(body.get("text")), _ids(body), "stop", Usage(reasoning_tokens=reasoning))
            parsed = await asyncio.to_thread(engine.parse_tools, made, tools)
            calls = [[call.name, call.arguments] for call in parsed.calls]
            return JSONResponse({"text": parsed.text, "calls": calls, "note": parsed.note})
        if what == "begun":
            begun = await asyncio.to_thread(engine.tool_parser.begun, _ids(body), tools)
            return JSONResponse({"calls": [[c.name, c.arguments, c.whole] for c in begun]})
        if what == "grammar":
            return JSONResponse({"grammar": engine.tool_parser.grammar(tools or [], bool(body.get("several")))})
        raise RequestError(f"tools can't {what[:40]!r}.")


class _Events:
    """The stream of a session, as a bare ASGI application: it ends with its connection, and the session with it."""

    def __init__(self, native: Native) -> None:
        self._native = native

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = await self._native.session(scope["query_string"].decode("latin-1"))
        headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        watch = asyncio.create_task(_until_gone(receive, session))
        try:
            async for line in session.lines():
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            watch.cancel()
            self._native.end(session)


async def _until_gone(receive: Receive, session: Session) -> None:
    with contextlib.suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    session.close()


def _ids(body: Mapping[str, object]) -> list[int]:
    ids = body.get("token_ids")
    if not isinstance(ids, list) or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise RequestError("token_ids is a list of token ids.")
    return ids
