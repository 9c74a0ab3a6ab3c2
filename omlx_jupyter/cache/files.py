"""Segment files: safetensors, one immutable file per run of new blocks, checked by CRC-32 per block."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

_PIECE = 4 * 2**20
_VECTORS = 512  # well under IOV_MAX
_DTYPES = {"float32": "F32", "float16": "F16", "uint16": "U16", "int64": "I64", "int32": "I32", "uint8": "U8"}
_NUMPY = {name: np.dtype(dtype) for dtype, name in _DTYPES.items()}
_MOST_AXES = 8
_NOT_OURS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM}


class Damaged(Exception):
    """A segment that is gone, short, altered or not ours."""


class Unreadable(Damaged):
    """The disk failed under a segment, which may be sound: a network folder that timed out, say."""


def header_of(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The safetensors header, length prefix included, padded to 8 bytes."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, array in arrays.items():
        entries[name] = {
            "dtype": _DTYPES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_segment(
    path: Path, header: bytes, arrays: Mapping[str, np.ndarray], pause: Callable[[float], None] | None = None
) -> None:
    """Temporary name -> fsync -> rename. `pause` gets the seconds that each piece took (to throttle).

    :raises OSError: the disk is full or read-only; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a dead process with our number
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            _write_all(handle, memoryview(header))
            for array in arrays.values():
                view = _bytes_of(np.ascontiguousarray(array))
                for at in range(0, len(view), _PIECE):
                    began = time.perf_counter()
                    _write_all(handle, view[at : at + _PIECE])
                    if pause is not None:
                        pause(time.perf_counter() - began)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_all(handle: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(handle, view) :]


_HEADER_LIMIT = 16 * 2**20  # a segment of a million tensors stays below it


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} in its header")


def parse_header(data: bytes) -> dict[str, Any]:
    """A safetensors header's entries.

    :raises ValueError: it isn't flat JSON with plain numbers. Nesting is counted before it is parsed: a parser
        that calls itself for every bracket ends the process at a few ten thousand of them.
    """
    if data.count(b"[") > 2 * data.count(b'"data_offsets"') or data.count(b"{") > data.count(b'"data_offsets"') + 2:
        raise ValueError("its header is nested")
    try:
        found = json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("its header is nested") from None
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    return found


class SegmentReader:
    """An open segment. An open file can be read to its end even when another process unlinks it.

    Only a regular file is opened, never through a link: a pipe would wait for ever.

    :raises Damaged: it isn't there, is short or isn't a segment.
    :raises Unreadable: the disk, or a limit of the process, keeps it from being read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            kind = Damaged if error.errno in _NOT_OURS else Unreadable  # too many open files damage none
            raise kind(f"{path.name} can't be opened ({error.strerror or error})") from error
        try:
            self._read_header(path)
        except BaseException:
            self.close()
            raise

    def _read_header(self, path: Path) -> None:
        try:
            about = os.fstat(self._handle)
            if not stat.S_ISREG(about.st_mode):
                raise ValueError("it is no regular file")
            (length,) = struct.unpack("<Q", os.pread(self._handle, 8, 0))
            if length > min(about.st_size, _HEADER_LIMIT):
                raise ValueError("its header is too long")
            self.entries: dict[str, Any] = parse_header(os.pread(self._handle, length, 8))
            self.metadata = self.entries.pop("__metadata__", {})
            self._data = 8 + length
            end = max((int(entry["data_offsets"][1]) for entry in self.entries.values()), default=0)
            if about.st_size != self._data + end:
                raise ValueError("its length is wrong")
        except OSError as error:
            raise Unreadable(f"{path.name} can't be read ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, struct.error) as error:
            raise Damaged(f"{path.name} is damaged ({str(error)[:200]})") from error

    def close(self) -> None:
        os.close(self._handle)

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """A tensor, or its range [start, stop) along axis 1 (tokens): (heads, stop - start, width).

        :raises Damaged: no such tensor or range, or the file ended early.
        """
        shape, dtype, begin = self._entry(name)
        if start is None or stop is None:
            out = np.empty(shape, dtype)
            self._fill(out, begin)
            return out
        if len(shape) < 2 or not 0 <= start <= stop <= shape[1]:  # before memory is taken for it
            raise Damaged(f"tensor {name} is {shape}, not what its index row says")
        out = np.empty((shape[0], stop - start, *shape[2:]), dtype)
        self.read_into(out, name, start, stop)
        return out

    def shape(self, name: str, stop: int = 0) -> tuple[list[int], np.dtype]:
        """A tensor's shape, (heads, tokens, ...) with at least `stop` tokens, and dtype.

        :raises Damaged: it has no tokens, or fewer.
        """
        shape, dtype, _ = self._entry(name)
        if len(shape) < 2 or stop > shape[1]:
            raise Damaged(f"tensor {name} is {shape}, not what its index row says")
        return shape, dtype

    def _entry(self, name: str) -> tuple[list[int], np.dtype, int]:
        try:
            entry = self.entries[name]
            shape = [int(n) for n in entry["shape"]]
            dtype = _NUMPY[entry["dtype"]]
            begin, end = (int(n) for n in entry["data_offsets"])
            size = math.prod(shape) * dtype.itemsize
            # nothing empty: beside an axis of 0 the others may be anything
            if min(shape, default=1) < 1 or len(shape) > _MOST_AXES or begin < 0 or size != end - begin:
                raise ValueError("shape and bytes disagree")
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise Damaged(f"tensor {name}: {str(error)[:200]}") from error
        return shape, dtype, begin

    def read_into(self, out: np.ndarray, name: str, start: int, stop: int) -> None:
        """Tokens [start, stop) of a tensor into `out` (heads, stop - start, width), whose heads may lie apart.

        :raises Damaged: the tensor is of another shape, or the file ended early.
        """
        shape, dtype, begin = self._entry(name)
        if len(shape) < 2 or stop > shape[1] or out.shape != (shape[0], stop - start, *shape[2:]) or out.dtype != dtype:
            raise Damaged(f"tensor {name} is {dtype} {shape}, not what its index row says")
        token = out[0, 0].nbytes if out.size else 0
        if start == 0 and stop == shape[1] and 0 < shape[0] <= _VECTORS:
            self._scatter([_bytes_of(head) for head in out], begin)
            return
        for head in range(shape[0]):
            self._fill(out[head], begin + (head * shape[1] + start) * token)

    def _scatter(self, views: list[memoryview], offset: int) -> None:
        """One read into several places: the heads of a whole tensor lie side by side in the file."""
        count = self._preadv(views, self._data + offset)
        at = 0
        for view in views:  # what a short read left out
            have = min(len(view), max(0, count - at))
            if have < len(view):
                self._fill_view(view[have:], offset + at + have)
            at += len(view)

    def _preadv(self, views: list[memoryview], at: int) -> int:
        try:
            return os.preadv(self._handle, views, at)
        except OSError as error:
            raise Unreadable(f"it can't be read ({error.strerror or error})") from error
        except OverflowError:
            raise Damaged("its offsets lie outside any file") from None

    def _fill(self, out: np.ndarray, offset: int) -> None:
        self._fill_view(_bytes_of(out), offset)

    def _fill_view(self, view: memoryview, offset: int) -> None:
        at = self._data + offset
        while len(view):
            count = self._preadv([view], at)
            if count <= 0:
                raise Damaged("the file ended early")
            view, at = view[count:], at + count


def _bytes_of(array: np.ndarray) -> memoryview:
    """A C-ordered array's memory."""
    return array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")


def checksum(arrays: Iterable[np.ndarray], seed: int = 0) -> int:
    """CRC-32 over the sums of the arrays, so that arrays can be summed in parallel."""
    return joined_checksum(map(array_checksum, arrays), seed)


def array_checksum(array: np.ndarray) -> int:
    """32 bits of XXH3 (a core sums about 12 GB/s, twice what CRC-32 does) of type, shape and bytes in C order: the
    same bytes are something else under another header. Tokens cut out of an array (heads, tokens, width) aren't
    copied."""
    made = xxhash.xxh3_64(f"{array.dtype}{array.shape}".encode())
    if array.flags.c_contiguous:
        made.update(_bytes_of(array))
    else:
        for part in array:
            made.update(_bytes_of(np.ascontiguousarray(part)))
    return made.intdigest() & 0xFFFFFFFF


def joined_checksum(sums: Iterable[int], seed: int) -> int:
    return zlib.crc32(b"".join(value.to_bytes(4, "little") for value in sums), seed)
