"""Families that nothing is listed of: what the proof at load lets them do, and when it must not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.images.source import open_images
from omlx_jupyter.models import proof
from omlx_jupyter.models.found import FoundModel, FoundVision
from omlx_jupyter.models.loader import load_model

from ..checkpoints.more import SHOWN
from ..conftest import endless, noise_image
from ..parity.test_matrix import GREEDY as LONGER
from ..parity.test_matrix import Family

GREEDY = SamplingParams(temperature=0, max_tokens=8)
# One of each treatment; `make families` has them all
KINDS = {
    "idefics3": "tiles in a plain KV cache",
    "lfm2_vl": "layers with a state",
    "gemma4": "rows of their own for every layer",
    "minicpmo": "positions left on the model",
    "qwen3_vl_moe": "deep-stack features",
    "fastvlm": "a token that many rows stand for",
    "gemma4_both_ways": "pictures that see themselves both ways",
    "minicpmv4_7": "positions that the embedding alone tells",
}
ONE_PICTURE = ("fastvlm",)  # is what mlx-vlm's own code takes in a prompt, or makes sense of
ALONE = {"unlimited_ocr": "RingSlidingKVCache", "mllama": "beside the tokens"}
WHOLE = {"paligemma": "logits differ"}


@pytest.mark.parametrize("family", [*SHOWN, *KINDS])
def test_it_holds(checkpoint: Callable[..., Path], family: str) -> None:
    model = load_model(str(checkpoint(family)))
    assert isinstance(model, FoundModel), model.alone_because
    assert model.family.batchable


@pytest.mark.parametrize("family", ALONE)
def test_what_does_not_hold_runs_alone_and_says_why(checkpoint: Callable[..., Path], family: str) -> None:
    model = load_model(str(checkpoint(family)))
    assert not model.family.batchable
    assert ALONE[family] in model.alone_because


@pytest.mark.parametrize("family", WHOLE)
def test_prompts_that_cannot_be_taken_apart_are_whole_and_rows_share(
    checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    made = Family(family, checkpoint(family), tmp_path)
    asked = [made.messages(text, ((90, 60, seed),)) for seed, text in enumerate(("What is it?", "Tell me. " * 9))]
    tokens = [made.reference(messages, seed) for seed, messages in enumerate(asked)]
    with Engine.load(made.path) as engine:
        able = engine.capabilities
        assert (able.batched, able.cached) == (True, False)
        assert WHOLE[family] in able.why["cached"]
        company = engine.submit(asked[0], sampling=endless(engine))
        handles = [engine.submit(messages, sampling=LONGER) for messages in asked]
        assert [h.result(60).token_ids for h in handles] == tokens
        assert max(h.usage.peak_rows for h in handles) > 1
        company.cancel()


@pytest.mark.parametrize("name", KINDS)
def test_its_tokens_are_the_familys_own(checkpoint: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Three prompts at once, and again from RAM."""
    family = Family(name, checkpoint(name), tmp_path)
    seen = ((60, 140, 2),) if name in ONE_PICTURE else ((60, 140, 2), (90, 60, 1))
    prompts = [("What is it?", ((90, 60, 1),)), ("Compare. " * 8, seen), ("Say something.", ())]
    asked = [family.messages(*prompt) for prompt in prompts]
    tokens = [family.reference(messages, i) for i, messages in enumerate(asked)]
    with Engine.load(family.path) as engine:
        handles = [engine.submit(messages, sampling=LONGER) for messages in asked]
        assert [h.result(60).token_ids for h in handles] == tokens
        assert max(h.usage.peak_rows for h in handles) > 1
        again = engine.generate(asked[1], sampling=LONGER)
        assert again.token_ids == tokens[1]
        assert again.usage.cached_tokens > 0
        assert again.usage.images_encoded == 0


def test_a_chunk_of_the_prompt_ends(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """Llama 4 looks back to a chunk's beginning: rows that stay within it share the batch, and longer ones, which run
    alone, are cached as well; one grows over it while it decodes."""
    folder = tmp_path / "llama4"
    shutil.copytree(checkpoint("llama4"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["attention_chunk_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    family = Family("llama4", folder, tmp_path)
    asked = [family.messages(text, ()) for text in ("Hi", "Tell me. ", "Tell me about it. " * 5, "And then? " * 20)]
    tokens = [family.reference(messages, i) for i, messages in enumerate(asked)]
    with Engine.load(folder) as engine:
        assert engine.capabilities.together_to == 96
        handles = [engine.submit(messages, sampling=LONGER) for messages in asked]
        made = [handle.result(120) for handle in handles]
        assert [answer.token_ids for answer in made] == tokens
        totals = [answer.usage.prompt_tokens + len(answer.token_ids) for answer in made]
        assert totals[1] < 96 < totals[2] < totals[3]
        assert max(answer.usage.peak_rows for answer in made[:2]) > 1
        for messages, own in zip(asked, tokens, strict=True):
            again = engine.generate(messages, sampling=LONGER)
            assert again.token_ids == own
        assert again.usage.cached_tokens > 96


def _lost_rows(self: FoundModel, ids: Any, caches: Any, embeds: Any = None, positions: Any = None) -> mx.array:
    """What deeper layers get is dropped."""
    return REAL(self, ids, caches, None if embeds is None else embeds[..., : self._hidden], positions)


def _shifted(self: FoundModel, ids: Any, caches: Any, embeds: Any = None, positions: Any = None) -> mx.array:
    """Positions of decoded tokens are one too far."""
    late = positions if positions is None or ids.shape[1] > 1 else positions + 1
    return REAL(self, ids, caches, embeds, late)


REAL = FoundModel.forward


@pytest.mark.parametrize("broken", [_lost_rows, _shifted])
def test_it_fails_where_something_is_lost(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    monkeypatch.setattr(FoundModel, "forward", broken)
    model = load_model(str(checkpoint("qwen3_vl")))
    assert "differ" in (model.alone_because or model.whole_because)


def test_it_fails_where_layers_get_no_rows_of_their_own(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FoundModel, "_with_layers", lambda self, found: found["inputs_embeds"])
    model = load_model(str(checkpoint("gemma4")))
    assert "differ" in model.whole_because


def test_a_proof_that_cannot_fail_counts_as_failed(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control that changes nothing: right and wrong look alike."""
    monkeypatch.setattr(proof, "_of_another", lambda features: features[0])
    model = load_model(str(checkpoint("qwen3_vl")))
    assert "can't tell" in model.whole_because


def test_a_second_picture_is_encoded_once_and_the_first_not_again(
    checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    first = [Message("user", [ImagePart(noise_image(90, 60, 1)), "What is it?"])]
    more = [*first, Message("assistant", ["A thing."]), Message("user", [ImagePart(noise_image(60, 90, 2)), "And?"])]
    with Engine.load(checkpoint("qwen3_vl")) as engine:
        engine.generate(first, sampling=GREEDY)
        usage = engine.generate(more, sampling=GREEDY).usage
        assert (usage.images, usage.images_encoded, usage.images_reused) == (2, 1, 1)
        assert usage.cached_tokens > 0


def test_where_pictures_lie_is_found(checkpoint: Callable[..., Path]) -> None:
    model = load_model(str(checkpoint("gemma3")))
    assert isinstance(model.vision, FoundVision)
    pictures = [noise_image(60, 40, seed) for seed in range(2)]
    decoded = [open_images(picture)[0] for picture in pictures]
    asked = [Message("user", [ImagePart(decoded[0]), "before", ImagePart(decoded[1]), "after"])]
    made = model.prepare(asked, decoded)
    for span, image in zip(made.spans, made.images, strict=True):
        assert tuple(made.ids[span.start : span.start + span.length]) == image.tokens
    assert len(made.spans) == 2
