"""What every route does with what it is asked."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from ..errors import RequestError
from .guard import Bounds, Refused
from .house import House


async def json_object(request: Request) -> dict[str, Any]:
    """:raises RequestError: the body is no JSON object."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise RequestError("the body is no JSON object.")
    return body


def check_queue(house: House, more: int, bounds: Bounds) -> None:
    """A bundle that is larger than the queue is taken where nothing runs.

    :raises Refused: so many more requests don't fit.
    """
    running = house.running()
    if running and running + more > bounds.queue:
        raise Refused(429, "the server's queue is full; try again in a moment.")
