"""A run over many sources: lazy, durable, gone on with after anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError
from ..images.decoded import Limits
from .passing import Asked, Figures, Passing, writing
from .question import Question
from .record import Record
from .store import open_store

if TYPE_CHECKING:
    import pandas

    from ..engine.front import Front

AHEAD = 16  # sources that are opened, queued or running at a time


class Run:
    """Sources, a question, and the file that holds the answers.

    `for record in run` gives the answers as they come; `run.df`, `run.errors`, `run.retry()`, `run.to_parquet(path)`.
    The answers live in the file: a run takes memory for the sources that are under way, and a little for each name.
    """

    def __init__(
        self,
        sources: object,
        question: Question | Mapping[str, Question],
        save: str | Path,
        engine: Callable[[], Front],
        limits: Limits | None = None,
        ahead: int = AHEAD,
    ) -> None:
        self.path = Path(save).expanduser()
        questions = {"": question} if isinstance(question, Question) else dict(question)
        self._asked = Asked(sources, questions, engine, limits or Limits(), max(1, ahead))
        self._passing: Passing | None = None

    def start(self, only_failed: bool = False) -> Run:
        """Begin or go on, in a thread of its own.

        :raises RunError: somebody else writes the file, or it can't be written.
        """
        if not self.running:
            self._passing = Passing(self.path, self._asked, only_failed)
        return self

    def wait(self, tell: Callable[[Figures], None] | None = None) -> Run:
        """Until it has ended. An interrupt pauses it; the same call goes on.

        :raises KeyboardInterrupt: it was paused.
        :raises RunError: it could not go on; what is done is kept.
        """
        try:
            while self._passing is not None and self._passing.running:
                self._passing.thread.join(0.05)
                if tell is not None:
                    tell(self.figures())
        except BaseException:
            self.pause()
            raise
        if self.problem:
            raise RunError(f"{self.problem} {self.figures().line()} are kept in {self.path}; run it again to go on.")
        return self

    def pause(self) -> None:
        """End what is under way; what is done is kept. `start`, or the same call, goes on."""
        if self._passing is not None:
            self._passing.stop.set()
            self._passing.thread.join()

    def retry(self, tell: Callable[[Figures], None] | None = None) -> Run:
        """Ask again for the sources that failed, and wait.

        :raises RunError: the sources were a generator, which can't be gone through again; or as `wait`.
        """
        sources = self._asked.sources
        if hasattr(sources, "__next__"):
            raise RunError("the sources were a generator, which is used up; call it again with new ones.")
        return self.start(only_failed=True).wait(tell)

    @property
    def running(self) -> bool:
        return self._passing is not None and self._passing.running

    @property
    def state(self) -> str:
        """new, running, paused or finished."""
        return self._passing.state if self._passing else "new"

    @property
    def problem(self) -> str:
        """Why it paused, where nobody asked for it."""
        return self._passing.problem if self._passing else ""

    @property
    def notes(self) -> list[str]:
        """What was mended in the file, and what was done again and why."""
        return self._passing.notes if self._passing else []

    def figures(self) -> Figures:
        passing = self._passing
        if passing is None:
            return Figures(0, 0, 0, 0, self._total, 0.0)
        counts, seconds = passing.counts, time.monotonic() - passing.began
        total = counts["done"] if passing.state == "finished" else self._total
        return Figures(counts["done"], counts["kept"], counts["failed"], counts["tokens"], total, seconds)

    @property
    def _total(self) -> int | None:
        sources = _counted(self._asked.sources)
        return None if sources is None else sources * len(self._asked.questions)

    def correct(
        self, source: str, value: object = None, text: str | None = None, *, page: int | None = None, column: str = ""
    ) -> Record:
        """Write down what a source really says, over what the model said: a new line, never over an old one.

        :raises RunError: there is no such source, or somebody writes the file.
        """  # fmt: skip
        if self.running:
            raise RunError(f"{self.path} is still being written; pause the run, or wait for it.")
        with writing(self.path) as store:
            if (source, page, column) not in store.known():
                raise RunError(f"there is no {source} in {self.path}; correct one of its records.")
            old = store.get((source, page, column))
            if text is None and old.value is None and isinstance(value, str):
                value, text = None, value  # of an answer that is text
            said = old.text if text is None else text
            made = replace(old, text=said, value=old.value if value is None else value, kind="correction", error="")
            store.add(replace(made, at=time.time()))
        return made

    def __iter__(self) -> Iterator[Record]:
        """The records of its sources, each once, as they come where it runs."""
        passing, at = self._passing, 0
        if passing is None:
            yield from self.records()
            return
        while True:
            with passing.changed:
                if at >= len(passing.order) and passing.running:
                    passing.changed.wait(0.2)
            if at < len(passing.order):
                yield passing.get(passing.order[at])
                at += 1
            elif not passing.running:
                return

    def records(self) -> Iterator[Record]:
        """The last record of each source in the file: those of this run in the order of its sources, then others."""
        places = self._passing.places if self._passing else {}
        store, last = open_store(self.path, writes=False), len(places)
        try:
            for key in sorted(store.known(), key=lambda key: places.get(key, last)):
                yield store.get(key)
        finally:
            store.close()

    @property
    def errors(self) -> list[Record]:
        """The sources that failed, each with its reason."""
        return [record for record in self.records() if record.error]

    @property
    def df(self) -> pandas.DataFrame:
        """The records as a pandas DataFrame; a schema's fields are columns of their own."""
        from .frames import frame

        return frame(self.records())

    def to_parquet(self, path: str | Path) -> Path:
        """Write them as one Parquet file."""
        made = Path(path).expanduser()
        self.df.to_parquet(made)
        return made

    def __len__(self) -> int:
        return sum(1 for _ in self.records())

    def __repr__(self) -> str:
        return f"<Run {self.path} · {self.state} · {self.figures().line()}>"


def read_run(path: str | Path) -> Iterator[Record]:
    """The last record of each source of a run's file, also while somebody writes it.

    :raises RunError: it can't be read.
    """
    with closing(open_store(Path(path).expanduser(), writes=False)) as store:
        yield from store.records()


def every_record(path: str | Path) -> Iterator[Record]:
    """All records of a run's file, the older of a source before the newer.

    :raises RunError: it can't be read.
    """
    with closing(open_store(Path(path).expanduser(), writes=False)) as store:
        yield from store.every()


def _counted(sources: object) -> int | None:
    """How many items sources are, where that is known without going through them."""
    if isinstance(sources, str | Path) or not isinstance(sources, Sized):
        return None
    try:
        texts = [source for source in sources if isinstance(source, str | Path)]  # type: ignore[attr-defined]
    except TypeError:
        return None
    plain = all(not any(mark in str(text) for mark in ("*", "?", ".pdf", ".PDF", "::")) for text in texts)
    return len(sources) if plain and not any(Path(text).is_dir() for text in texts if "://" not in str(text)) else None
