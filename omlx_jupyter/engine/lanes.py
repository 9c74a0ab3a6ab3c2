"""Requests as a dashboard shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .request import Phase, Request


@dataclass(frozen=True)
class Lane:
    """A request that isn't finished: `done` of `total` prompt tokens are prefilled, `tokens` are written."""

    number: int
    phase: Phase
    done: int
    total: int
    tokens: int
    max_tokens: int
    images: int


@dataclass(frozen=True)
class Finished:
    """Where a finished request's prompt tokens came from."""

    number: int
    prompt: int
    ram: int
    ssd: int
    tokens: int


def lanes_of(requests: Iterable[Request]) -> list[Lane]:
    return [
        Lane(r.number, r.phase, r.prefilled, r.prompt_tokens, len(r.token_ids), r.sampling.max_tokens or 0, r.images)
        for r in sorted(requests, key=lambda r: r.number)
    ]


def finished_of(request: Request) -> Finished:
    return Finished(
        request.number,
        request.prompt_tokens,
        request.cached_tokens_ram,
        request.cached_tokens_ssd,
        len(request.token_ids),
    )
