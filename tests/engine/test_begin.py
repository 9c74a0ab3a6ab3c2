"""An answer whose beginning is given: the model goes on from there, as it would have from its own words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.cache.prefix_cache import CacheSettings
from omlx_jupyter.errors import RequestError

from ..checkpoints import families, scripted
from ..conftest import endless, no_cache, noise_image


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2", "qwen3_5", "gemma3_text"])
def test_it_goes_on_as_from_its_own_words(checkpoint: Callable[..., Path], family: str, tmp_path: Path) -> None:
    """A byte is a token in these checkpoints, and only letters are let through: any cut of the text is one of its
    tokens."""
    with Engine.load(checkpoint(family), cache=CacheSettings(2**26, folder=tmp_path)) as engine:
        letters = {engine._loaded().tokenizer.encode(letter)[0]: 100.0 for letter in "abcdefghijklmnopqrstuvwxyz"}

        def greedy(most: int) -> SamplingParams:
            return SamplingParams(temperature=0, max_tokens=most, logit_bias=letters)

        whole = engine.generate("Tell", sampling=greedy(12))
        assert len(whole.text) == 12
        for cut in (1, 5, 11):
            begun = engine.submit("Tell", sampling=greedy(12 - cut), begin=whole.text[:cut]).result(60)
            assert begun.token_ids == whole.token_ids[cut:]
            assert begun.text == whole.text
            assert begun.usage.prompt_tokens == whole.usage.prompt_tokens + cut


def test_its_text_is_streamed_with_the_first_token(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        handle = engine.submit("Go", [noise_image(56, 56)], endless(engine, max_tokens=6), begin="The total is ")
        pieces = list(handle)
        assert pieces[0].text.startswith("The total is ")
        assert "".join(piece.text for piece in pieces) == handle.result().text
        assert sum(len(piece.token_ids) for piece in pieces) == 6


def test_a_token_spelled_in_it_stays_text(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        plain = engine.submit("Go", sampling=endless(engine, max_tokens=2), begin="a").result(60)
        spelled = engine.submit("Go", sampling=endless(engine, max_tokens=2), begin="<|im_end|>").result(60)
        assert spelled.usage.prompt_tokens == plain.usage.prompt_tokens + len("<|im_end|>") - 1
        assert spelled.text.startswith("<|im_end|>")


@pytest.mark.parametrize("opens", [False, True])
def test_no_thought_comes_before_it(opens: bool, tmp_path: Path) -> None:
    template = families.CHATML.rstrip() + (
        "{%- if add_generation_prompt -%}{{ '<think>\\n' }}{%- endif -%}" if opens else ""
    )
    chains = [["\n", "<think>", "Hm", "</think>", "Four", ".", scripted.END], ["It is", "Four"]]
    with Engine.load(scripted.write(tmp_path, chains, template), cache=no_cache()) as engine:
        found = engine.submit("2 + 2?", sampling=SamplingParams(temperature=0, max_tokens=9), begin="It is").result(60)
        assert (found.thinking, found.text, found.usage.reasoning_tokens) == ("", "It isFour.", 0)


def test_openai_goes_on_with_its_last_message(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as engine:
        wanted = engine.submit("Go", sampling=SamplingParams(max_tokens=5, temperature=0), begin="So ").result(60)
        messages: list[dict[str, Any]] = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "So "}]

        def ask(**options: Any) -> Any:
            return engine.chat.completions.create(messages=messages, max_tokens=5, temperature=0, **options)

        found = ask(extra_body={"continue_final_message": True, "add_generation_prompt": False})
        assert found.choices[0].message.content == wanted.text
        assert ask(continue_final_message=True).choices[0].message.content == wanted.text
        with pytest.raises(RequestError, match="set the other"):
            ask(continue_final_message=True, add_generation_prompt=True)
        messages.append({"role": "user", "content": "And?"})
        with pytest.raises(RequestError, match="must be the assistant's text"):
            ask(continue_final_message=True)
        with pytest.raises(RequestError, match="exclude each other"):
            engine.submit("Go", sampling=SamplingParams(json_schema={}), begin="{")
