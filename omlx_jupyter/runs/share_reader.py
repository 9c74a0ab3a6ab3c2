"""Reads shares (runs.shares) over servers, with many requests in flight; a worker's part of a run over machines."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import random
from typing import TYPE_CHECKING, Any, TypedDict

from ..chat.client import Engine
from ..errors import EngineClosedError
from ..images.decoded import Limits
from ..types import SamplingParams
from .question import Question
from .record import Key, Record
from .shares import Share, share_items, write_part
from .sources import Item
from .task import Task

if TYPE_CHECKING:
    from ..engine.front import Front

AHEAD = 256  # sources that are opened, queued or running at a time
_OPENERS = 4
_TICK_S = 0.01
_AGAIN_S = 1.0  # between two tries to connect


class Done(TypedDict):
    """What became of a share: its file, rows, rows that are errors, tokens of the answers."""

    part: str
    rows: int
    failed: int
    tokens: int


class ShareReader:
    """`reader.read(share)` asks a server for each source and writes the share's file into `out`.

    Called with a batch of shares, as columns, it gives columns: that is what `map_batches` of Ray Data does. It
    connects where it is used first, and may be sent to other processes and machines; it imports no mlx. Safe to use
    from several threads, which share the connection, each with `ahead` sources of its own.

    `server` is a name or an address, or several: each share goes to the one that has fewest shares of this reader.
    `key` is the servers', or a function that gives it, which is called where the reader is used: then it is in no
    task's arguments. `prompt` None reads pages as the model's checkpoint wants it; `schema` is a pydantic model, a
    type, or a JSON schema. A source that fails is a row with its error. A server that has gone is waited for,
    `wait_s` seconds, and asked again for what is missing.
    """

    def __init__(
        self,
        out: str | Path,
        server: str | Sequence[str] = "main",
        *,
        model: str | None = None,
        prompt: str | None = None,
        schema: object = None,
        sampling: SamplingParams | None = None,
        ahead: int = AHEAD,
        key: str | Callable[[], str] = "",
        wait_s: float = 300.0,
    ) -> None:
        """:raises RequestError: what is given as a schema is none."""
        self._out = Path(out).expanduser().absolute()
        self._servers = [server] if isinstance(server, str) else list(server)
        self._question = Question(prompt, sampling or SamplingParams(), schema)
        self._model, self._ahead, self._key, self._wait_s = model, max(1, ahead), key, wait_s
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[str, Front] = {}
        self._busy = dict.fromkeys(self._servers, 0)
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        here = ("_lock", "_engines", "_busy", "_pid")
        return {name: held for name, held in vars(self).items() if name not in here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._fresh()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Columns `part` and `sources` in, a row a share; columns of `Done` out.

        :raises EngineClosedError: no server came back in time.
        :raises RunError: a share's file can't be written.
        """
        done = [
            self.read({"part": str(part), "sources": [str(name) for name in names]})
            for part, names in zip(batch["part"], batch["sources"], strict=True)
        ]
        return {name: [dict(one)[name] for one in done] for name in Done.__annotations__}

    def read(self, share: Share) -> Done:
        """Read one share and write its file.

        :raises EngineClosedError: no server came back in time.
        :raises RequestError: a server has no such model, or the key is wrong.
        :raises RunError: the share's file can't be written.
        """
        server = self._taken()
        try:
            records = self._records(server, share["sources"])
        finally:
            with self._lock:
                self._busy[server] -= 1
        write_part(self._out, share["part"], records)
        tokens = sum(int(record.usage.get("completion_tokens", 0)) for record in records)
        failed = sum(bool(record.error) for record in records)
        return {"part": share["part"], "rows": len(records), "failed": failed, "tokens": tokens}

    def close(self) -> None:
        """End the connections, and what runs on them."""
        with self._lock:
            engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    def _taken(self) -> str:
        if os.getpid() != self._pid:
            self._fresh()  # forked: the parent's connections are none of this process
        with self._lock:
            server = min(self._servers, key=lambda name: (self._busy[name], random()))
            self._busy[server] += 1
        return server

    def _records(self, server: str, names: Sequence[str]) -> list[Record]:
        """In the order of the sources; what a server didn't answer before it went is asked again."""
        made: dict[Key, Record] = {}
        until: float | None = None
        while True:
            had = len(made)
            engine: Front | None = None
            try:
                engine = self._connected(server)
                with ThreadPoolExecutor(_OPENERS, "omlx-share") as pool:
                    order = self._pass(engine, share_items(names, Limits()), made, pool)
                return [made[key] for key in order]
            except EngineClosedError:
                self._drop(server, engine)
                until = None if len(made) > had else until  # it answered something: the wait begins anew
                until = until or time.monotonic() + self._wait_s
                if time.monotonic() > until:
                    raise
                time.sleep(_AGAIN_S)

    def _pass(
        self, engine: Front, waiting: Iterator[Item], made: dict[Key, Record], pool: ThreadPoolExecutor
    ) -> list[Key]:
        """Ask for all that isn't made yet. :raises EngineClosedError: the server has gone."""
        tasks, order, more = list[Task](), dict[Key, None](), True
        try:
            while more or tasks:
                while more and len(tasks) < self._ahead:
                    item = next(waiting, None)
                    more = item is not None
                    if item is None or item.key in order:
                        continue
                    order[item.key] = None
                    if item.key not in made:
                        tasks.append(Task(item, self._question, lambda: engine, pool, "", ""))
                for task in list(tasks):
                    if (record := task.poll()) is not None:
                        tasks.remove(task)
                        made[task.item.key] = record
                if tasks:
                    time.sleep(_TICK_S)
        finally:
            for task in tasks:
                task.cancel()
        return list(order)

    def _connected(self, server: str) -> Front:
        """:raises EngineClosedError: nobody answers there."""
        with self._lock:
            if server not in self._engines:
                key = self._key if isinstance(self._key, str) else self._key()
                self._engines[server] = Engine.connect(server, self._model, key=key)
            return self._engines[server]

    def _drop(self, server: str, engine: Front | None) -> None:
        """Of several threads the first that sees it; what another has connected since stays."""
        with self._lock:
            if engine is not None and self._engines.get(server) is engine:
                del self._engines[server]
        if engine is not None:
            engine.close()
