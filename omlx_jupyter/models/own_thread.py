"""A thread that MLX work of one kind belongs to: arrays and streams are the thread's that made them."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import mlx.core as mx

Made = TypeVar("Made")


class OwnThread:
    """Runs calls one after another. Not a pool of the standard library's: those end before atexit's callbacks run, with
    MLX's streams still open, which aborts the process."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._calls = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=_run, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        _OPEN.add(self)

    def call(self, function: Callable[..., Made], *arguments: object) -> Made:
        """What it returns, or raises.

        :raises RuntimeError: the thread was closed.
        """
        future: Future[Made] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the thread was closed")
            self._calls.put((future, function, arguments))
        return future.result()

    def close(self) -> None:
        """End it after what it does. Twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._calls.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join()


def _run(calls: queue.SimpleQueue[Any]) -> None:
    while (call := calls.get()) is not None:
        future, function, arguments = call
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        del call, future, function, arguments
    end_thread()


def end_thread() -> None:
    """Last act of a thread that used MLX: its streams would else abort the process at exit."""
    mx.synchronize()
    mx.clear_cache()
    mx.clear_streams()


_OPEN: weakref.WeakSet[OwnThread] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for thread in list(_OPEN):
        thread.close()
