"""OpenAI's HTTP shapes over the models of a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..chat.completions import AsyncCompletions
from ..chat.responses import AsyncResponses
from ..errors import OmlxError, RequestError
from ..remote import wire
from .asked import check_queue, json_object
from .guard import Bounds, Refused
from .house import House
from .pictures_named import check_messages

if TYPE_CHECKING:
    from pydantic import BaseModel

Made = TypeVar("Made")


class OpenAIShapes:
    """`/v1/chat/completions`, `/v1/responses` and `/v1/models`."""

    def __init__(self, house: House, bounds: Bounds) -> None:
        self._house, self._bounds = house, bounds
        self._began = int(time.time())

    def routes(self) -> list[Any]:
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/chat/completions", self.completions, methods=["POST"]),
            Route("/v1/responses", self.responses, methods=["POST"]),
        ]

    def _entry(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._began, "owned_by": "omlx_jupyter"}

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._entry(name) for name in self._house.names]})

    async def model(self, request: Request) -> Response:
        return JSONResponse(self._entry(self._house.slot(request.path_params["name"]).name))

    async def _asked(self, request: Request, key: str) -> tuple[Any, dict[str, Any]]:
        """(the engine, what is asked of it).

        :raises RequestError: no JSON, no such model, or a picture that isn't sent along or public.
        :raises Refused: the queue is full.
        """
        if find_spec("openai") is None:
            raise RequestError(
                "OpenAI's shapes need its package beside the server: pip install 'omlx_jupyter[openai]'."
            )
        body = await json_object(request)
        if key not in body:
            raise RequestError(f"the body is a JSON object with {key}.")
        check_messages(body[key])
        if body.get("timeout") is not None or body.get("extra_headers") is not None:
            raise RequestError("timeout and extra_headers are a client's own; leave them out of the body.")
        check_queue(self._house, 1, self._bounds)
        name = self._house.slot(body.get("model")).name
        return await self._house.engine(name), {**body, "model": name}

    async def completions(self, request: Request) -> Response:
        engine, body = await self._asked(request, "messages")
        made = AsyncCompletions(engine).create(**body)
        if body.get("stream"):
            return await _streamed(await made)
        return _json(await _unless_gone(request, made))

    async def responses(self, request: Request) -> Response:
        engine, body = await self._asked(request, "input")
        made = AsyncResponses(engine).create(**body)
        if body.get("stream"):
            return await _streamed(await made, named=True)
        return _json(await _unless_gone(request, made))


def _json(made: BaseModel) -> Response:
    return Response(made.model_dump_json(), media_type="application/json")


async def _unless_gone(request: Request, made: Awaitable[Made]) -> Made:
    """Wait for an answer as long as somebody waits for it: a client that goes away ends its rows."""
    work = asyncio.ensure_future(made)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refused(499, "the client has gone.")
        return work.result()
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, OmlxError):
                await work


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _streamed(chunks: AsyncIterator[Any], named: bool = False) -> Response:
    """Server-sent events. The first is waited for, so that what can't be served is no stream."""
    first = await anext(chunks)

    async def events() -> AsyncIterator[str]:
        try:
            yield _event(first, named)
            async for chunk in chunks:
                yield _event(chunk, named)
        except OmlxError as error:
            yield f"data: {json.dumps({'error': openai_error(error)})}\n\n"
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
        if not named:
            yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _event(chunk: BaseModel, named: bool) -> str:
    head = f"event: {getattr(chunk, 'type', '')}\n" if named else ""
    return f"{head}data: {chunk.model_dump_json(exclude_none=not named)}\n\n"


def openai_error(error: BaseException) -> Mapping[str, Any]:
    """An error as OpenAI's clients and ours read it."""
    said = wire.error_out(error)
    return {**said, "type": "invalid_request_error", "code": said["kind"], "param": None}
