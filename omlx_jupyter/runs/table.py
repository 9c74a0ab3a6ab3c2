"""Questions to pictures as a sheet: rows are pictures, columns questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..images.decoded import Limits
from .question import Question
from .record import Record
from .run import Run

if TYPE_CHECKING:
    import pandas

    from ..engine.front import Front


class Table(Run):
    """A run with several questions to each picture. A picture's questions go into the batch together, picture first,
    so that it is encoded and read once for all of them.

    `table.df` is the sheet; `table["a.png", "total"]` the record behind a cell, with its confidence.
    """

    def __init__(
        self,
        sources: object,
        questions: Mapping[str, Question],
        save: str | Path,
        engine: Callable[[], Front],
        limits: Limits | None = None,
        ahead: int = 16,
    ) -> None:
        """:raises RequestError: no questions, or one without a name."""
        if not questions or not all(isinstance(name, str) and name for name in questions):
            raise RequestError('a table has questions by name, like {"total": "What is the total?"}.')
        super().__init__(sources, questions, save, engine, limits, max(ahead, len(questions)))

    @property
    def columns(self) -> list[str]:
        return list(self._asked.questions)

    def __getitem__(self, cell: tuple[str, str]) -> Record:
        """The record of (picture, column). :raises KeyError: there is none."""
        source, column = cell
        for record in self.records():
            if record.column == column and source in (record.source, record.name, Path(record.source).name):
                return record
        raise KeyError(cell)

    @property
    def df(self) -> pandas.DataFrame:
        """The sheet: a row a picture, a column a question; None where a cell failed or isn't there yet."""
        return self._sheet(lambda record: None if record.error else _shown(record))

    @property
    def confidences(self) -> pandas.DataFrame:
        """The same sheet with how sure the model was of each cell."""
        return self._sheet(lambda record: record.confidence)

    def _sheet(self, of: Callable[[Record], Any]) -> pandas.DataFrame:
        import pandas

        rows = self.rows()
        made = [{name: of(row[name]) if name in row else None for name in self.columns} for row in rows.values()]
        return pandas.DataFrame(made, index=pandas.Index(list(rows), name="source"), columns=self.columns)

    def rows(self) -> dict[str, dict[str, Record]]:
        """The records of each picture, by column; a cell that isn't there yet has none."""
        rows: dict[str, dict[str, Record]] = {}
        for record in self.records():
            if record.column in self._asked.questions:
                name = record.source if record.page is None else f"{record.source}[{record.page}]"
                rows.setdefault(name, {})[record.column] = record
        return rows

    @property
    def prefills(self) -> float:
        """How often the part of a prompt that a picture's questions share was computed, on average over the pictures: 1
        where the template puts the picture first and the cache keeps it."""
        cached: dict[tuple[str, int | None], list[int]] = {}
        for record in self.records():
            if record.usage and record.column in self._asked.questions:
                reused = int(record.usage.get("cached_tokens", 0))
                cached.setdefault((record.source, record.page), []).append(reused)
        times = [_times(reused) for reused in cached.values()]
        return sum(times) / len(times) if times else 0.0


def _times(reused: list[int]) -> float:
    """Prefills of the longest prefix that one of the requests reused; as many as requests where none did."""
    shared = max(reused)
    return sum(shared - tokens for tokens in reused) / shared if shared else float(len(reused))


def _shown(record: Record) -> Any:
    return record.text if record.value is None else record.value
