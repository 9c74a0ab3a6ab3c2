"""Tool calls in the formats of three families, and what goes wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from omlx_jupyter.chat.messages import from_openai, tool_schemas
from omlx_jupyter.chat.tool_stream import ToolStream
from omlx_jupyter.errors import RequestError
from omlx_jupyter.models.tokenizer import ChatTokenizer, TextStream
from omlx_jupyter.models.tools import ToolParser
from omlx_jupyter.types import Delta

from ..checkpoints.common import byte_tokenizer

QWEN = "{% if tools %}<tool_call>{{ tool_call.name }}{% endif %}"
MISTRAL = "[TOOL_CALLS]"
GLM = "<tool_call><arg_key>"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"city": {"type": "string"}}}}}]


def parser(template: str) -> tuple[ToolParser, ChatTokenizer]:
    inner = byte_tokenizer(["<|end|>", "[TOOL_CALLS]", "[ARGS]"], 300)
    inner.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("</tool_call>", special=False)])
    tokenizer = ChatTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", chat_template=template), None
    )
    return ToolParser(tokenizer), tokenizer


def parse(template: str, answer: str) -> Any:
    made, tokenizer = parser(template)
    end = tokenizer.token_id("<|end|>")
    assert end is not None
    ids = [*tokenizer.encode(answer), end]
    return made.parse(ids, frozenset({end}), tokenizer.decode(ids), TOOLS)


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (QWEN, 'I look.<tool_call>\n{"name": "f", "arguments": {"city": "Köln"}}\n</tool_call>'),
        (MISTRAL, 'I look.[TOOL_CALLS]f[ARGS]{"city": "Köln"}'),
        (MISTRAL, 'I look.[TOOL_CALLS][{"name": "f", "arguments": {"city": "Köln"}}]'),
        (GLM, "I look.<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n</tool_call>"),
    ],
)
def test_one_call(template: str, answer: str) -> None:
    found = parse(template, answer)
    assert found.note == ""
    (call,) = found.calls
    assert call.name == "f"
    assert json.loads(call.arguments) == {"city": "Köln"}
    assert found.text == "I look."


def test_two_calls() -> None:
    one = '<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call>'
    found = parse(QWEN, one + "\n" + one.replace("1", "2"))
    assert [json.loads(c.arguments) for c in found.calls] == [{"n": 1}, {"n": 2}]
    assert found.text == ""


@pytest.mark.parametrize(
    "answer",
    [
        '<tool_call>{"name": "f", "arg',
        "<tool_call>not json</tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": 3}</tool_call>',
        "<tool_call>",
    ],
)
def test_a_malformed_call_is_text_with_a_note(answer: str) -> None:
    found = parse(QWEN, answer)
    assert found.calls == ()
    assert found.note
    assert found.text == answer


def test_no_call() -> None:
    found = parse(QWEN, "just words")
    assert (found.text, found.calls, found.note) == ("just words", (), "")


def test_python_functions_become_schemas() -> None:
    def weather(city: str, days: int = 1) -> str:
        """Look the weather up."""
        return city

    (schema,) = tool_schemas([weather])
    assert schema["function"]["name"] == "weather"
    assert schema["function"]["description"] == "Look the weather up."
    assert schema["function"]["parameters"]["properties"] == {"city": {"type": "string"}, "days": {"type": "integer"}}
    assert schema["function"]["parameters"]["required"] == ["city"]


def test_tool_messages_go_back_with_their_pictures() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    made = from_openai(
        [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x.png"}}],
            },
        ]
    )
    assert made[0].extra["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert [type(p).__name__ for p in made[1].parts] == ["str", "ImagePart"]
    assert made[1].extra["tool_call_id"] == "c1"
    with pytest.raises(RequestError, match="no JSON"):
        from_openai([{"role": "assistant", "tool_calls": [{**call, "function": {"name": "f", "arguments": "{"}}]}])


def stream(template: str, answer: str) -> tuple[str, list[Any], int]:
    """(text given out, calls given out, tokens that were still to come at the first call), a token at a time."""
    made, tokenizer = parser(template)
    pieces, ids = TextStream(tokenizer), tokenizer.encode(answer)
    told, calls, left = ToolStream(made, TOOLS), [], -1
    for index, token in enumerate(ids):
        _, fresh = told.feed(Delta(pieces.add(token), (token,)))
        if fresh and not calls:
            left = len(ids) - index - 1
        calls += fresh
    return told.text, calls, left


@pytest.mark.parametrize(
    ("template", "answer", "count"),
    [
        (QWEN, 'I look.<tool_call>{"name": "f", "arguments": {"city": "Köln"}}</tool_call>', 1),
        (QWEN, 'Both.<tool_call>{"name": "f", "arguments": {}}</tool_call>' * 2, 2),
        (MISTRAL, 'I look.[TOOL_CALLS]f[ARGS]{"city": "Köln"}', 0),  # without an end mark, the last comes at the end
        (MISTRAL, "Both." + '[TOOL_CALLS]f[ARGS]{"a": 1}' * 2, 1),
        (GLM, "I look.<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n</tool_call> ...", 1),
    ],
)
def test_a_call_is_streamed_when_it_is_complete(template: str, answer: str, count: int) -> None:
    text, calls, left = stream(template, answer)
    whole = parse(template, answer)
    assert text == ("Both." if answer.startswith("Both") else "I look.")
    assert [(c.name, c.arguments) for c in calls] == [(c.name, c.arguments) for c in whole.calls[:count]]
    if count == 2 or answer.endswith("..."):
        assert left > 0


def test_no_marker_of_a_call_is_ever_in_streamed_text() -> None:
    text, calls, _ = stream(QWEN, "a < b, a <tool, and <tool_calx")
    assert "a < b, a <tool, and <tool_cal".startswith(text[:29])
    assert not calls


def test_a_malformed_call_is_not_streamed() -> None:
    assert stream(QWEN, "Hm.<tool_call>not json</tool_call>")[:2] == ("Hm.", [])


def test_a_tool_without_a_name_is_refused() -> None:
    with pytest.raises(RequestError, match="needs a name"):
        tool_schemas([lambda x: x])
