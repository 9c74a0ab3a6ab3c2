"""A request's state: which ways its phases have, and who writes what."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import omlx_jupyter
from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.engine.phase import TRANSITIONS, Phase, PhaseError, allowed
from omlx_jupyter.engine.request import Request
from omlx_jupyter.engine.state import Wants

from ..conftest import draw_text, endless

HOME = Path(omlx_jupyter.__file__).parent
# Which files may assign to a field of a group, as `request.course.prefilled = 3`
WRITERS = {
    "wants": (),
    "prompt": ("engine/runner.py", "engine/loop.py", "engine/request.py"),
    "course": (
        *("engine/runner.py", "engine/reuse.py", "engine/row.py", "engine/batch.py", "engine/stepper.py"),
        *("engine/drafting.py", "engine/pictures.py"),
    ),
    "answer": ("engine/row.py",),
    "flags": ("engine/request.py",),
    "slot": ("engine/batch.py", "engine/solo.py"),
}


def request_in(phase: Phase) -> Request:
    request = Request(Wants(SamplingParams()), lambda: None)
    request._phase = phase
    return request


@pytest.mark.parametrize(("old", "new"), [*itertools.product(Phase, Phase)])
def test_only_the_ways_of_the_table_are_open(old: Phase, new: Phase) -> None:
    request = request_in(old)
    if old is new or new in TRANSITIONS[old] or new is Phase.DONE:
        request.to(new)
        assert request.phase is new
    else:
        with pytest.raises(PhaseError, match=f"request {request.number} can't go from {old} to {new}"):
            request.to(new)
        assert request.phase is old


@pytest.mark.parametrize("old", Phase)
@pytest.mark.parametrize("end", [lambda r: r.finish("cancelled"), lambda r: r.fail(ValueError("x"))])
def test_a_request_can_end_from_every_phase(old: Phase, end: Callable[[Request], None], monkeypatch: Any) -> None:
    monkeypatch.setattr("omlx_jupyter.engine.request.allowed", lambda old, new: False)
    request = request_in(old)
    request.prompt.ready = request.prompt.guide = object()
    end(request)
    assert (request.phase, request.ended, request.events.ended) == (Phase.DONE, True, True)
    assert (request.prompt.ready, request.prompt.guide, request.row) == (None, None, None)


def test_nothing_comes_after_the_end() -> None:
    assert TRANSITIONS[Phase.DONE] == frozenset()
    assert not any(allowed(Phase.DONE, phase) for phase in Phase)


def test_phases_are_the_words_of_messages() -> None:
    assert [*Phase] == ["queued", "reading", "prefill", "decode", "done"]
    assert json.dumps({"phase": Phase.DECODE}) == '{"phase": "decode"}'
    assert f"{Phase.PREFILL}" == "prefill"
    messages = HOME.parent / "labextension" / "src" / "messages.ts"
    if messages.exists():  # not beside an installed package
        union = re.search(r"\bphase: ((?:'\w+' \| )+'\w+')", messages.read_text(encoding="utf-8"))
        assert union is not None
        assert [word.strip("'") for word in union[1].split(" | ")] == [*Phase]


def test_each_group_is_written_where_it_says() -> None:
    wrong = [
        f"{name}:{line} writes {group}.{field}"
        for path in HOME.rglob("*.py")
        for name in [path.relative_to(HOME).as_posix()]
        for group, field, line in _written(ast.parse(path.read_text(encoding="utf-8")))
        if name not in WRITERS[group]
    ]
    assert wrong == []


def _written(tree: ast.AST) -> list[tuple[str, str, int]]:
    """Assignments to `<anything>.<group>.<field>`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            owner = node.value
            if isinstance(owner, ast.Attribute) and owner.attr in WRITERS:
                found.append((owner.attr, node.attr, node.lineno))
    return found


@pytest.mark.parametrize("family", ["qwen2_vl", "deepseekocr"])
def test_a_request_goes_through_its_phases(checkpoint: Callable[..., Path], family: str, monkeypatch: Any) -> None:
    gone: list[Phase] = []
    to = Request.to
    monkeypatch.setattr(Request, "to", lambda self, phase: (gone.append(phase), to(self, phase))[1])
    with Engine.load(checkpoint(family)) as engine:
        handle = engine.submit("go", [draw_text("one")], sampling=endless(engine, max_tokens=3))
        request = handle._request
        handle.result(30)
    assert list(dict.fromkeys(gone)) in (
        [Phase.READING, Phase.PREFILL, Phase.DECODE],
        [Phase.READING, Phase.DECODE],  # pictures and prompt at once
    )
    assert (request.phase, request.row, request.prompt.ready) == (Phase.DONE, None, None)


def test_a_cancelled_request_lets_go_of_what_its_worker_makes_later(tiny: Any) -> None:
    import threading

    begun, going = threading.Event(), threading.Event()

    class Slow:
        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            import numpy as np

            begun.set()
            assert going.wait(10)
            return np.zeros((40, 40, 3), np.uint8)

        shape = (40, 40, 3)
        __array_interface__ = property(lambda self: self.__array__().__array_interface__)

    handle = tiny.submit("go", [Slow()])
    assert begun.wait(10)
    handle.cancel()
    assert handle.result(10).finish_reason == "cancelled"
    going.set()
    worked = handle._request
    for _ in range(500):
        if not tiny._loop._held.preparing and worked.prompt.at:
            break
        threading.Event().wait(0.01)
    tiny.generate("next")
    assert worked.prompt.ready is None
