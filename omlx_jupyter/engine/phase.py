"""Where a request is on its way, and which ways there are."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The words are those of the comm messages."""

    QUEUED = "queued"  # no row yet: it is being prepared, or waits for a row
    READING = "reading"  # its pictures are being encoded
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"


# Every phase leads to DONE as well. A row that was dropped for its memory goes back to the queue.
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset({Phase.READING, Phase.PREFILL}),
    Phase.READING: frozenset({Phase.PREFILL, Phase.DECODE, Phase.QUEUED}),  # some take pictures and prompt at once
    Phase.PREFILL: frozenset({Phase.DECODE, Phase.QUEUED}),
    Phase.DECODE: frozenset({Phase.QUEUED}),
    Phase.DONE: frozenset(),
}


class PhaseError(RuntimeError):
    """A fault of ours: a request went where no way leads."""

    def __init__(self, number: int, old: Phase, new: Phase) -> None:
        super().__init__(f"request {number} can't go from {old} to {new}")


def allowed(old: Phase, new: Phase) -> bool:
    return new in TRANSITIONS[old] or (new is Phase.DONE and old is not Phase.DONE)
