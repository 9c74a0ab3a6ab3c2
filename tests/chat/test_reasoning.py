"""OpenAI's shapes of a model that thinks: `reasoning_content`, its tokens, and the words of its template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from omlx_jupyter import Engine
from omlx_jupyter.errors import RequestError

from ..checkpoints import scripted
from ..conftest import no_cache
from ..engine.test_thinking import CHAINS, SWITCHED, THOUGHT

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with Engine.load(scripted.write(tmp_path_factory.mktemp("thinker"), CHAINS, SWITCHED), cache=no_cache()) as made:
        yield made


def test_a_completion(engine: Any) -> None:
    found = engine.chat.completions.create(messages=ASKED, temperature=0, max_tokens=40)
    message = found.choices[0].message
    assert (message.reasoning_content, message.content) == ("".join(THOUGHT), "Four.")
    assert found.usage.completion_tokens_details.reasoning_tokens == len(THOUGHT) + 2


def test_a_stream(engine: Any) -> None:
    chunks = list(engine.chat.completions.create(messages=ASKED, temperature=0, max_tokens=40, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "".join(THOUGHT)
    assert "".join(d.content or "" for d in deltas) == "Four."
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == len(THOUGHT) + 2


@pytest.mark.parametrize(
    "options",
    [
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"extra_body": {"enable_thinking": False}},
    ],
)
def test_the_switch_in_all_its_spellings(engine: Any, options: dict[str, Any]) -> None:
    async def ask() -> Any:
        return await engine.async_chat.completions.create(messages=ASKED, temperature=0, max_tokens=40, **options)

    found = anyio.run(ask)
    assert found.choices[0].message.content == "Four."
    assert getattr(found.choices[0].message, "reasoning_content", None) is None


def test_a_budget(engine: Any) -> None:
    found = engine.chat.completions.create(messages=ASKED, temperature=0, max_tokens=40, extra_body={"think_budget": 3})
    assert found.choices[0].message.reasoning_content == "".join(THOUGHT[:2])


def test_words_that_nothing_reads_are_refused(engine: Any) -> None:
    with pytest.raises(RequestError, match="reads no 'reasoning_effort'"):
        engine.chat.completions.create(messages=ASKED, reasoning_effort="high")
    with pytest.raises(RequestError, match="give a dict"):
        engine.chat.completions.create(messages=ASKED, extra_body={"chat_template_kwargs": "no"})
