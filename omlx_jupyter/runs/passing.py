"""One way through a run's sources, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OmlxError, RunError
from ..images.decoded import Limits
from .lock import RunLock
from .question import Question
from .record import Key, Record
from .sources import Item, items
from .store import Store, open_store
from .task import Task

if TYPE_CHECKING:
    from ..engine.front import Front

_log = logging.getLogger("omlx_jupyter")
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


@dataclass(frozen=True)
class Asked:
    """What a run is of: one question, under the name "", or several to each source. `ahead`: sources that are opened,
    queued or running at a time."""

    sources: object
    questions: Mapping[str, Question]
    engine: Callable[[], Front]
    limits: Limits
    ahead: int

    @property
    def documents(self) -> bool:
        """Whether a source's pages are asked about together."""
        return any(question.documents for question in self.questions.values())


class Passing:
    """From its making it is the file's only writer, until its thread has ended.

    `order` has the keys of its sources as their records were made or found; `places` as the sources come.
    """

    def __init__(self, path: Path, asked: Asked, only_failed: bool) -> None:
        """:raises RunError: somebody else writes the file, or it can't be written."""
        self.path, self._asked, self._only_failed = path, asked, only_failed
        lock = RunLock(_with_folder(path))
        try:
            self._store: Store | None = open_store(path, writes=True)
        except BaseException:
            lock.close()
            raise
        self.notes, self.state, self.problem = list(self._store.notes), "running", ""
        self.order: list[Key] = []
        self.places: dict[Key, int] = {}
        self.counts = dict.fromkeys(("done", "kept", "failed", "tokens", "edited", "asked", "corrected"), 0)
        self.changed, self.stop = threading.Condition(), threading.Event()
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self._work, args=(lock,), name="omlx-run", daemon=True)
        self.thread.start()

    @property
    def running(self) -> bool:
        return self.thread.is_alive()

    def get(self, key: Key) -> Record:
        """The last record of a source. Any thread."""
        with self.changed:
            if self._store is not None:
                return self._store.get(key)
        with closing(open_store(self.path, writes=False)) as store:
            return store.get(key)

    def _work(self, lock: RunLock) -> None:
        store = self._store
        assert store is not None
        try:
            with ThreadPoolExecutor(_OPENERS, "omlx-run") as pool:
                self._go_through(store, pool)
            self.state = "paused" if self.stop.is_set() else "finished"
            if not self.places and not self.stop.is_set():
                self.notes.append("there were no sources")
        except OmlxError as error:
            self.problem, self.state = str(error), "paused"
        except Exception as error:  # of a generator of the user's, say
            _log.warning("the run %s has stopped", self.path, exc_info=True)
            self.problem, self.state = f"{type(error).__name__}: {error}.", "paused"
        finally:
            if self.counts["edited"]:
                self.notes.append(f"{self.counts['edited']} were done again: their sources have changed")
            if self.counts["asked"]:
                self.notes.append(f"{self.counts['asked']} were done again: model, prompt or settings have changed")
            if self.counts["corrected"]:
                self.notes.append(f"{self.counts['corrected']} of them had been corrected: look at them again")
            with self.changed:
                self._store = None
                self.changed.notify_all()
            try:
                store.close()
            except RunError as error:
                self.problem, self.state = str(error), "paused"
            finally:
                self.notes += [note for note in store.notes if note not in self.notes]
                lock.close()

    def _go_through(self, store: Store, pool: ThreadPoolExecutor) -> None:
        asked = self._asked
        engine = asked.engine()
        digests = {name: question.digest(engine) for name, question in asked.questions.items()}
        waiting = (
            one for item in items(asked.sources, asked.limits, asked.documents) for one in item.asked(asked.questions)
        )
        tasks, more = list[Task](), True
        try:
            while (more or tasks) and not self.stop.is_set():
                while more and len(tasks) < asked.ahead and not self.stop.is_set():
                    item = next(waiting, None)
                    more = item is not None
                    if item is not None and item.key not in self.places:
                        self.places[item.key] = len(self.places)
                        task = self._task(store, item, digests[item.column], pool)
                        tasks += [task] if task is not None else []
                self._collect(store, tasks)
                if tasks:
                    time.sleep(_TICK_S)
        finally:
            for task in tasks:
                task.cancel()

    def _task(self, store: Store, item: Item, digest: str, pool: ThreadPoolExecutor) -> Task | None:
        """None: what is kept of it still holds."""
        known, unless = store.known().get(item.key), ""
        if known is not None and known.asked == digest:
            again = known.failed and self._only_failed
            named = item.stamp is not None or (known.failed and not item.source.startswith("#"))
            if not again and named and known.stamp == item.stamp:
                self._keep(item.key, known.failed)
                return None
            unless = "" if known.failed else known.content
        elif known is not None:
            self.counts["asked"] += 1
        return Task(item, self._asked.questions[item.column], self._asked.engine, pool, unless, digest)

    def _keep(self, key: Key, failed: bool) -> None:
        with self.changed:
            self.order.append(key)
            self.counts["done"] += 1
            self.counts["kept"] += 1
            self.counts["failed"] += failed
            self.changed.notify_all()

    def _collect(self, store: Store, tasks: list[Task]) -> None:
        for task in list(tasks):
            record = task.poll()
            if record is None and not task.unchanged:
                continue
            tasks.remove(task)
            if record is None:
                self._keep(task.item.key, False)
            elif not (self.stop.is_set() and record.finish_reason == "cancelled"):
                self._take(store, record)

    def _take(self, store: Store, record: Record) -> None:
        with self.changed:
            known = store.known().get(record.key)
            self.counts["corrected"] += bool(known and known.corrected)
            self.counts["edited"] += bool(known and known.content and known.content != record.content)
            store.add(record)
            self.order.append(record.key)
            self.counts["done"] += 1
            self.counts["failed"] += bool(record.error)
            self.counts["tokens"] += int(record.usage.get("completion_tokens", 0))
            self.changed.notify_all()


@contextmanager
def writing(path: Path) -> Iterator[Store]:
    """A run's file, to add records to. :raises RunError: it isn't there, somebody else writes it, or it can't be."""
    if not path.exists():
        raise RunError(f"there is no run {path}; run it again.")
    with closing(RunLock(path)), closing(open_store(path, writes=True)) as store:
        yield store


def _with_folder(path: Path) -> Path:
    """:raises RunError: the folder can't be made."""
    if not path.name:
        raise RunError("a run is saved in a file; name one, like run.jsonl.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent} can't be made ({error.strerror}); name another place.") from None
    return path
