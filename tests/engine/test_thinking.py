"""Models that think first, through the real engine: checkpoints whose weights say what the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, ImagePart, Message, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.errors import RequestError

from ..checkpoints import families, scripted
from ..conftest import no_cache, noise_image

THOUGHT = ["Two", " and", " two", ", so", " I", " count"]
SWITCHED = (
    families.CHATML.rstrip()
    + "{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking -%}"
    + "<think></think><skip>{%- endif -%}"
)
OPENING = families.CHATML.rstrip() + "{%- if add_generation_prompt -%}{{ '<think>\\n' }}{%- endif -%}"
CHAINS = [
    ["\n", "<think>", *THOUGHT, "</think>", "\n\n", "Four", ".", scripted.END],
    ["<skip>", "Four"],
]
GREEDY = SamplingParams(temperature=0, max_tokens=40)


def loaded(folder: Path, **settings: Any) -> Any:
    return Engine.load(folder, cache=settings.pop("cache", no_cache()), **settings)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted.write(tmp_path_factory.mktemp("thinker"), CHAINS, SWITCHED)


@pytest.fixture(scope="module")
def engine(thinker: Path) -> Iterator[Any]:
    with loaded(thinker) as made:
        yield made


def test_a_thought_is_no_answer(engine: Any) -> None:
    found = engine.generate("What is 2 + 2?", sampling=GREEDY)
    assert (found.thinking, found.text, found.finish_reason) == ("".join(THOUGHT), "Four.", "stop")
    assert found.usage.reasoning_tokens == len(THOUGHT) + 2
    assert found.usage.completion_tokens == len(THOUGHT) + 6


def test_it_streams_as_its_own_kind(engine: Any) -> None:
    pieces = list(engine.submit("What is 2 + 2?", sampling=GREEDY))
    assert "".join(p.thinking for p in pieces) == "".join(THOUGHT)
    assert "".join(p.text for p in pieces) == "Four."
    assert not any(p.thinking and p.text for p in pieces)
    first = next(i for i, p in enumerate(pieces) if p.text)
    assert not any(p.thinking for p in pieces[first:])


def test_stops_look_at_the_answer_only(engine: Any) -> None:
    found = engine.generate("What?", sampling=SamplingParams(temperature=0, max_tokens=40, stop=("two", "ur")))
    assert (found.thinking, found.text) == ("".join(THOUGHT), "Fo")


def test_the_template_switches_it_off(engine: Any) -> None:
    off = SamplingParams(temperature=0, max_tokens=40, think=False)
    found = engine.generate("What?", sampling=off)
    assert (found.thinking, found.text, found.usage.reasoning_tokens) == ("", "Four.", 0)
    on = SamplingParams(temperature=0, max_tokens=40, think=True)
    assert engine.generate("What?", sampling=on).thinking == "".join(THOUGHT)


def test_words_for_the_template(engine: Any) -> None:
    found = engine.submit("What?", sampling=GREEDY, chat_template_kwargs={"enable_thinking": False}).result(30)
    assert found.thinking == ""
    with pytest.raises(RequestError, match="reads no 'reasoning_effort'; its own words are: enable_thinking"):
        engine.submit("What?", sampling=GREEDY, chat_template_kwargs={"reasoning_effort": "high"}).result(30)
    with pytest.raises(RequestError, match="can't set 'messages'"):
        engine.submit("What?", sampling=GREEDY, chat_template_kwargs={"messages": []}).result(30)


@pytest.mark.parametrize("budget", [0, 1, 3, 5])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_budget_ends_the_thought(tmp_path_factory: pytest.TempPathFactory, budget: int, rows: int) -> None:
    """The closing tokens are fed; the model goes on behind them as after a thought of its own."""
    chains = [["\n", "<think>", *THOUGHT, "Two"], ["</think>", "Four", ".", scripted.END]]
    folder = scripted.write(tmp_path_factory.mktemp("endless"), [*chains], families.CHATML)
    with loaded(folder) as endless:
        limited = SamplingParams(temperature=0, max_tokens=60, think_budget=budget)
        handles = [endless.submit(f"What is {i}?", sampling=limited) for i in range(rows)]
        other = endless.submit("And?", sampling=SamplingParams(temperature=0, max_tokens=60))
        for handle in handles:
            found = handle.result(30)
            assert found.text.lstrip().startswith("<think>") is False
            assert found.thinking == "".join(THOUGHT[: max(0, budget - 1)])
            assert found.text == "Four." or found.finish_reason == "length"
        cut = other.result(30)
        assert (cut.text, cut.finish_reason) == ("", "length")
        assert cut.detail == "max_tokens (60) reached; the answer ended inside its thought"
        assert cut.usage.reasoning_tokens == 60


def test_a_budget_of_its_own_length_changes_nothing(engine: Any) -> None:
    plain = engine.generate("What?", sampling=GREEDY)
    for budget in (len(THOUGHT) + 2, 1000):
        sampling = SamplingParams(temperature=0, max_tokens=40, think_budget=budget)
        assert engine.generate("What?", sampling=sampling).token_ids == plain.token_ids


def test_json_begins_after_the_thought(tmp_path: Path) -> None:
    chains = [["\n", "<think>", *THOUGHT, "</think>", "\n\n", "{", '"a"', ":", "4", "}", scripted.END]]
    folder = scripted.write(tmp_path / "json", chains)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    with loaded(folder) as made:
        found = made.generate("?", sampling=SamplingParams(temperature=0, max_tokens=60, json_schema=schema))
        assert found.thinking == "".join(THOUGHT)
        assert found.text.replace(" ", "") == '{"a":4}'
        quick = SamplingParams(temperature=0, max_tokens=60, json_schema=schema, think=False)
        assert made.generate("?", sampling=quick).text.replace(" ", "").startswith('{"a":')


def test_a_prompt_that_opens_the_thought(tmp_path: Path) -> None:
    folder = scripted.write(tmp_path / "opened", [["\n", *CHAINS[0][2:]]], OPENING)
    with loaded(folder) as made:
        found = made.generate("?", sampling=GREEDY)
        assert (found.thinking, found.text) == ("".join(THOUGHT), "Four.")
        off = made.generate("?", sampling=SamplingParams(temperature=0, max_tokens=3, think=False))
        assert (off.thinking, off.usage.reasoning_tokens) == ("", 0)  # no switch: an empty thought is written


def test_special_tokens_mark_it(tmp_path: Path) -> None:
    chains = [["\n", "<|channel>", "thought\n", *THOUGHT, "<channel|>", "Four", ".", scripted.END]]
    folder = scripted.write(tmp_path / "channels", chains, specials=("<|channel>", "<channel|>"))
    with loaded(folder) as made:
        found = made.generate("?", sampling=GREEDY)
        assert (found.thinking, found.text) == ("".join(THOUGHT), "Four.")


def test_channels_of_gpt_oss(tmp_path: Path) -> None:
    specials = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")
    final = ["<|start|>", "assistant", "<|channel|>final<|message|>", "Four", ".", scripted.END]
    chains = [["\n", "<|channel|>", "analysis", "<|message|>", *THOUGHT, "<|end|>", *final]]
    folder = scripted.write(tmp_path / "gpt", chains, specials=specials)
    with loaded(folder) as made:
        found = made.generate("?", sampling=GREEDY)
        assert (found.thinking, found.text) == ("".join(THOUGHT), "Four.")
        for most in range(10, 13):  # cut inside the header
            cut = made.generate("?", sampling=SamplingParams(temperature=0, max_tokens=most))
            assert (cut.thinking, cut.text) == ("".join(THOUGHT), "")


def test_a_model_that_marks_none() -> None:
    with Engine.load(cache=no_cache()) as made:
        with pytest.raises(RequestError, match="marks no thoughts; leave think_budget out"):
            made.generate("?", sampling=SamplingParams(think_budget=4))
        with pytest.raises(RequestError, match="doesn't think before it answers; leave think out"):
            made.generate("?", sampling=SamplingParams(think=True))
        assert made.generate("?", sampling=SamplingParams(think=False, max_tokens=2, temperature=0)).thinking == ""


def test_tokens_are_the_same_warm_and_beside_others(thinker: Path, tmp_path: Path) -> None:
    """Cold, from RAM and from disk, alone and in a batch; the next turn doesn't hold the thought."""
    picture = ImagePart(noise_image(60, 60, 1))
    sampling = SamplingParams(temperature=0.7, seed=4, max_tokens=40, think_budget=4, presence_penalty=0.5, logprobs=0)
    messages = [Message("user", [picture, "What is 2 + 2? " * 30])]

    def asked(made: Any, beside: int = 0) -> Any:
        others = [made.submit(f"{i}", sampling=GREEDY) for i in range(beside)]
        found = made.submit(messages, sampling=sampling).result(60)
        assert [o.result(30).text for o in others] == ["Four."] * beside
        return found

    settings = CacheSettings(2**26, 2**28, tmp_path / "cache")
    with loaded(thinker, cache=settings) as made:
        cold = asked(made)
        warm = asked(made, beside=3)
        assert warm.usage.cached_tokens_ram
    with loaded(thinker, cache=settings) as made:
        stored = asked(made)
        assert stored.usage.cached_tokens_ssd
        turn = [*messages, Message("assistant", [cold.text]), Message("user", ["Sure?"])]
        again = made.generate(turn, sampling=GREEDY)
        assert 0 < again.usage.cached_tokens < again.usage.prompt_tokens
    for other in (warm, stored):
        assert other.token_ids == cold.token_ids
        assert (other.thinking, other.text) == (cold.thinking, cold.text)
        assert [p.logprob for p in other.logprobs] == pytest.approx([p.logprob for p in cold.logprobs], abs=1e-4)


def test_a_thought_that_was_ended_is_not_begun_again(tmp_path: Path) -> None:
    """A model that thinks whenever it may: the budget is for all of it."""
    chains = [["\n", "<think>", "Hm", " again", "Hm"], ["</think>", "\n\n", "<think>"]]
    with loaded(scripted.write(tmp_path, chains)) as engine:
        for draft in (True, False):
            for budget in (0, 4):
                sampling = SamplingParams(temperature=0, max_tokens=40, think_budget=budget)
                found = engine.submit("Go", sampling=sampling, draft=draft).result(60)
                assert found.usage.reasoning_tokens <= budget + 4
                assert found.token_ids.count(engine._loaded().tokenizer.token_id("<think>")) == 1
