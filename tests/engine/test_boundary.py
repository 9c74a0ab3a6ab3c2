"""What lies between the engine and who uses it: closing, dropping, forks, hostile text, lost threads."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.engine.row import Row
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.errors import EngineClosedError, OmlxError, ProcessError, RequestError

from ..conftest import draw_text, endless, no_cache

GREEDY = SamplingParams(temperature=0, max_tokens=8)


def _until(check: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stop": ["a", 5]}, "stop holds 5"),
        ({"stop": 5}, "stop holds 5"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5; it must be a whole number"),
        ({"top_k": 1.0}, "top_k is 1.0; it must be a whole number"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"seed": True}, "seed is True"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"repetition_penalty": "1"}, "repetition_penalty is '1'"),
        ({"stop_token_ids": (-1,)}, "names the token -1"),
        ({"stop_token_ids": ("a",)}, "names the token 'a'"),
        ({"logit_bias": {-1: 1.0}}, "names the token -1"),
        ({"logit_bias": {1: float("inf")}}, r"logit_bias\[1\] is inf"),
        ({"logit_bias": [1]}, "logit_bias maps"),
        ({"json_schema": "x"}, "json_schema is a str"),
        ({"logprobs": 2.5}, "logprobs is 2.5"),
    ],
)
def test_options_are_checked_where_they_are_set(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        SamplingParams(**options)


def test_numpy_numbers_are_numbers() -> None:
    made = SamplingParams(max_tokens=np.int64(3), temperature=np.float32(0.5), seed=np.uint8(7))  # type: ignore[arg-type]
    assert (made.max_tokens, made.temperature, made.seed) == (3, 0.5, 7)
    assert type(made.max_tokens) is int


def test_ids_outside_the_vocabulary_are_refused_by_name(tiny: Any) -> None:
    for options in ({"stop_token_ids": (10**6,)}, {"logit_bias": {10**6: 1.0}}):
        with pytest.raises(RequestError, match=f"{next(iter(options))} names the token 1000000; .* has tokens 0 to"):
            tiny.generate("hi", sampling=SamplingParams(**options))


def test_near_seeds_share_nothing(checkpoint: Callable[..., Path]) -> None:
    from omlx_jupyter.models.sampling import position_key

    keys = {tuple(position_key(seed, at).tolist()) for seed in range(20) for at in range(20)}
    assert len(keys) == 400
    assert position_key(3, 5, choice=1).tolist() != position_key(3, 5).tolist()
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        hot = {"temperature": 1.0, "max_tokens": 30}
        first, second = (engine.generate("Say", sampling=SamplingParams(seed=s, **hot)).token_ids for s in (7, 8))
        again = engine.generate("Say", sampling=SamplingParams(seed=7, **hot)).token_ids
    assert first == again
    assert first[1:] != second[:-1]
    assert first != second


def test_a_fault_of_one_rows_text_ends_that_row_alone(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = draw_text("Hello 42")
    right = tiny.generate(images=[picture]).token_ids
    accept = Row.accept

    def faulty(self: Row, token: int, logprob: Any) -> Any:
        if self.request.wants.sampling.seed == 13 and len(self.request.answer.token_ids) == 2:
            raise UnicodeError("half a token")
        return accept(self, token, logprob)

    monkeypatch.setattr(Row, "accept", faulty)
    bad = tiny.submit(images=[picture], sampling=SamplingParams(seed=13))
    good = [tiny.submit(images=[picture]) for _ in range(3)]
    with pytest.raises(RequestError, match="UnicodeError: half a token"):
        bad.result(10)
    assert [g.result(10).token_ids for g in good] == [right] * 3
    assert tiny.stats().decoding == 0


def test_an_engine_thread_that_dies_leaves_nobody_waiting(checkpoint: Callable[..., Path]) -> None:
    engine = Engine.load(checkpoint("qwen2_vl"), cache=no_cache())
    handle = engine.submit("go", sampling=endless(engine))
    while handle.progress.tokens < 2:
        handle.poll(0.05)
    engine._loop._shut_down = lambda: None  # nobody tells the handles
    engine._loop._step = lambda: (_ for _ in ()).throw(SystemExit)
    engine._loop._held.guard = _Wide()
    start = time.monotonic()
    with pytest.raises(EngineClosedError, match="load it again"):
        handle.result(10)
    assert time.monotonic() - start < 1.5


class _Wide:
    """No boundary at all."""

    def batch(self, end: Any) -> Any:
        return contextlib.nullcontext()

    def request(self, end: Any) -> Any:
        return contextlib.nullcontext()


def test_submitting_while_another_thread_closes(checkpoint: Callable[..., Path]) -> None:
    for _ in range(6):
        engine = Engine.load(checkpoint("qwen2_vl"), cache=no_cache())
        ended: list[BaseException | str] = []

        def send(engine: Any = engine, ended: Any = ended) -> None:
            try:
                ended.append(engine.submit("go", sampling=GREEDY).result(10).finish_reason)
            except BaseException as error:
                ended.append(error)

        threads = [threading.Thread(target=send) for _ in range(8)]
        for index, thread in enumerate(threads):
            thread.start()
            if index == 3:
                engine.close()
        for thread in threads:
            thread.join(10)
        assert len(ended) == 8
        assert all(e in ("length", "stop", "cancelled") or isinstance(e, EngineClosedError) for e in ended)


def test_a_handle_that_nobody_holds_gives_its_row_back(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), limits=Limits(max_rows=1), cache=no_cache()) as engine:
        engine.submit("go", sampling=endless(engine))
        gc.collect()
        _until(lambda: engine.stats().cancelled == 1)
        engine.submit("warm", sampling=SamplingParams(temperature=0, max_tokens=30)).detach()
        gc.collect()
        _until(lambda: engine.stats().finished == 1)
        assert engine.stats().cancelled == 1


def test_an_engine_that_nobody_holds_ends_after_its_last_request(checkpoint: Callable[..., Path]) -> None:
    engine = Engine.load(checkpoint("qwen2_vl"), cache=no_cache())
    thread, model = engine._loop._thread, weakref.ref(engine._loop.model)
    handle = engine.submit("go", sampling=SamplingParams(temperature=0, max_tokens=60))
    del engine
    gc.collect()
    assert len(handle.result(10).token_ids) > 1
    thread.join(5)
    assert not thread.is_alive()
    gc.collect()
    assert model() is None


def test_a_forked_child_is_told_at_once(tiny: Any) -> None:
    running = tiny.submit("hi", sampling=GREEDY)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover: in the child
        said = []
        for call in (
            lambda: tiny.submit("hi"),
            lambda: Engine.load(),
            lambda: tiny.stats(),
            lambda: running.result(5),
        ):
            try:
                call()
                said.append("nothing")
            except OmlxError as error:
                said.append(type(error).__name__)
        tiny.close()
        os.write(write, ",".join(said).encode())
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            pytest.fail("the child hung")
        time.sleep(0.02)
    said = os.read(read, 1000).decode().split(",")
    os.close(read)
    assert said[:3] == ["ProcessError"] * 3
    assert said[3] in ("nothing", "EngineClosedError")  # it had ended before the fork, or never will
    assert running.result(10).token_ids


def test_engines_and_handles_cannot_be_pickled(tiny: Any) -> None:
    with pytest.raises(ProcessError, match="lives in this process"):
        pickle.dumps(tiny)
    with pytest.raises(ProcessError, match="result"):
        pickle.dumps(tiny.submit("hi", sampling=GREEDY))


def test_hostile_text_is_one_sentence(tiny: Any) -> None:
    with pytest.raises(RequestError, match=r"half of a character .*at 3"):
        tiny.generate("abc\ud800")
    with pytest.raises(RequestError, match="the system prompt holds half"):
        tiny.generate("abc", system="\udfff")
    assert tiny.generate("a\0b", sampling=GREEDY).token_ids
    started = time.monotonic()
    with pytest.raises(RequestError, match="10,000,000 characters"):
        tiny.generate("x" * 10_000_000)
    assert time.monotonic() - started < 1


def test_messages_in_every_form_go_through_one_door(tiny: Any) -> None:
    picture = draw_text("Sum 12")
    ask = "Text Recognition:"
    right = tiny.generate(ask, [picture], GREEDY).token_ids
    url = "data:image/png;base64," + _png(picture)
    for prompt in (
        [Message("user", [ImagePart(picture), ask])],
        [Message("user", [picture, ask])],
        Message("user", [np.asarray(picture), ask]),
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": ask}],
            }
        ],
        {"role": "user", "content": [{"type": "input_image", "image_url": url}, ask]},
    ):
        assert tiny.generate(prompt, sampling=GREEDY).token_ids == right
    for wrong, sentence in (
        ([Message("user", [object()])], "message 0 has a part that is a object"),
        ([5], "message 0 is a int"),
        (5, "the prompt is a int"),
        ([{"role": "user", "content": 5}], "message 0 has a int as content"),
        ([{"role": "nobody", "content": ""}], "message 0 has the role 'nobody'"),
        ([{"role": "user", "content": [{"type": "video"}]}], "type 'video'"),
    ):
        with pytest.raises(RequestError, match=sentence):
            tiny.generate(wrong, sampling=GREEDY)


def _png(picture: Any) -> str:
    import base64
    import io

    data = io.BytesIO()
    picture.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def test_what_ends_an_answer_is_said(tiny: Any) -> None:
    assert tiny.generate("x", sampling=endless(tiny, max_tokens=3)).detail == "max_tokens (3) reached"
    context = tiny._loop._runner._context
    long = tiny.generate("y" * (context - 40), sampling=endless(tiny, max_tokens=500))
    assert long.finish_reason == "length"
    assert long.detail == f"the model's context of {context:,} tokens is full"


def test_half_a_character_is_left_out_of_a_cut_answer(tiny: Any) -> None:
    half = tiny._loop.model.tokenizer.encode("é")[0]
    out = tiny.generate("x", sampling=SamplingParams(temperature=0, max_tokens=3, logit_bias={half: 1e4}))
    assert out.token_ids == [half] * 3
    assert out.text == ""
