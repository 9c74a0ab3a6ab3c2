"""Code written for the `openai` client runs on the engine."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import anyio
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from omlx_jupyter.errors import ImageError, RequestError

from ..conftest import draw_text


def data_url(text: str) -> str:
    buffer = io.BytesIO()
    draw_text(text).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_a_picture_by_data_url_path_and_file_url(tiny: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    draw_text("Hello 42").save(file)
    answers = set()
    for url in (data_url("Hello 42"), str(file), file.as_uri()):
        content = [picture(url), {"type": "text", "text": "Text Recognition:"}]
        made = tiny.chat.completions.create(model="any", messages=[{"role": "user", "content": content}], temperature=0)
        assert isinstance(made, ChatCompletion)
        assert made.model == "any"
        assert made.choices[0].finish_reason == "stop"
        answers.add(made.choices[0].message.content)
    assert answers == {tiny.generate("Text Recognition:", [file]).text}
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    assert made.usage.prompt_tokens_details.cached_tokens == made.usage.prompt_tokens - 1  # asked before


def test_streaming_gives_the_same_text(tiny: Any) -> None:
    messages = [{"role": "user", "content": [picture(data_url("Hello 42"))]}]
    whole = tiny.chat.completions.create(messages=messages).choices[0].message.content
    chunks = list(tiny.chat.completions.create(messages=messages, stream=True))
    assert all(isinstance(c, ChatCompletionChunk) for c in chunks)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 0
    assert len({c.id for c in chunks}) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_twin(tiny: Any, backend: str) -> None:
    messages = [{"role": "user", "content": [picture(data_url("Hello 42"))]}]

    async def main() -> tuple[str, str]:
        made = await tiny.async_chat.completions.create(messages=messages)
        streamed = ""
        async for chunk in await tiny.async_chat.completions.create(messages=messages, stream=True):
            streamed += chunk.choices[0].delta.content or ""
        return made.choices[0].message.content, streamed

    one, two = anyio.run(main, backend=backend)
    assert one == two == tiny.chat.completions.create(messages=messages).choices[0].message.content


def test_a_reader_that_leaves_early_cancels(tiny: Any) -> None:
    before = tiny.stats().cancelled + tiny.stats().finished
    stream = tiny.chat.completions.create(
        messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=500, logit_bias={65: 1e4}
    )
    next(stream)
    stream.close()
    assert _soon(lambda: tiny.stats().cancelled + tiny.stats().finished > before)


def _soon(check: Any) -> bool:
    import time

    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.01)
    return False


def test_pictures_keep_their_order_over_turns(tiny: Any) -> None:
    messages = [
        {"role": "system", "content": "Read."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "one"}, picture(data_url("one")), picture(data_url("two"))],
        },
        {"role": "assistant", "content": "one two"},
        {"role": "user", "content": [picture(data_url("three")), {"type": "text", "text": "<|image|> <image>"}]},
    ]
    made = tiny.chat.completions.create(messages=messages, max_completion_tokens=3)
    assert made.choices[0].finish_reason in ("stop", "length")
    assert made.usage.completion_tokens <= 3
    again = [made.choices[0].message, {"role": "user", "content": "more"}]
    assert tiny.chat.completions.create(messages=[*messages, *again], max_tokens=2).usage.prompt_tokens > 0


def test_streamed_logprobs_are_those_of_the_whole(tiny: Any) -> None:
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": [picture(data_url("ab é 12"))]}],
        "logprobs": True,
        "top_logprobs": 2,
        "max_tokens": 12,
        "n": 2,
        "temperature": 0.0,
    }
    whole = tiny.chat.completions.create(**asked)
    chunks = list(tiny.chat.completions.create(**asked, stream=True))
    for index, choice in enumerate(whole.choices):
        own = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        told = [entry for c in own if c.logprobs for entry in c.logprobs.content]
        wanted = choice.logprobs.content
        assert [e.token for e in told] == [e.token for e in wanted]
        # The last digits depend on how many rows shared a step
        assert [e.logprob for e in told] == pytest.approx([e.logprob for e in wanted], abs=1e-4)
        assert [[t.token for t in e.top_logprobs] for e in told] == [[t.token for t in e.top_logprobs] for e in wanted]
        text = [c.delta.content for c in own if c.delta.content]
        assert sum(1 for c in own if c.logprobs) >= len(text)  # as it comes, not at the end
    plain = tiny.chat.completions.create(**{**asked, "logprobs": False, "top_logprobs": None, "n": 1}, stream=True)
    assert all(c.choices[0].logprobs is None for c in plain if c.choices)


def test_logprobs(tiny: Any) -> None:
    made = tiny.chat.completions.create(
        messages=[{"role": "user", "content": [picture(data_url("ab"))]}], logprobs=True, top_logprobs=2, max_tokens=3
    )
    content = made.choices[0].logprobs.content
    assert len(content) == made.usage.completion_tokens
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in content)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"messages": []}, "empty"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role 'robot'"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        ({"messages": ["hi"]}, "give a dict"),
        ({"max_tokenz": 3}, "unknown option 'max_tokenz'"),
        ({"n": 0}, "n is 0; it must be a whole number between 1 and 128"),
        ({"temperature": -1}, "temperature"),
        ({"response_format": {"type": "xml"}}, "response_format is text"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}}, "schema"),
        ({"tools": [{"name": "x"}]}, "a tool is a function"),
    ],
)
def test_what_cannot_be_served_is_an_error(tiny: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        tiny.chat.completions.create(**{"messages": [{"role": "user", "content": "hi"}], **options})


def test_a_picture_that_fails(tiny: Any) -> None:
    with pytest.raises(ImageError, match="no file"):
        tiny.chat.completions.create(messages=[{"role": "user", "content": [picture("/no/such.png")]}])
