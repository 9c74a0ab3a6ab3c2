"""A safetensors file's header, checked in full before anything trusts it."""

from __future__ import annotations

import json
import math
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

from ..errors import ModelError

_MOST_BYTES = 100 * 2**20  # of a header: the safetensors library's own limit
_MOST_AXES = 32
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


class Tensor(TypedDict):
    """One tensor: its dtype's name, its shape, and its first byte and the byte after its last, in the data."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


def safetensors_header(file: Path) -> dict[str, Tensor]:
    """Tensor name -> its entry. The tensors fill the data without holes or overlap, as the format demands.

    :raises ModelError: the file is no regular file, is cut short, too long, or its header contradicts itself.
    """
    try:
        with open(file, "rb", opener=_open) as stream:
            size = os.fstat(stream.fileno()).st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MOST_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(
                stream.read(length).decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
            )
        return _checked(header, size - 8 - length)
    except (OSError, ValueError, struct.error, RecursionError) as error:
        why = "brackets nested too deep" if isinstance(error, RecursionError) else error
        raise ModelError(f"{file} is damaged or cut short ({why}); download it again.") from None


def _open(path: str, flags: int) -> int:
    """A FIFO opens at once, and is refused after."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if (mode & 0o170000) != 0o100000:
        os.close(descriptor)
        raise ValueError("not a regular file")
    return descriptor


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name twice")
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} in the header")


def _checked(header: object, data: int) -> dict[str, Tensor]:
    if not isinstance(header, dict):
        raise ValueError("the header is no table")
    notes = header.pop("__metadata__", None) or {}  # MLX writes null where there are none
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise ValueError("its notes are no table of texts")
    found = {name: _entry(name, entry) for name, entry in header.items()}
    spans = sorted(tuple(entry["data_offsets"]) for entry in found.values())
    for (_, end), (begin, _) in pairwise(spans):
        if begin != end:
            raise ValueError("tensors overlap" if begin < end else "a hole between tensors")
    if spans and spans[0][0] != 0:
        raise ValueError("a hole before the first tensor")
    end = spans[-1][1] if spans else 0
    if end != data:
        raise ValueError(f"{data} bytes of data where the header says {end}")
    return found


def _entry(name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"no dtype, shape and offsets for {name[:80]}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"an unknown dtype for {name[:80]}")
    if not _whole(shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"an impossible shape for {name[:80]}")
    if not _whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"impossible offsets for {name[:80]}")
    bits = math.prod(shape) * _BITS[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(f"shape and size of {name[:80]} differ")
    return Tensor(dtype=dtype, shape=shape, data_offsets=offsets)


def _whole(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
