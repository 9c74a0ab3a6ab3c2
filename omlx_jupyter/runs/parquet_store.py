"""A run as Parquet: a folder of parts, and a journal of JSON lines for what isn't in a part yet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import RunError
from .record import Key, Known, Record
from .store import JsonLines

PART = 1000  # records in a part
_NUMBERS = ("seconds", "confidence", "agreement", "at")
_TEXTS = ("source", "column", "content", "asked", "model", "prompt", "text", "finish_reason", "error", "kind")
_JSONS = ("stamp", "sampling", "value", "lines", "usage", "sure", "places", "other")


class ParquetParts:
    """`run.parquet/`: parts that any reader of Parquet takes as one table. A record is in the journal first, and moves
    into a part with others: whole, by a rename."""

    def __init__(self, path: Path, writes: bool) -> None:
        """:raises RunError: pyarrow isn't installed, or the folder can't be read or written."""
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise RunError("runs in Parquet need pyarrow: pip install pyarrow, or save to .jsonl.") from None
        self._parquet, self._folder, self._writes = parquet, path, writes
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; a run in Parquet is a folder of parts: name another place.")
        if path.exists() and any(not e.name.startswith(("part-", ".part-", "_journal")) for e in path.iterdir()):
            raise RunError(f"{path} is there and isn't a run; name another place, or move it away.")
        if writes:
            path.mkdir(parents=True, exist_ok=True)
            for left in path.glob(".part-*"):
                left.unlink()
        self.notes: list[str] = []
        self._known: dict[Key, Known] = {}
        self._where: dict[Key, Path | None] = {}  # the part that has a source's last record; None: the journal
        self._read: Path | None = None  # the part that was read last, and its records
        self._held: dict[Key, Record] = {}
        self._parts = sorted(path.glob("part-*.parquet"))
        for part in self._parts:
            for record in self._of_part(part):
                self._take(record, part)
        self._journal = self._open_journal()
        if writes and (done := [r for r in self._journal.records() if self._is_in_part(r)]):
            self._settle([r for r in self._journal.records() if r not in done])  # killed between rename and clearing
        for record in self._journal.records():
            self._take(record, None)
        self.notes += self._journal.notes

    @property
    def _place(self) -> Path:
        return self._folder / "_journal.jsonl"  # readers of a folder leave names with a line before them out

    def _open_journal(self) -> JsonLines:
        if not self._writes and not self._place.exists():
            return JsonLines(Path(os.devnull), False)
        return JsonLines(self._place, self._writes)

    def _take(self, record: Record, part: Path | None) -> None:
        self._known[record.key], self._where[record.key] = Known.of(record), part

    def _is_in_part(self, record: Record) -> bool:
        part = self._where.get(record.key)
        return part is not None and any(held.at == record.at for held in self._of_part(part) if held.key == record.key)

    def _of_part(self, part: Path) -> Iterator[Record]:
        for row in self._parquet.read_table(part).to_pylist():
            yield _of_row(row)

    def known(self) -> dict[Key, Known]:
        return self._known

    def add(self, record: Record) -> None:
        self._journal.add(record)
        self._take(record, None)
        if len(self._journal.known()) >= PART:
            self._move()

    def _move(self) -> None:
        """The journal's records become a part."""
        import pyarrow

        records = list(self._journal.every())
        if not records:
            return
        number = int(self._parts[-1].stem.partition("-")[2]) + 1 if self._parts else 1
        part, draft = self._folder / f"part-{number:06}.parquet", self._folder / f".part-{number:06}"
        self._parquet.write_table(pyarrow.Table.from_pylist([_row(r) for r in records], schema=_schema()), draft)
        os.replace(draft, part)
        self._parts.append(part)
        for record in records:
            self._where[record.key] = part
        self._settle([])

    def _settle(self, left: list[Record]) -> None:
        """The journal holds these only."""
        self._journal.close()
        draft = self._folder / ".part-journal"
        draft.write_bytes(b"".join(record.line() for record in left))
        os.replace(draft, self._place)
        self._journal = JsonLines(self._place, True)

    def get(self, key: Key) -> Record:
        part = self._where[key]
        if part is None:
            return self._journal.get(key)
        if self._read != part:
            self._read, self._held = part, {record.key: record for record in self._of_part(part)}
        return self._held[key]

    def records(self) -> Iterator[Record]:
        for key in list(self._known):
            yield self.get(key)

    def every(self) -> Iterator[Record]:
        for part in self._parts:
            yield from self._of_part(part)
        yield from self._journal.every()

    def sync(self) -> None:
        self._journal.sync()

    def close(self) -> None:
        if self._writes:
            self._move()
        self._journal.close()


def _schema() -> Any:
    import pyarrow

    kinds = {**dict.fromkeys(_TEXTS, pyarrow.string()), **dict.fromkeys(_JSONS, pyarrow.string())}
    kinds |= {"page": pyarrow.int64(), **dict.fromkeys(_NUMBERS, pyarrow.float64())}
    return pyarrow.schema(list(kinds.items()))


def _row(record: Record) -> dict[str, Any]:
    made: dict[str, Any] = {
        name: getattr(record, name) for name in (*_TEXTS, "page", "seconds", "confidence", "agreement", "at")
    }
    held = json.loads(record.line())
    return made | {name: json.dumps(held[name], ensure_ascii=False) if name in held else None for name in _JSONS}


def _of_row(row: dict[str, Any]) -> Record:
    made = {name: value for name, value in row.items() if value is not None}
    made |= {name: json.loads(made[name]) for name in _JSONS if name in made}
    return Record.of_line(json.dumps(made))
