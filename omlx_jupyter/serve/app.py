"""The application: routes, errors as JSON, figures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..errors import EngineClosedError, EngineFaultError, OmlxError, RequestError
from ..remote import wire
from . import about
from .guard import App, Bounds, Guard, Refused
from .house import House, NoSuchModelError
from .native import Native
from .openai_shapes import OpenAIShapes, openai_error
from .session import Sessions
from .shelf import PictureShelf


class Server:
    """What all routes share. `stop` ends the process when it is called."""

    def __init__(self, name: str, house: House, bounds: Bounds, stop: Callable[[], None]) -> None:
        self.name, self.house, self.bounds, self._stop = name, house, bounds, stop
        self.sessions = Sessions()
        self._shelf = PictureShelf(bounds.pictures, bounds.pixels)

    def app(self, token: str = "", hosts: Collection[str] = ()) -> App:
        """`token` and `hosts` are for what comes over TCP."""
        native = Native(self.name, self.house, self.sessions, self._shelf, self.bounds)
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route(f"{wire.ROOT}/status", self.status),
            Route(f"{wire.ROOT}/stop", self.stop, methods=["POST"]),
            *native.routes(),
            *OpenAIShapes(self.house, self.bounds).routes(),
        ]
        handlers: Any = {OmlxError: _failed, Refused: _refused, TimeoutError: _late}
        made: Any = Starlette(routes=routes, exception_handlers=handlers)
        return Guard(made, token, hosts, self.bounds)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "server": f"omlx {self.name}"})

    async def metrics(self, request: Request) -> Response:
        engines = {s.name: s.engine for s in self.house.slots.values() if s.engine is not None}
        text = about.metrics(engines, len(self.sessions.who()))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def status(self, request: Request) -> Response:
        """All models, the loaded ones with their figures, and who is connected."""
        models = {}
        for slot in self.house.slots.values():
            models[slot.name] = None if slot.engine is None else about.figures(slot.engine, [])["stats"]
        return JSONResponse({"name": self.name, "models": models, "sessions": self.sessions.who()})

    async def stop(self, request: Request) -> Response:
        self._stop()
        return JSONResponse({})


async def _failed(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, RequestError) else 422
    if isinstance(error, EngineClosedError | EngineFaultError):
        status = 503
    if isinstance(error, NoSuchModelError):
        status = 404
    return JSONResponse({"error": openai_error(error)}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"Retry-After": "1"} if error.status in (429, 503) else None
    said = {"kind": error.kind, "message": str(error), "type": "rate_limit_error" if error.status == 429 else "error"}
    return JSONResponse({"error": said}, error.status, headers)


async def _late(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"kind": "RequestError", "message": str(error), "type": "timeout"}}, 408)
