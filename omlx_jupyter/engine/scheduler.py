"""Who runs next, decided with integers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..visible import size
from .turns import Chunks


@dataclass(frozen=True)
class Limits:
    """Bounds of the batch. `memory_bytes` covers all that the ledger has an account of, weights included; 0 is a share
    of what the device recommends or of the machine's memory, for all kernels together. `kv_bytes` bounds
    the KV of running requests besides; 0 is no such bound. `prefill_chunk` is in tokens; 0 goes by the model's size and
    the device.
    `gap_s` is how long running rows may wait for a token while others prefill; 0 is 0.2 on a CPU, 0.05 on a GPU.
    What a model may do that nothing is listed of is found out before its first answer if that takes at most about
    `prove_s`, else when the engine is idle."""

    max_rows: int = 8
    prefill_chunk: int = 0
    kv_bytes: int = 0
    gap_s: float = 0.0
    memory_bytes: int = 0
    prove_s: float = 20.0


@dataclass(frozen=True)
class Waiting:
    """A prepared request: its number (order of arrival) and what its row will hold at most."""

    number: int
    kv_bytes: int = 0
    alone: bool = False  # its family can't share a decode step
    background: bool = False  # those that aren't go first


@dataclass(frozen=True)
class Running:
    number: int
    kv_bytes: int = 0
    alone: bool = False


def admit(
    waiting: list[Waiting],
    running: list[Running],
    limits: Limits,
    aside: int = 0,
    fits: Callable[[list[int]], bool] = lambda numbers: True,
) -> list[int]:
    """Numbers of the requests to admit now, first come, first served, background jobs last. `aside` are the bytes
    of rows that were put aside; `fits` says whether there is memory for those numbers beside what runs.

    The first that doesn't fit holds the line: a small one behind it may not pass, so that a long
    prompt can't starve. For `limits` alone one request always fits an empty batch.
    """
    admitted: list[int] = []
    rows, held = len(running), aside + sum(r.kv_bytes for r in running)
    alone = any(r.alone for r in running)
    for request in sorted(waiting, key=lambda w: (w.background, w.number)):
        if rows and (alone or request.alone or rows >= limits.max_rows):
            break
        if rows and limits.kv_bytes and held + request.kv_bytes > limits.kv_bytes:
            break
        if not fits([*admitted, request.number]):
            break
        admitted.append(request.number)
        rows, held, alone = rows + 1, held + request.kv_bytes, request.alone
    return admitted


def why_waiting(rows: int, alone: bool, limits: Limits, why: str = "") -> str:
    """Why the first waiting request isn't admitted while `rows` are in use, for people."""
    if alone:
        return "this family's requests run one at a time" + (f" ({why})" if why else "")
    if rows >= limits.max_rows:
        return f"all {limits.max_rows} rows are in use"
    return f"memory: {size(limits.kv_bytes)} are set aside for requests"


def next_chunk(prefilled: int, total: int, chunks: Chunks, stops: tuple[int, ...] = ()) -> int:
    """How many prompt tokens the next prefill chunk takes.

    All but the last prompt token are prefilled: the last one goes through the decode batch, where
    every token is sampled. Chunks end on the grid of `chunks`, whatever was restored. `stops` are offsets
    that a chunk must end at.
    """
    end = min(chunks.after(prefilled), total - 1)
    for stop in stops:
        if prefilled < stop < end:
            end = stop
    return max(0, end - prefilled)
