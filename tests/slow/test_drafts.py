"""Random cases: with drafts, right, spoilt and none, the tokens are those without. `OMLX_DRAFT_CASES` a family, 400."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.engine.drafter import Balance

from ..checkpoints import dflash
from ..conftest import endless, no_cache, noise_image

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("OMLX_DRAFT_CASES", "400"))
FAMILIES = ["qwen2_vl", "qwen2_5_vl", "glm_ocr", "pixtral", "qwen2"]
TOGETHER = 8


def messages_of(rng: random.Random, family: str) -> list[Message]:
    pictures = 0 if family == "qwen2" else rng.choice([0, 0, 1, 2])
    parts: list[Any] = [
        ImagePart(noise_image(28 * rng.randint(1, 4), 28 * rng.randint(1, 4), rng.randrange(6)))
    ] * pictures
    text = " ".join(rng.choice(["yes", "no", "one", "two", "and", "so"]) for _ in range(rng.randint(1, 120)))
    return [Message("user", [*parts, text])]


def sampling_of(rng: random.Random, engine: Any) -> SamplingParams:
    options: dict[str, Any] = {"max_tokens": rng.randint(1, 60)}
    if rng.random() < 0.4:
        options |= {
            "temperature": rng.choice([0.5, 1.0]),
            "seed": rng.randrange(1000),
            "top_p": rng.choice([0.9, None]),
        }
    if rng.random() < 0.3:
        options |= {"repetition_penalty": rng.choice([1.1, 1.4]), "frequency_penalty": rng.choice([0, 0.5])}
    if rng.random() < 0.2:
        options["logprobs"] = rng.randrange(3)
    if rng.random() < 0.1:
        schema = {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
            "required": ["a"],
        }
        return SamplingParams(json_schema=schema, **{"temperature": 0, **options})
    return endless(engine, **options)


def spoilt(rng: random.Random, tokens: list[int]) -> list[int]:
    made = list(tokens)
    for _ in range(rng.choice([0, 0, 1, 3])):
        at = rng.randrange(len(made) + 1)
        made[at : at + rng.randrange(3)] = [rng.randrange(32, 120) for _ in range(rng.randrange(3))]
    return made


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drafter", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_are_those_without(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, drafter: bool
) -> None:
    """Also beside a drafter model that knows nothing and is asked whenever it can be."""
    monkeypatch.setattr(Balance, "open", lambda self, rows: rows in self._costs.by_rows)
    rng, accepted = random.Random(FAMILIES.index(family)), 0
    beside = dflash.random(tmp_path, checkpoint(family)) if drafter else None
    with (
        Engine.load(checkpoint(family), cache=no_cache()) as plain,
        Engine.load(checkpoint(family), cache=CacheSettings(2**25), drafter=beside) as drafting,
    ):
        for _ in range(CASES // TOGETHER):
            asked = [(messages_of(rng, family), sampling_of(rng, plain)) for _ in range(TOGETHER)]
            wanted = [plain.generate(m, sampling=s) for m, s in asked]
            hints = [plain.decode(spoilt(rng, w.token_ids)) if rng.random() < 0.6 else "" for w in wanted]
            for _ in range(2):  # the second time an earlier answer is there too
                handles = [drafting.submit(m, sampling=s, hint=h) for (m, s), h in zip(asked, hints, strict=True)]
                found = [handle.result(120) for handle in handles]
                assert [f.token_ids for f in found] == [w.token_ids for w in wanted]
                assert [(f.text, f.finish_reason) for f in found] == [(w.text, w.finish_reason) for w in wanted]
                accepted += sum(f.usage.accepted for f in found)
        if drafter:
            assert drafting.capabilities.drafter
            assert drafting._loop._runner.drafting.drafter.source.drafted > CASES / 4
    assert accepted > 10 * CASES


def agreement(one: list[list[int]], other: list[list[int]]) -> float:
    """Of all tokens, those before an answer's first difference."""
    same = total = 0
    for a, b in zip(one, other, strict=True):
        total += len(a)
        same += next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return same / total


@pytest.mark.timeout(3600)
def test_bfloat16_differs_no_more_than_a_batch_does(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """KV written beside other tokens differs in its last bits, as KV written beside other rows does."""
    folder = Path(shutil.copytree(checkpoint("qwen2_vl"), tmp_path / "bf16"))
    weights = next(folder.glob("*.safetensors"))
    made = {name: array.astype(mx.bfloat16) for name, array in mx.load(str(weights)).items()}
    mx.save_safetensors(str(weights), made, {"format": "mlx"})
    rng = random.Random(5)
    with Engine.load(folder, cache=CacheSettings(2**27)) as engine:
        asked = [messages_of(rng, "qwen2_vl") for _ in range(64)]
        sampling = endless(engine, max_tokens=60)
        alone = [engine.submit(m, sampling=sampling, draft=False).result(60) for m in asked]
        batched = []
        for at in range(0, len(asked), 8):
            handles = [engine.submit(m, sampling=sampling, draft=False) for m in asked[at : at + 8]]
            batched += [handle.result(60).token_ids for handle in handles]
        drafted = [engine.submit(m, sampling=sampling).result(60) for m in asked]  # from the earlier answers
        assert sum(d.usage.accepted for d in drafted) > 1000
    plain = [a.token_ids for a in alone]
    in_batch, with_drafts = agreement(plain, batched), agreement(plain, [d.token_ids for d in drafted])
    print(
        f"\nbfloat16: of all tokens {in_batch:.1%} come before the first difference in a batch of 8, "
        f"{with_drafts:.1%} with drafts"
    )
    assert with_drafts >= in_batch - 0.05
