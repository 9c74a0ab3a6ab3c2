"""Drafts through the real engine: the tokens of a run without them, in fewer steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.errors import RequestError
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.row_store import Grouping
from omlx_jupyter.models.width_proof import WIDTHS, widest

from ..conftest import endless, no_cache, noise_image

OWN_KV = ["qwen2_vl", "glm_ocr", "pixtral", "qwen2"]
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "seed": {"temperature": 0.9, "seed": 11, "top_p": 0.95},
    "penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.2},
    "sampled penalties": {"temperature": 0.8, "seed": 3, "frequency_penalty": 0.7},
    "logprobs": {"logprobs": 3},
    "json": {"json_schema": {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}},
}


def prompt(family: str, seed: int = 1, words: int = 60) -> list[Message]:
    picture = [] if family == "qwen2" else [ImagePart(noise_image(60, 64, seed))]
    rng = random.Random(seed)
    return [Message("user", [*picture, " ".join(rng.choice(["one", "two", "three", "four"]) for _ in range(words))])]


def sampling(engine: Any, tokens: int = 48, **options: Any) -> SamplingParams:
    if "json_schema" in options:
        return SamplingParams(**{"temperature": 0, "max_tokens": tokens, **options})
    return endless(engine, max_tokens=tokens, **options)


def ask(engine: Any, messages: list[Message], draft: bool = True, hint: str = "", **options: Any) -> Any:
    handle = engine.submit(messages, sampling=sampling(engine, **options), draft=draft, hint=hint)
    return handle.result(60)


@pytest.fixture(scope="module", params=OWN_KV)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(family: str, checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    cache = CacheSettings(2**26, 2**28, tmp_path_factory.mktemp("drafts"))
    with Engine.load(checkpoint(family), cache=cache) as made:
        yield made


def test_a_step_may_be_wide(family: str, checkpoint: Callable[..., Path]) -> None:
    model = load_model(checkpoint(family))
    assert model.rows is not None
    assert widest(model, model.rows.grouping) == max(WIDTHS)
    assert widest(model, Grouping(handles=False)) == 1


def test_a_wrong_step_is_seen(checkpoint: Callable[..., Path], monkeypatch: Any) -> None:
    """Were the tokens of a step to see one another all alike, the proof would fail."""
    from omlx_jupyter.models import row_store

    model = load_model(checkpoint("qwen2_vl"))
    grouping = model.rows.grouping
    own = row_store.mx.fast.scaled_dot_product_attention
    monkeypatch.setattr(
        row_store.mx.fast,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: own(
            *args, **{**kwargs, "mask": None if kwargs.get("mask") == "causal" else kwargs["mask"]}
        ),
    )
    assert widest(model, grouping) == 1


@pytest.mark.parametrize("name", OPTIONS)
def test_an_answer_given_before_takes_few_steps(engine: Any, family: str, name: str) -> None:
    options, messages = OPTIONS[name], prompt(family, seed=20 + list(OPTIONS).index(name))
    plain = ask(engine, messages, draft=False, **options)
    assert (plain.usage.drafted, plain.usage.accepted) == (0, 0)
    again = ask(engine, messages, **options)
    assert again.token_ids == plain.token_ids
    assert again.text == plain.text
    assert again.finish_reason == plain.finish_reason
    if name != "json":
        assert again.usage.steps <= len(plain.token_ids) / 4
        assert again.usage.accepted_from["earlier answer"] >= len(plain.token_ids) / 2
    if plain.logprobs:
        pairs = zip(again.logprobs, plain.logprobs, strict=True)
        assert all(a.logprob == pytest.approx(b.logprob, abs=1e-4) for a, b in pairs)


def test_rows_of_all_widths_share_steps(engine: Any, family: str) -> None:
    """Rows with drafts right, half right and none, joining and leaving: each gives its tokens."""
    asked = [prompt(family, seed=40 + i) for i in range(6)]
    plain = [ask(engine, messages, draft=False, tokens=30 + 7 * i) for i, messages in enumerate(asked)]
    hints = [engine.decode(found.token_ids) for found in plain]
    spoilt = [
        text if i % 2 else text[: len(text) // 2] + "???" + text[len(text) // 2 :] for i, text in enumerate(hints)
    ]
    handles = [
        engine.submit(messages, sampling=sampling(engine, 30 + 7 * i), hint=spoilt[i] if i < 4 else "", draft=i != 5)
        for i, messages in enumerate(asked)
    ]
    found = [handle.result(60) for handle in handles]
    assert [f.token_ids for f in found] == [p.token_ids for p in plain]
    assert max(f.usage.peak_rows for f in found) > 1
    assert found[5].usage.drafted == 0
    assert sum(f.usage.accepted for f in found) > 60


def test_stops_and_ends_inside_a_draft(engine: Any, family: str) -> None:
    messages = prompt(family, seed=60)
    plain = ask(engine, messages, draft=False)
    stop_at = plain.token_ids[20]
    stopped = sampling(engine, 48, stop_token_ids=(stop_at,))
    wanted = engine.submit(messages, sampling=stopped, draft=False).result(60)
    found = engine.submit(messages, sampling=stopped).result(60)
    assert (found.token_ids, found.finish_reason) == (wanted.token_ids, "stop")
    piece = next((plain.text[i : i + 3] for i in range(20, len(plain.text)) if plain.text[i : i + 3].isascii()), "")
    for options in ({"stop": (piece,)} if piece.strip() else {}, {"tokens": 17}, {"tokens": 1}):
        assert ask(engine, messages, **options).token_ids == ask(engine, messages, draft=False, **options).token_ids


def test_what_is_kept_of_a_drafted_answer_is_right(engine: Any, family: str) -> None:
    """The next turn goes on from KV that drafts wrote."""
    messages = prompt(family, seed=70)
    ask(engine, messages, draft=False)
    found = ask(engine, messages)
    turn = [*messages, Message("assistant", [found.text]), Message("user", ["And then?"])]
    warm = ask(engine, turn)
    engine.forget()
    with Engine.load(engine.path, cache=no_cache()) as cold:
        assert ask(cold, turn, draft=False).token_ids == warm.token_ids


@pytest.mark.parametrize("draft", [False, True])
def test_a_guide_that_fails_ends_its_request_only(
    checkpoint: Callable[..., Path], monkeypatch: Any, draft: bool
) -> None:
    """Also where the token it was told of is out already, as after a first step or a draft."""
    from omlx_jupyter.models.guide import Guide

    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as made:
        wanted = made.generate("Hello", sampling=sampling(made, 30)).token_ids

        def fails(*_: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(Guide, "follow", fails)
        options = SamplingParams(temperature=0, max_tokens=30, json_schema={"type": "object"})
        bound = made.submit("As JSON", sampling=options, draft=draft)
        other = made.submit("Hello", sampling=sampling(made, 30), draft=draft)
        with pytest.raises(RequestError, match="MemoryError"):
            bound.result(20)
        assert other.result(20).token_ids == wanted


def test_random_text_is_hardly_drafted(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as made:
        found = ask(made, prompt("qwen2_vl", 80), temperature=1.0, seed=5, tokens=200)
        plain = ask(made, prompt("qwen2_vl", 80), draft=False, temperature=1.0, seed=5, tokens=200)
    assert found.token_ids == plain.token_ids
    assert found.usage.drafted < 100


def test_an_answer_that_is_drafted_again_is_stored_once(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    settings, messages = CacheSettings(2**26, 2**28, tmp_path / "cache"), prompt("qwen2_vl", 95)
    with Engine.load(checkpoint("qwen2_vl"), cache=settings) as made:
        for tokens in (60, 300):
            ask(made, messages, draft=False, tokens=tokens)
        assert made._loop._runner.reuse.cache.writer.flush()
        entries, stored = made.stats().cache.ram_entries, made.stats().cache.ssd_bytes
        for tokens in (60, 300, 60):
            assert ask(made, messages, tokens=tokens).usage.accepted > 40
        assert made._loop._runner.reuse.cache.writer.flush()
        assert (made.stats().cache.ram_entries, made.stats().cache.ssd_bytes) == (entries, stored)


def test_a_new_kernel_drafts_from_disk(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    settings, messages = CacheSettings(2**26, 2**28, tmp_path / "cache"), prompt("qwen2_vl", 90)
    with Engine.load(checkpoint("qwen2_vl"), cache=settings) as made:
        plain = ask(made, messages, draft=False, tokens=120)
    with Engine.load(checkpoint("qwen2_vl"), cache=settings) as made:
        found = ask(made, messages, tokens=120)
    assert found.token_ids == plain.token_ids
    assert found.usage.cached_tokens_ssd
    assert found.usage.steps < 40


def test_an_edited_question_finds_the_old_answer(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=CacheSettings(2**26)) as made:
        messages = prompt("qwen2_vl", 91)
        ask(made, messages, draft=False, tokens=60)
        edited = [Message("user", [*messages[0].parts[:-1], messages[0].parts[-1] + " please"])]
        plain = ask(made, edited, draft=False, tokens=60)
        made.forget()
        ask(made, messages, draft=False, tokens=60)
        found = ask(made, edited, tokens=60)
        assert found.token_ids == plain.token_ids
        assert found.usage.cached_tokens


@pytest.mark.parametrize("family", ["gemma3_text", "qwen3_5"])
def test_families_whose_rows_cannot_forget_go_without(checkpoint: Callable[..., Path], family: str) -> None:
    with Engine.load(checkpoint(family), cache=CacheSettings(2**26)) as made:
        messages = prompt("qwen2", 5)
        first, again = (ask(made, messages) for _ in range(2))
        assert first.token_ids == again.token_ids
        assert again.usage.drafted == 0
        assert not made.capabilities.drafts
        assert made.capabilities.why["drafts"] == "a refused draft couldn't be forgotten"


def test_what_a_schema_refuses_of_a_draft_is_not_printed(checkpoint: Callable[..., Path], capfd: Any) -> None:
    """llguidance's own warning would stand in the notebook, under the cell."""
    schema = {"type": "array", "items": {"const": "repeat"}, "minItems": 3, "maxItems": 3}
    with Engine.load(checkpoint("qwen2"), cache=CacheSettings(2**26)) as made:
        asked = sampling(made, json_schema=schema, seed=3, temperature=1.0)
        plain = made.submit(prompt("qwen2"), sampling=asked, draft=False).result(60)
        spoilt = plain.text[: len(plain.text) // 2] + "???" + plain.text[len(plain.text) // 2 :]
        capfd.readouterr()
        found = made.submit(prompt("qwen2", 2), sampling=asked, hint=spoilt).result(60)
    assert found.usage.drafted
    assert "grammar" not in capfd.readouterr().err


def test_what_was_drafted_behind_the_end_is_not_counted(engine: Any, family: str) -> None:
    """A stop string inside a draft ends the answer; the usage counts the answer's tokens only."""
    schema = {"type": "object", "properties": {"alphabet": {"type": "integer"}}, "required": ["alphabet"]}
    drafted = 0
    for options in ({"json_schema": schema, "stop": ("lp",)}, {"stop": ("e",)}):
        for _ in range(2):
            engine._loop.runner.drafting.costs.slope = 0.1  # whatever a busy machine made it think of drafts
            found = ask(engine, prompt(family, 95), hint="eeeeeeeeeeee", tokens=60, **options)
            counted = found.usage
            assert counted.accepted <= min(counted.drafted, len(found.token_ids))
            assert sum(counted.accepted_from.values()) == counted.accepted
            drafted += counted.drafted
    assert drafted
