"""The engine as a whole, on real checkpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.errors import EngineClosedError, ImageError, ModelError, RequestError
from omlx_jupyter.images.source import open_images

from ..conftest import draw_text, endless, no_cache, noise_image

GREEDY = SamplingParams(temperature=0, max_tokens=24)


def reference(path: Path, prompt: str, images: list[Any], folder: Path, max_tokens: int) -> list[int]:
    """Token ids of `mlx_vlm.generate` with one whole prefill, from a fresh load: it keeps state on the model."""
    import mlx_vlm

    model, processor = mlx_vlm.load(str(path))
    files = []
    for index, image in enumerate(images):
        files.append(str(folder / f"{index}.png"))
        image.save(files[-1])
    steps = mlx_vlm.stream_generate(
        model, processor, prompt, image=files or None, max_tokens=max_tokens, temperature=0.0, prefill_step_size=None
    )
    return [int(step.token) for step in steps][:max_tokens]  # its closing summary repeats the last one


def test_the_embedded_model_equals_mlx_vlm(tiny: Any, tmp_path: Path) -> None:
    for text in ("Hello 42", "Total 7.70\nTax 1.20"):
        image = draw_text(text)
        out = tiny.generate("Text Recognition:", [image], SamplingParams(temperature=0, max_tokens=40))
        prompt = "<|user|><|begin_of_image|><|image|><|end_of_image|>Text Recognition:<|assistant|>"
        assert out.token_ids == reference(tiny.path, prompt, [image], tmp_path, 40)
        assert out.usage.images_encoded + out.usage.images_reused == 1


@pytest.mark.parametrize("pictures", [0, 1, 2])
@pytest.mark.parametrize("chunk", [7, 256])
def test_random_qwen2_vl_equals_mlx_vlm(
    checkpoint: Callable[..., Path], tmp_path: Path, pictures: int, chunk: int
) -> None:
    path = checkpoint("qwen2_vl")
    images = [noise_image(60 + 40 * i, 90, seed=i) for i in range(pictures)]
    with Engine.load(path, limits=Limits(prefill_chunk=chunk), cache=no_cache()) as engine:
        out = engine.generate("What is it?", images, GREEDY)
    prompt = (
        "<|im_start|>user\n"
        + "<|vision_start|><|image_pad|><|vision_end|>" * pictures
        + "What is it?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert out.token_ids == reference(path, prompt, images, tmp_path, 24)
    assert out.usage.images_encoded == pictures


def test_another_picture_gives_other_tokens(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl")) as engine:
        answers = {tuple(engine.generate("What?", [noise_image(90, 90, seed)], GREEDY).token_ids) for seed in range(4)}
    assert len(answers) == 4


def test_result_and_usage(tiny: Any) -> None:
    before = tiny.stats()
    out = tiny.generate(images=[draw_text("Sum 12")])
    assert out.finish_reason == "stop"
    assert out.usage.prompt_tokens > 10
    assert out.usage.completion_tokens == len(out.token_ids)
    assert 0 < out.usage.ttft_s <= out.usage.total_s
    assert out.usage.decode_tokens_per_s > 0
    assert "tokens" in out.usage.line()
    assert tiny.stats().finished == before.finished + 1
    again = tiny.generate(images=[draw_text("Sum 12")])
    assert (again.usage.images_encoded, again.usage.images_reused) == (0, 1)
    assert again.token_ids == out.token_ids


def test_a_picture_alone_gets_the_ocr_prompt(tiny: Any) -> None:
    image = draw_text("abc 123")
    alone = tiny.generate(images=[image])
    said = tiny.generate("Text Recognition:", [image])
    other = tiny.generate("What does this picture say to you?", [image])
    assert alone.usage.prompt_tokens == said.usage.prompt_tokens != other.usage.prompt_tokens
    assert alone.token_ids == said.token_ids
    assert tiny.generate(images=[image], sampling=SamplingParams(max_tokens=2)).finish_reason == "length"


def test_streaming_gives_the_text_in_pieces(tiny: Any) -> None:
    handle = tiny.submit(images=[draw_text("Hello there")])
    pieces = list(handle)
    result = handle.result()
    assert "".join(p.text for p in pieces) == result.text
    assert [t for p in pieces for t in p.token_ids] == result.token_ids
    assert len(pieces) > 3
    assert handle.done
    assert handle.progress.phase == "done"


def test_stop_strings_are_cut(tiny: Any) -> None:
    whole = tiny.generate(images=[draw_text("Hello there")]).text
    assert len(whole) > 4
    stop = whole[2:4]
    out = tiny.generate(images=[draw_text("Hello there")], sampling=SamplingParams(stop=(stop,)))
    assert out.text == whole[: whole.index(stop)]
    assert out.finish_reason == "stop"
    assert stop in out.detail
    token = tiny.generate(images=[draw_text("Hello there")]).token_ids[1]
    ended = tiny.generate(images=[draw_text("Hello there")], sampling=SamplingParams(stop_token_ids=(token,)))
    assert ended.token_ids[-1] == token
    assert ended.text == whole[:1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_iteration_and_results(tiny: Any, backend: str) -> None:
    async def main() -> tuple[str, str, str]:
        handle = tiny.submit(images=[draw_text("Hello")])
        streamed = ""
        async for piece in handle:
            streamed += piece.text
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await tiny.agenerate(images=[draw_text("Hello")])).text)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
        return streamed, *answers

    assert len(set(anyio.run(main, backend=backend))) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_an_async_task_cancels_the_request(checkpoint: Callable[..., Path], backend: str) -> None:
    with Engine.load(checkpoint("qwen2_vl")) as engine:

        async def main() -> None:
            with anyio.move_on_after(0.3):
                await engine.agenerate("go", sampling=endless(engine))

        anyio.run(main, backend=backend)
        _wait_until(lambda: engine.stats().cancelled == 1)


def _wait_until(check: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_cancel_keeps_what_was_said(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl")) as engine:
        handle = engine.submit("go on", sampling=endless(engine))
        while handle.progress.tokens < 5:
            handle.poll(0.05)
        start = time.monotonic()
        handle.cancel()
        result = handle.result(timeout=5)
        assert time.monotonic() - start < 0.2
        assert result.finish_reason == "cancelled"
        assert len(result.token_ids) >= 5
        again = engine.generate("go on", sampling=endless(engine, max_tokens=5))
        assert again.token_ids == result.token_ids[:5]


def test_cancel_before_it_began(tiny: Any) -> None:
    slow = threading.Event()

    class Slow:
        def _repr_png_(self) -> bytes:
            slow.wait(5)
            return draw_text("late")._repr_png_()

    handle = tiny.submit(images=[Slow()])
    start = time.monotonic()
    handle.cancel()
    result = handle.result(timeout=5)
    assert time.monotonic() - start < 1  # while its picture is still being read
    slow.set()
    assert result.finish_reason == "cancelled"
    assert result.token_ids == []
    assert tiny.generate(images=[draw_text("next")]).finish_reason in ("stop", "length")


def test_close_ends_running_requests_and_is_final(checkpoint: Callable[..., Path]) -> None:
    engine = Engine.load(checkpoint("qwen2_vl"), limits=Limits(max_rows=1))
    handles = [engine.submit("go", sampling=endless(engine)) for _ in range(3)]
    while max(handle.progress.tokens for handle in handles) < 3:  # of whichever was prepared first
        handles[0].poll(0.05)
    engine.close()
    engine.close()
    assert [h.result(timeout=1).finish_reason for h in handles] == ["cancelled"] * 3
    assert engine.stats().state == "closed"
    with pytest.raises(EngineClosedError, match="load a new one"):
        engine.submit("more")


def test_close_ends_requests_whose_pictures_are_still_being_read() -> None:
    engine = Engine.load()
    gate = threading.Event()

    class Slow:
        def _repr_png_(self) -> bytes:
            gate.wait(10)
            return open_images(draw_text("late"))[0].png()

    handles = [engine.submit(images=[Slow()]) for _ in range(12)]  # more than there are workers
    engine.close()
    assert [h.result(timeout=2).finish_reason for h in handles] == ["cancelled"] * 12
    gate.set()


def test_one_bad_request_leaves_the_others_alone(tiny: Any) -> None:
    good = [tiny.submit(images=[draw_text("Hello")]) for _ in range(2)]
    bad = tiny.submit(images=[b"no picture"])
    missing = tiny.submit("hi", images=["/no/such.png"])
    with pytest.raises(ImageError, match="not a picture"):
        bad.result(5)
    with pytest.raises(ImageError, match="no file"):
        list(missing)
    assert good[0].result(5).token_ids == good[1].result(5).token_ids
    with pytest.raises(RequestError, match="empty"):
        tiny.submit("   ")


def test_timeout_and_sampling_mistakes(tiny: Any) -> None:
    with pytest.raises(RequestError, match="temperature is -1"):
        SamplingParams(temperature=-1)
    with pytest.raises(RequestError, match="stop string is empty"):
        SamplingParams(stop=("",))
    with pytest.raises(RequestError, match="max_tokens is 0"):
        SamplingParams(max_tokens=0)
    with pytest.raises(RequestError, match="must be a number"):
        SamplingParams(top_p="0.5")  # type: ignore[arg-type]


def test_conversations_and_system_prompts(tiny: Any) -> None:
    messages = [
        Message("user", [ImagePart(draw_text("one")), "Text Recognition:"]),
        Message("assistant", ["one"]),
        Message("user", [ImagePart(draw_text("two")), "Text Recognition:"]),
    ]
    out = tiny.generate(messages, system="You read.")
    assert out.usage.images == 2
    with pytest.raises(RequestError, match="ImagePart"):
        tiny.generate(messages, images=[draw_text("x")])


def test_two_engines_side_by_side(tiny: Any, checkpoint: Callable[..., Path]) -> None:
    alone = tiny.generate(images=[draw_text("Hello")]).token_ids
    with Engine.load(checkpoint("qwen2_vl")) as other:
        handle = other.submit("go", sampling=SamplingParams(max_tokens=200, temperature=0))
        assert tiny.generate(images=[draw_text("Hello")]).token_ids == alone
        assert len(handle.result(30).token_ids) > 0
    assert tiny.generate(images=[draw_text("Hello")]).token_ids == alone


def test_a_model_that_fails_to_load_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(ModelError):
        Engine.load(tmp_path)
    _wait_until(lambda: threading.active_count() <= before)
