"""OpenAI's Responses shape over the engine, with the `openai` package's own types checking each event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from omlx_jupyter import Engine
from omlx_jupyter.errors import RequestError

from ..checkpoints import families, scripted
from ..conftest import no_cache, noise_image

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CHAINS = [
    ["\n", "<think>", "Hm", "</think>", "\n\n", "Four", ".", scripted.END],
    ["!", "<tool_call>", '{"name": "f", "arguments": {"a"', ": 1", "}}", "</tool_call>", scripted.END],
]
TEMPLATE = families.CHATML.rstrip() + "{%- if tools -%}!{%- endif -%}{# <tool_call> tool_call.name #}"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = scripted.write(tmp_path_factory.mktemp("responses"), CHAINS, TEMPLATE)
    with Engine.load(folder, cache=no_cache()) as made:
        yield made


def test_text_thought_and_usage(engine: Any) -> None:
    found = engine.responses.create(input="2 + 2?", instructions="Be brief.", max_output_tokens=30, temperature=0)
    assert [item.type for item in found.output] == ["reasoning", "message"]
    assert found.output[0].content[0].text == "Hm"
    assert found.output_text == "Four."
    assert (found.status, found.instructions) == ("completed", "Be brief.")
    chat = engine.chat.completions.create(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}],
        max_completion_tokens=30, temperature=0,
    )  # fmt: skip
    assert found.usage.input_tokens == chat.usage.prompt_tokens
    assert found.usage.output_tokens == chat.usage.completion_tokens
    assert (
        found.usage.output_tokens_details.reasoning_tokens == chat.usage.completion_tokens_details.reasoning_tokens > 0
    )


def test_an_answer_that_was_cut_is_incomplete(engine: Any) -> None:
    found = engine.responses.create(input="2 + 2?", max_output_tokens=5, temperature=0)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_calls_and_what_came_of_them_go_back_and_forth(engine: Any) -> None:
    found = engine.responses.create(input="Call it.", tools=[TOOL], temperature=0, max_output_tokens=30)
    (call,) = found.output
    assert (call.type, call.name, call.arguments) == ("function_call", "f", '{"a": 1}')
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "Call it."},
                                     {"type": "input_image", "image_url": noise_image(40, 40)}]},
        *found.output,
        {"type": "function_call_output", "call_id": call.call_id, "output": "3"},
    ]  # fmt: skip
    again = engine.responses.create(input=said, temperature=0, max_output_tokens=30)
    assert again.output_text == "Four."
    whole = [
        {"role": "user", "content": [{"type": "text", "text": "Call it."},
                                     {"type": "image_url", "image_url": noise_image(40, 40)}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": call.call_id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
        {"role": "tool", "tool_call_id": call.call_id, "content": "3"},
    ]  # fmt: skip
    chat = engine.chat.completions.create(messages=whole, temperature=0, max_tokens=30)
    assert again.usage.input_tokens == chat.usage.prompt_tokens


@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_events_build_the_response(engine: Any, tools: Any) -> None:
    events = list(
        engine.responses.create(input="2 + 2?", tools=tools, stream=True, temperature=0, max_output_tokens=30)
    )
    whole = engine.responses.create(input="2 + 2?", tools=tools, temperature=0, max_output_tokens=30)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    assert text == whole.output_text
    assert arguments == (whole.output[0].arguments if tools else "")
    ended = [event.item for event in events if event.type == "response.output_item.done"]
    final = events[-1].response
    assert [item.model_dump(exclude={"id", "call_id"}) for item in ended] == [
        item.model_dump(exclude={"id", "call_id"}) for item in final.output
    ]
    assert [item.type for item in final.output] == [item.type for item in whole.output]
    assert final.usage == whole.usage
    assert len([event for event in events if event.type.endswith(".delta")]) > 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_awaited(engine: Any, backend: str) -> None:
    async def ask() -> tuple[str, str]:
        whole = await engine.async_responses.create(input="2 + 2?", temperature=0, max_output_tokens=30)
        stream = await engine.async_responses.create(input="2 + 2?", temperature=0, max_output_tokens=30, stream=True)
        return whole.output_text, "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])

    assert anyio.run(ask, backend=backend) == ("Four.", "Four.")


def test_json_by_schema(engine: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    found = engine.responses.create(
        input="x", text={"format": form}, max_output_tokens=200, extra_body={"enable_thinking": False}
    )
    assert '"n"' in found.output_text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"previous_response_id": "r"}, "don't take 'previous_response_id' here"),
        ({"background": True}, "truncation and background aren't supported"),
        ({"tools": [{"type": "web_search"}]}, "of type 'web_search'; only functions"),
        ({"input": [{"type": "computer_call"}]}, "item 0 of the input is of type 'computer_call'"),
        ({"input": 3}, "input is a int; give text"),
    ],
)
def test_what_does_not_map_is_refused_by_name(engine: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        engine.responses.create(**{"input": "x", **options})
