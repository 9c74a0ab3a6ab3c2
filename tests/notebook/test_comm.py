"""The wire to JupyterLab's panel: one schema for both sides, bounded rates, nothing that breaks on bad input."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from omlx_jupyter.notebook.watch import protocol
from omlx_jupyter.notebook.watch.comm import Wire
from omlx_jupyter.notebook.work import chats, jobs, session

SCHEMA = json.loads((Path(protocol.__file__).parent / "comm.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)
CLASSES = {**protocol.FROM_KERNEL, **protocol.FROM_PAGE}


@pytest.fixture
def wire() -> Iterator[Any]:
    made = Wire()
    made.heard = []
    made._beacon.send = lambda data: made.heard.append((time.monotonic(), data))
    yield made
    made.close()


def page(kind: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "kind": kind, **fields}


def until(condition: Callable[[], Any], timeout: float = 10) -> Any:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return condition()


def kinds(wire: Any) -> list[str]:
    return [data["kind"] for _, data in wire.heard]


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_the_dataclasses_are_the_schemas(kind: str) -> None:
    cls = CLASSES[kind]
    definition = SCHEMA["$defs"][cls.__name__]
    assert definition["properties"]["kind"] == {"const": kind}
    assert {f.name for f in dataclasses.fields(cls)} | {"v", "kind"} == set(definition["required"])


def test_what_is_published_is_what_the_schema_says(wire: Any, tiny: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(session, "_engine", [tiny])
    wire.receive(page("watch", page="a", level="panel"))
    wire.receive(page("list_models"))
    handle = tiny.submit("read", images=[])
    until(lambda: {"status", "panel", "models"} <= set(kinds(wire)))
    handle.result(20)
    wire.receive(page("load", model="/no/such/model"))
    until(lambda: "problem" in kinds(wire))
    for _, data in wire.heard:
        CHECK.validate(json.loads(json.dumps(data)))
    boards = [data["dashboard"] for _, data in wire.heard if data["kind"] == "panel"]
    assert boards[0]["model"] == tiny.name


def test_nothing_is_sent_while_nothing_changes_or_nobody_looks(wire: Any) -> None:
    time.sleep(0.6)
    assert wire.heard == []
    wire.receive(page("watch", page="a", level="status"))
    until(lambda: kinds(wire) == ["status"])
    time.sleep(1.2)
    assert kinds(wire) == ["status"]
    wire.receive(page("watch", page="b", level="panel"))
    until(lambda: "panel" in kinds(wire))
    count = len(wire.heard)
    time.sleep(1.2)
    assert len(wire.heard) == count
    wire.receive(page("watch", page="a", level="off"))
    wire.receive(page("watch", page="b", level="off"))
    assert wire.level == "off"


def test_at_most_five_updates_a_second(wire: Any, monkeypatch: Any) -> None:
    numbers = iter(range(10**6))
    state = {"model": "m", "state": "decode", "lanes": [{"phase": "decode"}], "cache": {}}
    monkeypatch.setattr(wire._watcher, "snapshot", lambda: {**state, "tokens_per_s": float(next(numbers))})
    wire.receive(page("watch", page="a", level="panel"))
    until(lambda: wire.heard)
    began, before = time.monotonic(), len(wire.heard)
    for _ in range(20):
        wire._wake.set()  # however often it is woken
        time.sleep(0.1)
    assert (len(wire.heard) - before) / (time.monotonic() - began) <= 5.5


def test_a_page_that_is_silent_for_a_minute_is_gone(wire: Any, monkeypatch: Any) -> None:
    wire.receive(page("watch", page="a", level="panel"))
    assert wire.level == "panel"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert wire.level == "off"


@pytest.mark.parametrize(
    "data",
    [
        *[None, 7, "text", [], {}, {"v": 2, "kind": "unload"}, {"v": 1, "kind": "exec", "code": "1"}, {"v": 1}],
        *[page("cancel_job", number="1"), page("cancel_job", number=True), page("watch", page="a", level="all")],
        *[page("load"), page("load", model="a", more=1), page("fork_chat", name="a", new=None)],
    ],
)
def test_bad_messages_are_ignored(wire: Any, data: Any) -> None:
    wire.receive(data)
    assert wire._watching == {}
    assert session.current_engine() is None or wire.heard == []


def test_commands(wire: Any, monkeypatch: Any) -> None:
    chats.clear()
    chats.add("trip", "", chats.Message("user", ["hi"]), "hello")
    wire.receive(page("fork_chat", name="trip", new="trip-2"))
    assert chats.names() == ["trip", "trip-2"]
    wire.receive(page("clear_chat", name="trip"))
    assert chats.names() == ["trip-2"]
    wire.receive(page("fork_chat", name="gone", new="x"))
    cancelled: list[bool] = []
    monkeypatch.setitem(jobs._jobs, 99, type("Job", (), {"cancel": lambda _: cancelled.append(True)})())
    wire.receive(page("cancel_job", number=99))
    assert cancelled == [True]
    wire.receive(page("cancel_job", number=12345))
    until(lambda: kinds(wire).count("problem") == 2)
    chats.clear()
