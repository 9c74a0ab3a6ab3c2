"""Every family: the same tokens cold, from RAM, from SSD in another process, after a kill, with holes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message
from omlx_jupyter.cache.index import Index
from omlx_jupyter.cache.prefix_cache import CacheSettings

from ..checkpoints.families import TEXT, VISION
from ..checkpoints.more import MOE, SHOWN
from ..conftest import noise_image
from ..stress import work
from ..stress.conftest import processes  # noqa: F401

NUMBERS = [1, 2, 3, 5, 9, 4]


@pytest.fixture(scope="module", params=[*VISION, *MOE, *TEXT, *SHOWN])
def family(request: Any, checkpoint: Callable[..., Path], tmp_path_factory: Any) -> tuple[str, Path, list[list[int]]]:
    path = checkpoint(request.param)
    cold = [tokens for tokens, _ in work.answers(path, None, NUMBERS, ram=0)]
    return request.param, path, cold


def test_cold_ram_and_ssd(family: Any, tmp_path: Path, processes: Any) -> None:  # noqa: F811
    _, path, cold = family
    with work.open_engine(path, tmp_path) as engine:
        for tokens, warm in zip(cold + cold, NUMBERS + NUMBERS, strict=True):
            made = engine.generate(work.prompt(warm, engine.sees), sampling=work.GREEDY)
            assert made.token_ids == tokens
        assert made.usage.cached_tokens_ram == made.usage.prompt_tokens - 1
        assert made.usage.images_encoded == 0
    out = processes.Queue()
    child = processes.Process(target=work.run_some, args=(path, tmp_path, NUMBERS, 2**28, out))
    child.start()
    answers = out.get(timeout=120)
    child.join(30)
    assert [tokens for tokens, _ in answers] == cold
    assert answers[0][1] > 0


def test_killed_while_writing(family: Any, tmp_path: Path, processes: Any) -> None:  # noqa: F811
    _, path, cold = family
    started = processes.Event()
    child = processes.Process(target=work.run_for_ever, args=(path, tmp_path, 3, 10, 2**28, started), daemon=True)
    child.start()
    assert started.wait(60)
    segments = tmp_path / "segments"
    deadline = time.monotonic() + 60
    while not (segments.exists() and any(p.name.endswith(".tmp") for p in segments.iterdir())):
        assert time.monotonic() < deadline
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert [tokens for tokens, _ in work.answers(path, tmp_path, NUMBERS, ram=1)] == cold


def test_every_second_block_evicted(family: Any, tmp_path: Path) -> None:
    _, path, cold = family
    work.answers(path, tmp_path, NUMBERS)
    index = Index(tmp_path)
    with index.writing():
        index._db.execute("DELETE FROM blocks WHERE rowid % 2 = 0")
        index._db.execute("DELETE FROM extras WHERE rowid % 2 = 0")
    index.close()
    assert [tokens for tokens, _ in work.answers(path, tmp_path, NUMBERS, ram=1)] == cold


def test_rows_together_that_share_and_that_do_not(family: Any, tmp_path: Path) -> None:
    _, path, cold = family
    with work.open_engine(path, tmp_path) as engine:
        for _ in range(2):
            handles = [engine.submit(work.prompt(n, engine.sees), sampling=work.GREEDY) for n in NUMBERS + NUMBERS]
            assert [handle.result(60).token_ids for handle in handles] == cold + cold


def test_a_conversation_computes_only_what_is_new(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """Three turns, a picture each: the tokens prefilled in a turn are that turn's own, and it encodes one picture."""
    path = checkpoint("glm_ocr")
    with work.open_engine(path, tmp_path) as engine:
        messages: list[Message] = []
        before = 0
        for turn in range(3):
            messages.append(Message("user", [ImagePart(noise_image(90, 60, turn)), "What is it? " * 20]))
            made = engine.generate(messages, sampling=work.GREEDY)
            assert made.usage.images_encoded == 1
            assert made.usage.images_reused == turn
            # what the cache holds: the turn before, and its answer
            computed = made.usage.prompt_tokens - made.usage.cached_tokens
            assert made.usage.cached_tokens >= before
            new = made.usage.prompt_tokens - before
            assert computed <= new
            before = made.usage.prompt_tokens
            messages.append(Message("assistant", ["It is a thing."]))


def test_an_answer_is_reused_in_the_next_turn(tiny: Any) -> None:
    """With a text that reads back as the tokens it was made of, the answer itself is a hit."""
    picture = noise_image(96, 64, 5)
    first = [Message("user", [ImagePart(picture), "Text Recognition:"])]
    made = tiny.generate(first, sampling=work.GREEDY)
    again = tiny._loop.model.tokenizer.encode(made.text)
    prompt = [*first, Message("assistant", [made.text]), Message("user", ["And now?"])]
    second = tiny.generate(prompt, sampling=work.GREEDY)
    answer = made.token_ids
    assert made.usage.prompt_tokens <= second.usage.cached_tokens <= made.usage.prompt_tokens + len(answer)
    if again == answer[: len(again)]:
        assert second.usage.cached_tokens >= made.usage.prompt_tokens + len(again)


def test_one_picture_swapped_keeps_what_is_before_it(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = checkpoint("qwen2_vl")
    one, two, three = (ImagePart(noise_image(90, 60, seed)) for seed in (1, 2, 3))
    with work.open_engine(path, tmp_path) as engine:
        engine.generate([Message("user", ["look " * 9, one, " and ", two, "compare"])], sampling=work.GREEDY)
        swapped = [Message("user", ["look " * 9, one, " and ", three, "compare"])]
        made = engine.generate(swapped, sampling=work.GREEDY)
        assert made.usage.images_encoded == 1
        assert made.usage.images_reused == 1
        assert made.usage.cached_tokens > 60
    with Engine.load(path, cache=CacheSettings(0)) as cold:
        assert cold.generate(swapped, sampling=work.GREEDY).token_ids == made.token_ids


def test_a_picture_under_another_prompt_is_not_encoded_again(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = checkpoint("qwen2_vl")
    picture = ImagePart(noise_image(90, 60, 1))
    with work.open_engine(path, tmp_path) as engine:
        engine.generate([Message("user", [picture, "one"])], sampling=work.GREEDY)
    with work.open_engine(path, tmp_path) as engine:  # features come from disk
        made = engine.generate([Message("user", ["before it ", picture, "two"])], sampling=work.GREEDY)
    assert made.usage.images_encoded == 0
    assert made.usage.images_reused == 1


@pytest.mark.parametrize("change", ["weights", "template", "processor", "dtype"])
def test_another_model_under_the_same_path(change: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    import mlx.core as mx

    path = tmp_path / "model"
    shutil.copytree(checkpoint("qwen2_vl"), path)
    work.answers(path, tmp_path / "cache", [1])
    if change == "weights":
        shutil.copy(checkpoint("qwen2_vl", 1) / "model.safetensors", path)
    elif change == "template":
        with (path / "chat_template.jinja").open("a") as stream:
            stream.write("{# changed #}")
    elif change == "processor":
        text = (path / "preprocessor_config.json").read_text()
        (path / "preprocessor_config.json").write_text(text.replace("0.25", "0.5"))
    else:
        weights = {n: w.astype(mx.bfloat16) for n, w in mx.load(str(path / "model.safetensors")).items()}
        mx.save_safetensors(str(path / "model.safetensors"), weights, metadata={"format": "mlx"})
    cold = work.answers(path, None, [1], ram=0)
    ((tokens, cached),) = work.answers(path, tmp_path / "cache", [1])
    assert cached == 0
    assert tokens == cold[0][0]
    assert work.answers(path, tmp_path / "cache", [1], ram=1)[0][1] > 0
