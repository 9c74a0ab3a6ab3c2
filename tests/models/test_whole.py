"""Families that the engine doesn't know: alone, through their own processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.loader import load_model

from ..conftest import noise_image, told_why

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


def test_a_template_for_strings_gets_mlx_vlms_own_format(
    checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It would write a message's parts as Python writes a list."""
    loaded = load_model(checkpoint("deepseek_vl_v2"))
    assert capsys.readouterr().out == ""  # its processor prints at every load
    vision: Any = getattr(loaded.vision, "whole", loaded.vision)
    picture, spelled = ImagePart(noise_image(40, 40, 1)), "What is {'type': 'image'}?"
    text = vision.render([Message("user", [picture, spelled])])
    assert text.count("<image>") == 1
    assert text.count("'type'") == 1
    assert "<image>" not in vision.render([Message("user", [spelled])])


def test_stats_say_that_requests_wait_because_the_family_runs_alone(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("unlimited_ocr")) as engine:
        sampling = SamplingParams(max_tokens=400, temperature=0)
        handles, seen = told_why(engine, lambda: [engine.submit("Go on", sampling=sampling) for _ in range(2)])
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
