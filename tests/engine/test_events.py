"""The queue between the engine thread and its readers."""

from __future__ import annotations

import threading
import time

from omlx_jupyter.engine.events import EventQueue


def test_items_then_end() -> None:
    queue: EventQueue[int] = EventQueue()
    queue.put(1)
    queue.put(2)
    assert queue.poll() == ([1, 2], False)
    queue.end()
    queue.put(3)  # after the end: dropped
    assert queue.wait(0) == ([], True)


def test_a_waiting_reader_is_woken() -> None:
    queue: EventQueue[int] = EventQueue()
    threading.Timer(0.05, queue.put, (7,)).start()
    assert queue.wait(5) == ([7], False)
    threading.Timer(0.05, queue.end).start()
    assert queue.wait_ended(5)


def test_waiting_for_the_end_takes_nothing_and_times_out() -> None:
    queue: EventQueue[int] = EventQueue()
    queue.put(1)
    start = time.monotonic()
    assert not queue.wait_ended(0.05)
    assert time.monotonic() - start >= 0.05
    assert queue.poll() == ([1], False)
