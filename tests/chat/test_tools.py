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
    assert schema["function"]["parameters"]["properties"] == {
        "city": {"type": "string"},
        "days": {"type": "integer", "default": 1},
    }
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


def stream(template: str, answer: str) -> tuple[str, list[tuple[str, str]], list[int]]:
    """(text given out, each call's name and arguments, tokens that were still to come at each piece), by tokens."""
    made, tokenizer = parser(template)
    pieces, ids = TextStream(tokenizer), tokenizer.encode(answer)
    told, calls, left = ToolStream(made, TOOLS), list[tuple[str, str]](), list[int]()

    def take(fresh: Any, to_come: int) -> None:
        for piece in fresh:
            assert (piece.index == len(calls)) == bool(piece.name)
            if piece.name:
                calls.append((piece.name, ""))
            calls[piece.index] = (calls[piece.index][0], calls[piece.index][1] + piece.arguments)
            left.append(to_come)

    for index, token in enumerate(ids):
        take(told.feed(Delta(pieces.add(token), (token,)))[1], len(ids) - index - 1)
    whole = made.parse(ids, frozenset(), tokenizer.decode(ids), TOOLS)
    take(told.finish(whole.calls), 0)
    return told.text, calls, left


LONG = '{"city": "Köln", "why": "' + "because " * 20 + '"}'
ANSWERS = {
    "hermes": (QWEN, f'I look.<tool_call>\n{{"name": "f", "arguments": {LONG}}}\n</tool_call>'),
    "mistral": (MISTRAL, f"I look.[TOOL_CALLS]f[ARGS]{LONG}"),
    "kimi": (
        "<|tool_calls_section_begin|>",
        "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        f"{LONG}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    "deepseek": (
        "<｜tool▁calls▁begin｜>",
        "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>"
        f"{LONG}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "deepseek-v3": (
        "<｜tool▁calls▁begin｜>",
        "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
        f"{LONG}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "harmony": (
        "<|channel|>commentary <|call|>",
        f"I look.<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{LONG}<|call|>",
    ),
    "qwen3-coder": (
        "<tool_call>\n<function=",
        "I look.<tool_call>\n<function=f>\n<parameter=city>\nKöln\n</parameter>\n<parameter=why>\n"
        + "because " * 20 + "\n</parameter>\n</function>\n</tool_call>",
    ),
    "glm": (
        GLM,
        "I look.<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>why</arg_key>\n"
        "<arg_value>" + "because " * 20 + "</arg_value>\n</tool_call>",
    ),
    "llama3": ("<|python_tag|>", f'<|python_tag|>{{"name": "f", "parameters": {LONG}}}'),
    "llama3-bare": ("<|python_tag|>", f'{{"type": "function", "name": "f", "parameters": {LONG}}}'),
    "gemma4": (
        "<|tool_call> <tool_call|>",
        'I look.<|tool_call>call:f{city:<|"|>Köln<|"|>,why:<|"|>' + "because " * 20 + '<|"|>}<tool_call|>',
    ),
    "python list": ("[func_name1(params_name1=", f'[f(city="Köln", why="{"because " * 20}")]'),
}  # fmt: skip
LATE = ("gemma4", "python list")  # formats whose arguments can't be told before their end


@pytest.mark.parametrize("name", ANSWERS)
def test_a_call_is_streamed_as_it_comes(name: str) -> None:
    template, answer = ANSWERS[name]
    text, calls, left = stream(template, answer)
    (whole,) = parse(template, answer).calls
    assert text == ("I look." if answer.startswith("I") else "")
    ((called, arguments),) = calls
    assert called == whole.name == "f"
    assert json.loads(arguments) == json.loads(whole.arguments)
    assert json.loads(arguments)["why"].strip() == ("because " * 20).strip()
    assert (len(left) > 1 and left[0] > 20) or name in LATE


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_cut_anywhere_gives_out_what_is_so(name: str) -> None:
    """No piece has to be taken back, and nothing but the answer's own text is shown."""
    template, answer = ANSWERS[name]
    final = stream(template, answer)[1][0][1]
    for end in range(0, len(answer), 3):
        text, calls, _ = stream(template, answer[:end])
        assert "I look.".startswith(text), text
        assert all(name == "f" and final.startswith(arguments) for name, arguments in calls), calls


@pytest.mark.parametrize(
    ("template", "first"),
    [
        (QWEN, 'Both.<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call>'),
        (MISTRAL, 'Both.[TOOL_CALLS]f[ARGS]{"n": 1}'),
    ],
)
def test_two_calls_are_streamed_in_order(template: str, first: str) -> None:
    text, calls, _ = stream(template, first + first.removeprefix("Both.").replace("1", "2"))
    assert text == "Both."
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [("f", {"n": 1}), ("f", {"n": 2})]


@pytest.mark.parametrize("answer", ['{"total": 3}', "{not json", '{"name": "no tool", "parameters": {}}', "[1, 2]"])
def test_an_answer_that_only_begins_as_a_call_is_an_answer(answer: str) -> None:
    for template in ("<|python_tag|>", "[func_name1(params_name1="):
        found = parse(template, answer)
        assert (found.text, found.calls, found.note) == (answer, (), "")


def test_whole_calls_are_kept_beside_a_malformed_one() -> None:
    found = parse(QWEN, 'Hm.<tool_call>{"name": "f", "arguments": {}}</tool_call><tool_call>{"name": </tool_call>')
    assert [call.name for call in found.calls] == ["f"]
    assert "can't be parsed" in found.note
    assert found.text == 'Hm.<tool_call>{"name": '


def test_no_marker_of_a_call_is_ever_in_streamed_text() -> None:
    text, calls, _ = stream(QWEN, "a < b, a <tool, and <tool_calx")
    assert "a < b, a <tool, and <tool_cal".startswith(text[:29])
    assert not calls


def test_a_malformed_call_is_not_streamed() -> None:
    assert stream(QWEN, "Hm.<tool_call>not json</tool_call>")[:2] == ("Hm.", [])


def test_a_tool_without_a_name_is_refused() -> None:
    with pytest.raises(RequestError, match="needs a name"):
        tool_schemas([lambda x: x])
