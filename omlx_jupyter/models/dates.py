"""The time that templates are told. A conversation keeps that of its first turn: its prompt stays its prefix."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from ..types import ImagePart, Message

_MOST = 1000  # conversations that are remembered
_now: ContextVar[datetime | None] = ContextVar("omlx_template_time", default=None)


class Dates:
    """When conversations began. Any thread."""

    def __init__(self) -> None:
        self._began: OrderedDict[bytes, datetime] = OrderedDict()

    def of(self, messages: Sequence[Message]) -> datetime:
        """The time for a prompt: now for a first turn, the first turn's where the conversation goes on."""
        opening = hashlib.blake2b(digest_size=16)
        goes_on = False
        for message in messages:
            if message.role == "assistant":
                goes_on = True
                break
            for part in message.parts:
                text = f"picture {getattr(part.source, 'digest', '')}" if isinstance(part, ImagePart) else str(part)
                opening.update(f"{message.role}\0{text}\0".encode("utf-8", "replace"))
        key, now = opening.digest(), datetime.now()
        if goes_on and key in self._began:
            return self._began[key]
        self._began[key] = now
        while len(self._began) > _MOST:
            self._began.popitem(last=False)
        return now


@contextmanager
def told(when: datetime) -> Iterator[None]:
    """Templates that are rendered inside see this time."""
    token = _now.set(when)
    try:
        yield
    finally:
        _now.reset(token)


def strftime_now(form: str) -> str:
    """What transformers gives templates under this name, at the conversation's time."""
    return (_now.get() or datetime.now()).strftime(form)
