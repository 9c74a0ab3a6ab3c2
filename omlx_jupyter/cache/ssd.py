"""The SSD tier: segments in a folder under one SQLite index and one byte budget, shared by all processes."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from . import index as sql
from .files import (
    Damaged,
    SegmentReader,
    array_checksum,
    checksum,
    header_of,
    joined_checksum,
    write_segment,
)
from .index import BlockRow, Index
from .keys import Block
from .planner import Child
from .shelf import Shelf

SYMBOLS = "symbols"
_POOL = ThreadPoolExecutor(2, "omlx-cache-sums")  # tensors of one restore, read and summed side by side


@dataclass
class Run:
    """New blocks, one after the other in a chain, and states and features that go into the same file.

    `arrays` are (heads, tokens, width) over all blocks; `extras` maps a key to its named arrays.
    """

    blocks: Sequence[Block] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Mapping[bytes, Mapping[str, np.ndarray]] = field(default_factory=dict)


def seed_of(key: bytes, parent: bytes = b"", window: int = 0) -> int:
    """Checksums begin with the block's name and parent: no index row can point at another block's data."""
    return zlib.crc32(key + parent + window.to_bytes(4, "little"))


def extra_checksum(key: bytes, arrays: Mapping[str, np.ndarray]) -> int:
    """Of a state or features, their arrays' names included: a renamed one would be missing."""
    names = sorted(arrays)
    return checksum((arrays[name] for name in names), zlib.crc32("/".join(names).encode(), seed_of(key)))


def state_key(block: bytes) -> bytes:
    return b"state:" + block


class SsdTier(Shelf):
    """One model's view of the folder. `read*`, `children` and `symbols` belong to the engine's threads, which
    share a connection one at a time, `store` and `tend` to the writer's, which has its own.

    Every fault of the disk is a miss (dropped and logged once) or pauses the tier with one warning.
    """

    # -- the engine's side ------------------------------------------------------------------

    def children(self, parent: bytes, first: int, stateful: bool) -> list[Child]:
        found: list[Child] = []
        if self.paused:
            return found
        with self._guarded(), self._reading() as index:
            for key, length, window in index.children(parent, first):
                if isinstance(key, bytes) and isinstance(length, int) and length > 0 and isinstance(window, int):
                    state = stateful and index.extra(state_key(key)) is not None
                    found.append(Child(key, length, False, window, state))
        return found

    def after(self, parent: bytes, most: int) -> list[bytes]:
        """Keys of the newest blocks after `parent`. Any thread, as `symbols`."""
        found: list[bytes] = []
        if not self.paused:
            with self._guarded(), self._reading() as index:
                found = index.after(parent, most)
        return found

    def symbols(self, key: bytes, drop: bool = True) -> np.ndarray | None:
        """A stored block's symbols, unchecked: its data is checked when it is read. Where they were altered its file
        is dropped, unless the answer that asks has been restored from it already: nothing would write it anew."""
        row = self._rows([key]).get(key)
        if row is None or not row.sound:
            return None
        try:
            with SegmentReader(self._path(row.segment)) as reader:
                found = reader.read(SYMBOLS, row.start, row.start + row.length)
            if checksum([found], seed_of(row.key, row.parent)) != row.symbols_crc:
                raise Damaged("a block's tokens were altered")
            symbols: np.ndarray = found[0]
            return symbols
        except Damaged as error:
            if drop:
                self._lost([row.segment], error)
            return None

    def _rows(self, keys: Sequence[bytes]) -> dict[bytes, BlockRow]:
        rows: dict[bytes, BlockRow] = {}
        if not self.paused:
            with self._guarded(), self._reading() as index:
                rows = index.blocks(keys)
        return rows

    def locate(self, keys: Sequence[bytes]) -> list[BlockRow] | None:
        """The rows of all keys, in order; None if one has gone."""
        rows = self._rows(keys)
        return [rows[key] for key in keys] if all(key in rows for key in keys) else None

    def read(
        self, rows: Sequence[BlockRow], names: Sequence[str], into: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, np.ndarray] | None:
        """Blocks that follow one another, joined: name -> (heads, tokens, width), or `into`, which may be longer.

        None: something is damaged; it was dropped, plan again. May run on any thread.
        """
        runs = _runs(rows)
        with contextlib.ExitStack() as stack:
            readers: list[SegmentReader] = []
            for run in runs:
                try:
                    if not all(row.sound for row in run):
                        raise Damaged("its index row is wrong")
                    readers.append(stack.enter_context(SegmentReader(self._path(run[0].segment))))
                    for name in names:  # before memory is taken for them
                        readers[-1].shape(name, run[-1].start + run[-1].length)
                except Damaged as error:
                    self._lost([run[0].segment], error)
                    return None
            made = into or _room(readers[0], names, sum(row.length for row in rows))
            bad = _read_runs(list(zip(runs, readers, strict=True)), made)
            if bad is not None:
                self._lost([bad[0]], bad[1])
                return None
        with self._lock:
            self._used.update(row.segment for row in rows)
        return made

    def shapes(self, row: BlockRow, names: Sequence[str]) -> dict[str, tuple[list[int], np.dtype]] | None:
        """name -> ((heads, tokens, width), dtype) of the file that holds a block; None where it is damaged."""
        try:
            if not row.sound:
                raise Damaged("its index row is wrong")
            with SegmentReader(self._path(row.segment)) as reader:
                return {name: reader.shape(name, row.start + row.length) for name in names}
        except Damaged as error:
            self._lost([row.segment], error)
            return None

    def read_extra(self, key: bytes) -> dict[str, np.ndarray] | None:
        """A state or a picture's features by key."""
        found: tuple[int, int] | None = None
        if not self.paused:
            with self._guarded(), self._reading() as index:
                found = index.extra(key)
        if found is None:
            return None
        segment, crc = found
        prefix = key.hex() + "."
        try:
            with SegmentReader(self._path(segment)) as reader:
                names = sorted(name for name in reader.entries if name.startswith(prefix))
                arrays = {name.removeprefix(prefix): reader.read(name) for name in names}
            if not arrays or extra_checksum(key, arrays) != crc:
                raise Damaged("its checksum is wrong")
        except Damaged as error:
            self._lost([segment], error)
            return None
        with self._lock:
            self._used.add(segment)
        return arrays

    # -- the writer's side ------------------------------------------------------------------

    def store(self, run: Run, pause: Callable[[float], None] | None = None) -> None:
        """Write a run and publish it. What is stored already is left out."""
        if self.paused:
            return
        with self._guarded():
            index = self._writing()
            known = self._known(index, run.blocks)
            extras = {key: arrays for key, arrays in run.extras.items() if index.extra(key) is None}
            for blocks, start in _new_parts(run.blocks, known):
                self._write(index, blocks, _cut(run.arrays, start, sum(b.length for b in blocks)), extras, pause)
                extras = {}
            if extras:
                self._write(index, (), {}, extras, pause)

    def _known(self, index: Index, blocks: Sequence[Block]) -> dict[bytes, BlockRow]:
        """The rows of what is stored already. A wrong row is dropped: it would never be found, nor replaced."""
        known = index.blocks([block.key for block in blocks])
        for block in blocks:
            row = known.get(block.key)
            if row is None:
                continue
            if not row.sound or (row.parent, row.first, row.length) != (block.parent, block.first, block.length):
                self._lost([row.segment], Damaged("its index row is wrong"))
                del known[block.key]
        return known

    def _reserve(self, index: Index, model: int, size: int) -> int | None:
        """Room for a segment. None where it can't be had: too large, or others were quicker."""
        for _ in range(3 if size <= self.budget else 0):
            segment = index.reserve(model, size, self.budget)
            if segment is not None:
                return segment
            doomed = index.make_room(size, self.budget)
            self._unlink(doomed)
            index.drop(doomed)
            self.evictions += len(doomed)
        return None

    def _write(
        self,
        index: Index,
        blocks: Sequence[Block],
        arrays: Mapping[str, np.ndarray],
        extras: Mapping[bytes, Mapping[str, np.ndarray]],
        pause: Callable[[float], None] | None,
    ) -> None:
        tensors = dict(arrays)
        if blocks:
            tensors[SYMBOLS] = np.concatenate([block.symbols for block in blocks])[None]
        for key, parts in extras.items():
            tensors |= {f"{key.hex()}.{name}": parts[name] for name in sorted(parts)}
        header = header_of(tensors, {"model": self._name, "schema": str(sql.SCHEMA)})
        size = len(header) + sum(array.nbytes for array in tensors.values())
        model = index.model_id(self._identity, self._name, self._rate)
        segment = self._reserve(index, model, size)
        if segment is None:
            return
        try:
            write_segment(self._path(segment), header, tensors, pause)
        except BaseException:
            index.drop([segment])
            raise
        rows = _rows_of(blocks, arrays, segment)
        sums = [(key, extra_checksum(key, parts)) for key, parts in extras.items()]
        if not index.publish(segment, rows, sums):
            self._unlink([segment])
        self.stored_bytes += size


def _runs(rows: Sequence[BlockRow]) -> list[list[BlockRow]]:
    """Blocks that lie side by side in one file, together."""
    runs: list[list[BlockRow]] = []
    for row in rows:
        last = runs[-1][-1] if runs and row.sound and runs[-1][-1].sound else None
        if last is not None and last.segment == row.segment and last.start + last.length == row.start:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _room(reader: SegmentReader, names: Sequence[str], tokens: int) -> dict[str, np.ndarray]:
    shapes = {name: reader.shape(name) for name in names}
    return {name: np.empty((shape[0], tokens, *shape[2:]), dtype) for name, (shape, dtype) in shapes.items()}


def _read_runs(
    runs: Sequence[tuple[Sequence[BlockRow], SegmentReader]], out: Mapping[str, np.ndarray]
) -> tuple[int, Damaged] | None:
    """Read runs one after the other into `out` and check every block; the damaged segment, if there is one.

    Tensors are read and summed side by side: both leave the GIL to others.
    """

    def one(name: str) -> list[int] | tuple[int, Damaged]:
        sums, at = [], 0
        for run, reader in runs:
            start, length = run[0].start, sum(row.length for row in run)
            array = out[name][:, at : at + length]
            try:
                reader.read_into(array, name, start, start + length)
            except Damaged as error:
                return run[0].segment, error
            ends = [row.start - start + row.length for row in run]
            sums += [array_checksum(array[:, end - row.length : end]) for row, end in zip(run, ends, strict=True)]
            at += length
        return sums

    sums = []
    for found in _POOL.map(one, out):
        if isinstance(found, tuple):
            return found
        sums.append(found)
    rows = [row for run, _ in runs for row in run]
    for row, parts in zip(rows, zip(*sums, strict=True), strict=True):
        if joined_checksum(parts, seed_of(row.key, row.parent, row.window)) != row.crc:
            return row.segment, Damaged("a block's checksum is wrong")
    return None


def _cut(arrays: Mapping[str, np.ndarray], start: int, length: int) -> dict[str, np.ndarray]:
    return {name: array[:, start : start + length] for name, array in arrays.items()}


def _new_parts(blocks: Sequence[Block], known: Mapping[bytes, BlockRow]) -> list[tuple[list[Block], int]]:
    """Runs of blocks that aren't stored yet, each with the token at which it starts."""
    parts: list[tuple[list[Block], int]] = []
    at = 0
    fresh = False
    for block in blocks:
        if block.key in known:
            fresh = False
        else:
            if not fresh:
                parts.append(([], at))
            parts[-1][0].append(block)
            fresh = True
        at += block.length
    return parts


def _rows_of(blocks: Sequence[Block], arrays: Mapping[str, np.ndarray], segment: int) -> list[BlockRow]:
    rows, at = [], 0
    for block in blocks:
        seed = seed_of(block.key, block.parent, block.window)
        crc = checksum((a[:, at : at + block.length] for a in arrays.values()), seed)
        symbols = checksum([block.symbols[None]], seed_of(block.key, block.parent))
        rows.append(
            BlockRow(block.key, block.parent, block.first, segment, at, block.length, crc, block.window, symbols)
        )
        at += block.length
    return rows
