"""Faults put into running code: any Python function of ours, and calls into `os`, fail at a chosen call.

A function is changed where it is, in its code object, so that it makes no difference who imported it
under which name.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import omlx_jupyter

ROOMS = ("cache", "models", "images", "engine")
SYSTEM = ("preadv", "pread", "open", "fsync", "fstat", "rename", "replace", "unlink", "write")
_HOME = Path(omlx_jupyter.__file__).parent
_armed: dict[str, Armed] = {}


@dataclass(frozen=True)
class Place:
    """Where a fault can be put: a function of ours, or a call of `os`."""

    name: str
    room: str
    code: CodeType | None = None


@dataclass
class Armed:
    original: Callable[..., Any]
    error: BaseException
    first: int
    always: bool
    calls: int = 0
    fired: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def call(self, args: Any, kwargs: Any) -> Any:
        if threading.current_thread().name.startswith("omlx-"):
            with self.lock:
                self.calls += 1
                fires = self.calls == self.first or (self.always and self.calls > self.first)
                self.fired += fires
            if fires:
                raise type(self.error)(*self.error.args)
        return self.original(*args, **kwargs)


def hit(name: str, args: Any, kwargs: Any) -> Any:
    return _armed[name].call(args, kwargs)


def _template(*args: Any, **kwargs: Any) -> Any:
    from tests.stress.faults import hit

    return hit("PLACE", args, kwargs)


@contextlib.contextmanager
def traced() -> Iterator[set[Place]]:
    """Collects every place that the engine's threads pass meanwhile; threads must start inside."""
    found: set[Place] = set()

    def look(frame: FrameType, event: str, argument: object) -> None:
        if not threading.current_thread().name.startswith("omlx-"):
            return
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(str(_HOME)):
            room = Path(path).relative_to(_HOME).parts[0]
            if room in ROOMS and not frame.f_code.co_name.startswith("<"):
                name = f"{Path(path).relative_to(_HOME)}:{frame.f_code.co_qualname}"
                found.add(Place(name, room, frame.f_code))
        elif event == "c_call" and path.startswith(str(_HOME)):
            name = getattr(argument, "__name__", "")
            if getattr(argument, "__module__", "") == os.name and name in SYSTEM:
                found.add(Place(f"os.{name}", "os"))

    threading.setprofile(look)
    try:
        yield found
    finally:
        threading.setprofile(None)
        sys.setprofile(None)


@contextlib.contextmanager
def fault(place: Place, error: BaseException, first: int = 1, always: bool = False) -> Iterator[Armed]:
    """The place's `first` call on an engine's thread raises, or every one from there on."""
    if place.code is None:
        name = place.name.removeprefix("os.")
        armed = Armed(getattr(os, name), error, first, always)
        setattr(os, name, lambda *args, **kwargs: armed.call(args, kwargs))
        try:
            yield armed
        finally:
            setattr(os, name, armed.original)
        return
    function = function_of(place.code)
    assert function is not None
    kept = function.__code__
    original = FunctionType(kept, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    original.__kwdefaults__ = function.__kwdefaults__
    original.__dict__["copied"] = True
    armed = _armed[place.name] = Armed(original, error, first, always)
    constants = tuple(place.name if c == "PLACE" else c for c in _template.__code__.co_consts)
    function.__code__ = _template.__code__.replace(co_consts=constants)
    try:
        yield armed
    finally:
        function.__code__ = kept
        del _armed[place.name]


def function_of(code: CodeType) -> FunctionType | None:
    """The function that runs a code object; None for closures, whose code can't be exchanged."""
    return functions_of([code]).get(id(code))


def functions_of(codes: Iterable[CodeType]) -> dict[int, FunctionType]:
    """By the id of their code. One look at all objects: in a long run there are millions."""
    wanted = {id(code) for code in codes if not code.co_freevars}
    found: dict[int, FunctionType] = {}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and id(each.__code__) in wanted and "copied" not in each.__dict__:
            found.setdefault(id(each.__code__), each)
    return found
