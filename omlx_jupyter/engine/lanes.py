"""Requests as a dashboard shows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from .phase import Phase
from .request import Request


@dataclass(frozen=True)
class Lane:
    """A request that isn't finished: `done` of `total` prompt tokens are prefilled, `tokens` are written, of which
    `thought` are its thought's and `accepted` came from drafts."""

    number: int
    phase: Phase
    done: int
    total: int
    tokens: int
    max_tokens: int
    images: int
    thought: int
    accepted: int


@dataclass(frozen=True)
class Finished:
    """Where a finished request's prompt tokens came from, and how many of its own are a thought's and from drafts."""

    number: int
    prompt: int
    ram: int
    ssd: int
    tokens: int
    thought: int
    accepted: int


_ORDER: tuple[Phase, ...] = (Phase.DECODE, Phase.PREFILL, Phase.READING, Phase.QUEUED, Phase.DONE)


def lanes_of(requests: Iterable[Request]) -> list[Lane]:
    """One lane a request, in order of arrival; the requests of a group share one."""
    groups: dict[object, list[Request]] = {}
    for request in sorted(requests, key=lambda r: r.number):
        groups.setdefault(("group", request.wants.group) if request.wants.group else request.number, []).append(request)
    return [_lane(members) for members in groups.values()]


def _lane(members: list[Request]) -> Lane:
    phases = {r.phase for r in members}
    return Lane(
        members[0].number,
        next(phase for phase in _ORDER if phase in phases),
        sum(r.course.prefilled for r in members),
        sum(r.prompt.tokens for r in members),
        sum(len(r.answer.token_ids) for r in members),
        sum(r.max_tokens for r in members),
        1 if members[0].wants.group else members[0].prompt.images,
        sum(r.answer.reasoning_tokens for r in members),
        sum(r.course.accepted for r in members),
    )


def finished_of(request: Request) -> Finished:
    return Finished(
        request.number,
        request.prompt.tokens,
        request.course.cached_tokens_ram,
        request.course.cached_tokens_ssd,
        len(request.answer.token_ids),
        request.answer.reasoning_tokens,
        request.course.accepted,
    )


def note_finished(recent: deque[tuple[int, Finished]], request: Request) -> None:
    """Add a request, with its group, to the finished ones; a group's are added up in one."""
    made = finished_of(request)
    for place, (group, other) in enumerate(recent):
        if group and group == request.wants.group:
            recent[place] = (
                group,
                Finished(
                    other.number,
                    other.prompt + made.prompt,
                    other.ram + made.ram,
                    other.ssd + made.ssd,
                    other.tokens + made.tokens,
                    other.thought + made.thought,
                    other.accepted + made.accepted,
                ),
            )
            return
    recent.append((request.wants.group, made))
