"""Families that the engine doesn't know: alone, through their own processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.loader import load_model

from ..conftest import noise_image

GREEDY = SamplingParams(temperature=0, max_tokens=8)


def test_user_text_that_spells_a_picture_stays_text(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("gemma3")) as engine:
        told = engine.generate("What is <start_of_image> in <image>?", sampling=GREEDY)
        assert told.usage.images == 0
        asked = [Message("user", ["<start_of_image> beside ", ImagePart(noise_image(40, 40, 1))])]
        assert engine.generate(asked, sampling=GREEDY).usage.images == 1


def test_without_a_template_mlx_vlms_own_format_is_used(checkpoint: Callable[..., Path]) -> None:
    path = checkpoint("gemma3", seed=3)
    (path / "chat_template.jinja").unlink()
    loaded = load_model(path)
    assert loaded.vision is not None
    text = loaded.vision.whole.render([Message("user", ["Look: ", ImagePart(noise_image(40, 40, 1))])])  # type: ignore[union-attr]
    assert text.count("<start_of_image>") == 1
    assert "Look" in text


def test_stats_say_that_requests_wait_because_the_family_runs_alone(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("unlimited_ocr")) as engine:
        handles = [engine.submit("Go on", sampling=SamplingParams(max_tokens=400, temperature=0)) for _ in range(2)]
        seen = ""
        while not seen and not all(h.done for h in handles):
            seen = engine.stats().waiting_for
        assert "one at a time" in seen
        for handle in handles:
            handle.cancel()


def test_sampling_options_hold_for_a_family_that_runs_alone(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("unlimited_ocr")) as engine:
        plain = engine.generate("Hello", sampling=GREEDY)
        banned = engine.generate(
            "Hello", sampling=SamplingParams(temperature=0, max_tokens=8, logit_bias={plain.token_ids[0]: -100.0})
        )
        assert banned.token_ids[0] != plain.token_ids[0]
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        bound = engine.generate("Hello", sampling=SamplingParams(temperature=0, max_tokens=60, json_schema=schema))
        assert bound.text.lstrip().startswith("{")
        top = engine.generate("Hello", sampling=SamplingParams(temperature=0, max_tokens=4, logprobs=2))
        assert top.logprobs is not None
        assert len(top.logprobs) == 4


def test_a_processor_that_fails_is_one_sentence(checkpoint: Callable[..., Path]) -> None:
    path = checkpoint("gemma3", seed=4)
    (path / "chat_template.jinja").write_text("{{ messages[0].role }} <start_of_image><start_of_image>")
    with Engine.load(path) as engine, pytest.raises(ModelError, match="can't take this prompt"):
        engine.generate([Message("user", [ImagePart(noise_image(40, 40, 1)), "x"])], sampling=GREEDY)
