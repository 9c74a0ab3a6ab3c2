"""A run over many sources: lazy, durable, gone on with after anything."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OmlxError, RunError
from ..images.decoded import Limits
from .lock import RunLock
from .question import Question
from .record import Key, Record
from .sources import Item, items
from .store import Store, open_store
from .task import Task

_log = logging.getLogger("omlx_jupyter")
AHEAD = 16  # sources that are opened, queued or running at a time
_TICK_S = 0.01
_OPENERS = 4


@dataclass(frozen=True)
class Figures:
    """How far a run is. `total` None: sources that nobody has counted. `kept` of the `done` were there already."""

    done: int
    kept: int
    failed: int
    tokens: int
    total: int | None
    seconds: float

    def line(self) -> str:
        """In words: 120 of 300 · 2 failed · 3.1 a second · 58 s left · 20,113 tokens."""
        fresh = self.done - self.kept
        rate = fresh / self.seconds if fresh and self.seconds > 0.5 else 0.0
        parts = [f"{self.done:,} of {self.total:,}" if self.total is not None else f"{self.done:,} done"]
        parts += [f"{self.kept:,} from before"] if self.kept else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        parts += [f"{rate:.1f} a second"] if rate else []
        if rate and self.total is not None and self.total > self.done:
            left = (self.total - self.done) / rate
            parts.append(f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left")
        parts += [f"{self.tokens:,} tokens"] if self.tokens else []
        return " · ".join(parts)


class Run:
    """Sources, a question, and the file that holds the answers.

    `for record in run` gives the answers as they come; `run.df`, `run.errors`, `run.retry()`, `run.to_parquet(path)`.
    The answers live in the file: a run takes memory for the sources that are under way, and a little for each name.
    """

    def __init__(
        self,
        sources: Any,
        question: Question,
        save: str | Path,
        engine: Callable[[], Any],
        limits: Limits | None = None,
        ahead: int = AHEAD,
    ) -> None:
        self.path = Path(save).expanduser()
        self.notes: list[str] = []
        self.state = "new"  # running, paused, finished
        self.problem = ""  # why it paused, where nobody asked for it
        self._sources, self._question, self._engine = sources, question, engine
        self._limits, self._ahead = limits or Limits(), max(1, ahead)
        self._order: list[Key] = []
        self._places: dict[Key, int] = {}  # in the order of the sources
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._counts = dict.fromkeys(("done", "kept", "failed", "tokens", "edited", "asked"), 0)
        self._began = time.monotonic()

    # -- running ----------------------------------------------------------------------------

    def start(self, only_failed: bool = False) -> Run:
        """Begin or go on, in a thread of its own.

        :raises RunError: somebody else writes the file, or it can't be written.
        """
        if self._thread is not None and self._thread.is_alive():
            return self
        lock = RunLock(self._made_folder())
        try:
            self._store = open_store(self.path, writes=True)
        except BaseException:
            lock.close()
            raise
        self.notes, self.problem, self.state = list(self._store.notes), "", "running"
        self._order = list(self._store.known())
        self._counts = dict.fromkeys(self._counts, 0)
        self._stop.clear()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._work, args=(lock, only_failed), name="omlx-run", daemon=True)
        self._thread.start()
        return self

    def _made_folder(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path.parent} can't be made ({error.strerror}); name another place.") from None
        return self.path

    def wait(self, tell: Callable[[Figures], None] | None = None) -> Run:
        """Until it has ended. An interrupt pauses it; the same call goes on.

        :raises KeyboardInterrupt: it was paused.
        :raises RunError: it could not go on; what is done is kept.
        """
        try:
            while self._thread is not None and self._thread.is_alive():
                self._thread.join(0.05)
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
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def retry(self, tell: Callable[[Figures], None] | None = None) -> Run:
        """Ask again for the sources that failed, and wait. Sources that were a generator can't be gone through again."""
        if iter(self._sources) is self._sources:
            raise RunError("the sources were a generator, which is used up; call it again with new ones.")
        return self.start(only_failed=True).wait(tell)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self, lock: RunLock, only_failed: bool) -> None:
        assert self._store is not None
        try:
            with ThreadPoolExecutor(_OPENERS, "omlx-run") as pool:
                self._go_through(pool, only_failed)
            self.state = "paused" if self._stop.is_set() else "finished"
        except OmlxError as error:
            self.problem, self.state = str(error), "paused"
        except Exception as error:  # of a generator of the user's, say
            _log.warning("the run %s has stopped", self.path, exc_info=True)
            self.problem, self.state = f"{type(error).__name__}: {error}.", "paused"
        finally:
            if self._counts["edited"]:
                self.notes.append(f"{self._counts['edited']} were done again: their sources have changed")
            if self._counts["asked"]:
                self.notes.append(f"{self._counts['asked']} were done again: model, prompt or settings have changed")
            with self._changed:
                store, self._store = self._store, None
                store.close()
                lock.close()
                self._changed.notify_all()

    def _go_through(self, pool: ThreadPoolExecutor, only_failed: bool) -> None:
        engine = self._engine()
        asked = self._question.digest(engine)
        waiting, tasks, seen = items(self._sources, self._limits), list[Task](), self._places
        seen.clear()
        more = True
        try:
            while (more or tasks) and not self._stop.is_set():
                while more and len(tasks) < self._ahead and not self._stop.is_set():
                    item = next(waiting, None)
                    more = item is not None
                    if item is not None and (item.source, item.page) not in seen:
                        seen[item.source, item.page] = len(seen)
                        task = self._task(item, asked, pool, only_failed)
                        tasks += [task] if task is not None else []
                self._collect(tasks)
                if tasks:
                    time.sleep(_TICK_S)
        finally:
            for task in tasks:
                task.cancel()

    def _task(self, item: Item, asked: str, pool: ThreadPoolExecutor, only_failed: bool) -> Task | None:
        """None: what is kept of it still holds."""
        assert self._store is not None
        known = self._store.known().get((item.source, item.page))
        unless = ""
        if known is not None and known.asked == asked:
            again = known.failed and only_failed
            if not again and known.stamp == item.stamp and (item.stamp is not None or known.failed):
                self._keep(known.failed)
                return None
            unless = "" if known.failed else known.content
        elif known is not None:
            self._counts["asked"] += 1
        return Task(item, self._question, self._engine, pool, unless, asked)

    def _keep(self, failed: bool) -> None:
        with self._changed:
            self._counts["done"] += 1
            self._counts["kept"] += 1
            self._counts["failed"] += failed

    def _collect(self, tasks: list[Task]) -> None:
        assert self._store is not None
        for task in list(tasks):
            record = task.poll()
            if record is None and not task.unchanged:
                continue
            tasks.remove(task)
            if record is None:
                self._keep(False)
                continue
            if self._stop.is_set() and record.finish_reason == "cancelled":
                continue
            with self._changed:
                known = self._store.known().get(record.key)
                self._counts["edited"] += bool(known and known.content and known.content != record.content)
                self._store.add(record)
                self._order.append(record.key)
                self._counts["done"] += 1
                self._counts["failed"] += bool(record.error)
                self._counts["tokens"] += int(record.usage.get("completion_tokens", 0))
                self._changed.notify_all()

    # -- what is there ----------------------------------------------------------------------

    def figures(self) -> Figures:
        counts = self._counts
        total = _counted(self._sources)
        if self.state == "finished":
            total = counts["done"]
        seconds = time.monotonic() - self._began
        return Figures(counts["done"], counts["kept"], counts["failed"], counts["tokens"], total, seconds)

    def __iter__(self) -> Iterator[Record]:
        """The records, as they come where it runs; a source that is done again comes twice."""
        at = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: at < len(self._order) or not self.running, timeout=0.2)
                ended = not self.running and at >= len(self._order)
                record = self._get(self._order[at]) if at < len(self._order) else None
            if record is not None:
                at += 1
                yield record
            elif ended:
                return

    def _get(self, key: Key) -> Record:
        if self._store is not None:
            return self._store.get(key)
        store = open_store(self.path, writes=False)
        try:
            return store.get(key)
        finally:
            store.close()

    def records(self) -> Iterator[Record]:
        """The last record of each source in the file: those of this run in the order of its sources, then others."""
        store = open_store(self.path, writes=False)
        try:
            last = len(self._places)
            for key in sorted(store.known(), key=lambda key: self._places.get(key, last)):
                yield store.get(key)
        finally:
            store.close()

    @property
    def errors(self) -> list[Record]:
        """The sources that failed, each with its reason."""
        return [record for record in self.records() if record.error]

    @property
    def df(self) -> Any:
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
    store = open_store(Path(path).expanduser(), writes=False)
    try:
        yield from store.records()
    finally:
        store.close()


def _counted(sources: Any) -> int | None:
    """How many items sources are, where that is known without going through them."""
    if isinstance(sources, str | Path) or not isinstance(sources, Sized):
        return None
    try:
        texts = [source for source in sources if isinstance(source, str | Path)]  # type: ignore[attr-defined]
    except TypeError:
        return None
    plain = all(not any(mark in str(text) for mark in ("*", "?", ".pdf", ".PDF", "::")) for text in texts)
    return len(sources) if plain and not any(Path(text).is_dir() for text in texts if "://" not in str(text)) else None
