"""Every family: the same greedy tokens alone, chunked, batched, beside a cancelled row, in a second turn.

The reference is mlx-vlm's (mlx-lm's) own generation with one whole prefill, from a fresh load: it
keeps positions on the model object, and its own chunking drifts on glm4v.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.engine.scheduler import Limits
from omlx_jupyter.models.whole import WholeProcessor, mended

from ..checkpoints import deepseek
from ..checkpoints.families import TEXT, VISION
from ..checkpoints.more import ALONE, MOE, SHOWN
from ..checkpoints.text import MORE_TEXT
from ..conftest import endless, no_cache, noise_image

TOKENS = 16
GREEDY = SamplingParams(temperature=0, max_tokens=TOKENS)
SIZES = ((28, 28), (64, 200), (300, 90), (1500, 700), (90, 90))


class PerPicture:
    """mlx-vlm 0.7.10's glm4v tower cuts its attention after the second picture, so that the third and all
    later ones see each other; one picture at a time it is right."""

    def __init__(self, tower: Any) -> None:
        self._tower = tower

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def __call__(self, pixels: Any, grids: Any, **settings: Any) -> Any:
        import mlx.core as mx

        made, at = [], 0
        for grid in grids.tolist():
            count = grid[0] * grid[1] * grid[2]
            made.append(self._tower(pixels[at : at + count], mx.array([grid]), **settings))
            at += count
        return mx.concatenate(made)


@dataclass
class Family:
    """A checkpoint, its references, and an engine over it."""

    name: str
    path: Path
    folder: Path
    known: dict[Any, list[int]] = field(default_factory=dict)

    @property
    def sees(self) -> bool:
        return self.name not in {**TEXT, **MORE_TEXT}

    def messages(self, text: str, images: tuple[tuple[int, int, int], ...]) -> list[Message]:
        parts: list[Any] = []
        for size in images:
            parts.append(ImagePart(noise_image(*size)))
            parts.append(" and ")
        return [Message("user", [*parts, text])]

    def reference(self, messages: list[Message], key: Any) -> list[int]:
        if key not in self.known:
            from omlx_jupyter.models.loader import load_model

            loaded = load_model(self.path)
            tokens = self._generate(messages, loaded)
            # OCR models have further end tokens here, which upstream goes on after.
            end = next((i + 1 for i, token in enumerate(tokens) if token in loaded.end_tokens), len(tokens))
            self.known[key] = tokens[:end]
        return self.known[key]

    def _generate(self, messages: list[Message], loaded: Any) -> list[int]:
        whole = getattr(loaded.vision, "whole", loaded.vision)
        if isinstance(whole, WholeProcessor):
            prompt = whole.render(messages)
        else:
            prompt, guarded = loaded.tokenizer.render(messages)
            assert not guarded
        if not self.sees:
            import mlx_lm

            model, tokenizer = mlx_lm.load(str(self.path))[:2]
            steps = mlx_lm.stream_generate(model, tokenizer, tokenizer.encode(prompt), max_tokens=TOKENS)
            return [int(step.token) for step in steps][:TOKENS]
        if self.name.startswith("deepseekocr"):
            return deepseek.reference(self.path, pieces_of(messages), TOKENS)
        import mlx_vlm

        model, processor = mlx_vlm.load(str(self.path))
        if self.name == "dots_ocr":  # its processor hard-codes the published vocabulary's id
            processor.image_token_id = model.config.image_token_id
        if self.name == "llava":
            mended(processor)
        if self.name == "glm4v":
            model.vision_tower = PerPicture(model.vision_tower)
        files = []
        for part in (p for m in messages for p in m.parts if isinstance(p, ImagePart)):
            files.append(str(self.folder / f"{len(files)}.png"))
            part.source.save(files[-1])
        steps = mlx_vlm.stream_generate(
            model,
            processor,
            prompt,
            image=files or None,
            max_tokens=TOKENS,
            temperature=0.0,
            prefill_step_size=None,
        )
        return [int(step.token) for step in steps][:TOKENS]


def pieces_of(messages: list[Message]) -> list[Any]:
    """What DeepSeek-OCR sees: a line for each picture, a line break between turns."""
    pieces: list[Any] = []
    for index, message in enumerate(messages):
        pieces += ["\n"] if index else []
        for part in message.parts:
            pieces += [part.source, "\n"] if isinstance(part, ImagePart) else [part]
    return pieces


@pytest.fixture(scope="module", params=[*VISION, *MOE, *TEXT, *SHOWN, *ALONE])
def family(request: Any, checkpoint: Callable[..., Path], tmp_path_factory: Any) -> Family:
    return Family(request.param, checkpoint(request.param), tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def engine(family: Family) -> Iterator[Any]:
    with Engine.load(family.path, cache=no_cache()) as made:
        yield made


def cases(family: Family) -> list[tuple[str, tuple[tuple[int, int, int], ...]]]:
    """Prompts of different lengths with 0, 1, 2 and 5 pictures, one of them twice."""
    long = "Tell me about it. " * 12
    if not family.sees:
        return [("Hi", ()), ("What is it?", ()), (long, ()), (long + long, ())]
    a, b, c, d, e = ((*size, seed) for seed, size in enumerate(SIZES))
    return [
        ("What is it?", ()),
        ("What is it?", (a,)),
        ("What is it?", (b,)),
        (long, (c,)),
        ("Compare", (c, b)),
        ("Twice", (e, e)),
        ("All", (a, b, c, d, e)),
        (long, (d,)),
    ]


def expected(family: Family) -> list[tuple[list[Message], list[int]]]:
    found = []
    for text, images in cases(family):
        messages = family.messages(text, images)
        found.append((messages, family.reference(messages, (text, images))))
    return found


def test_alone(family: Family, engine: Any) -> None:
    """(a) and (e): solo equals the reference, with any number and size of pictures."""
    for messages, tokens in expected(family):
        assert engine.generate(messages, sampling=GREEDY).token_ids == tokens


@pytest.mark.parametrize("chunk", [7, 64, 10**6])
def test_chunks(family: Family, chunk: int) -> None:
    """(b): wherever the chunk boundaries fall, also inside pictures."""
    with Engine.load(family.path, limits=Limits(prefill_chunk=chunk), cache=no_cache()) as made:
        for messages, tokens in expected(family)[:5]:
            assert made.generate(messages, sampling=GREEDY).token_ids == tokens


def test_together(family: Family, engine: Any) -> None:
    """(c): two to eight rows that arrive at different steps."""
    todo = expected(family)
    alone = family.name in ALONE
    # On a busy machine a row may end before the next is prepared; this one is there for all of them.
    company = [] if alone else [engine.submit("go on for ever", sampling=endless(engine))]
    for rows in (2, len(todo)):
        handles = []
        for messages, _ in todo[:rows]:
            handles.append(engine.submit(messages, sampling=GREEDY))
            while handles[-1].progress.tokens < 2 and not handles[-1].done:
                time.sleep(0.002)
        for handle, (_, tokens) in zip(handles, todo, strict=False):
            assert handle.result(60).token_ids == tokens
        assert (max(h.usage.peak_rows for h in handles) > 1) != alone
    for row in company:
        row.cancel()


def test_beside_a_cancelled_row(family: Family, engine: Any) -> None:
    """(d): a row that leaves half way changes nobody's tokens."""
    todo = expected(family)[1:4]
    doomed = engine.submit("go on for ever", sampling=endless(engine))
    while doomed.progress.tokens < 3:
        time.sleep(0.002)
    handles = [engine.submit(messages, sampling=GREEDY) for messages, _ in todo]
    while family.name not in ALONE and not any(h.progress.tokens >= 4 for h in handles):
        time.sleep(0.002)
    doomed.cancel()
    assert [h.result(60).token_ids for h in handles] == [tokens for _, tokens in todo]
    assert doomed.result(5).finish_reason == "cancelled"


def test_second_turn(family: Family, engine: Any) -> None:
    """(f): a conversation goes on, with a further picture."""
    first = family.messages("What is it?", ((90, 60, 7),) if family.sees else ())
    more: list[Any] = [ImagePart(noise_image(120, 80, 8)), "And this?"] if family.sees else ["And this?"]
    messages = [*first, Message("assistant", ["A thing."]), Message("user", more)]
    assert engine.generate(messages, sampling=GREEDY).token_ids == family.reference(messages, "second")


def test_pictures_and_prompts_matter(family: Family, engine: Any) -> None:
    """A negative control: were pictures or positions ignored, these would be equal."""
    if family.sees:
        variants = [family.messages("What is it?", ((90, 90, seed),)) for seed in range(3)]
        swapped = [((64, 64, 1), (90, 60, 2)), ((90, 60, 2), (64, 64, 1))]
        variants += [family.messages("Compare", images) for images in swapped]
    else:
        variants = [family.messages(text, ()) for text in ("one", "two", "three")]
    answers = [tuple(engine.generate(m, sampling=GREEDY).token_ids) for m in variants]
    assert len(set(answers)) == len(answers)
