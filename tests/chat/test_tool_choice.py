"""A tool that has to be called is called: by grammar, in each format that mlx-lm's parsers read, by a random model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine
from omlx_jupyter.errors import RequestError

from ..checkpoints import families, scripted
from ..conftest import no_cache

ASKED = [{"role": "user", "content": "What is the weather?"}]
# What mlx-lm tells a format by, in a template
FORMATS = {
    "json_tools": "{# <tool_call> tool_call.name #}",
    "mistral": "{# [TOOL_CALLS] #}",
    "qwen3_coder": "{# <tool_call>\n<function= #}",
    "glm47": "{# <arg_key> #}",
    "longcat": "{# <longcat_tool_call> #}",
    "pythonic": "{# <|tool_call_start|> #}",
    "pythonic_list": "{# [func_name1(params_name1=params_value1)] #}",
    "llama3_json": "{# <|python_tag|> #}",
    "kimi_k2": "{# <|tool_calls_section_begin|> #}",
    "minimax_m2": "{# <minimax:tool_call> #}",
    "minicpm5": '{# <function name="f"><param name="p"> #}',
    "gemma4": "{# <|tool_call> <tool_call|> #}",
    "function_gemma": "{# <start_function_call> #}",
    "deepseek": "{# <｜tool▁calls▁begin｜> #}",
    "deepseek-fenced": "{# <｜tool▁calls▁begin｜> ```json #}",
    "harmony": "{# <|channel|>commentary <|call|> #}",
}
MARKERS = {
    "json_tools": ["<tool_call>", "</tool_call>"],
    "mistral": ["[TOOL_CALLS]", "[ARGS]"],
    "qwen3_coder": ["<tool_call>", "</tool_call>"],
    "glm47": ["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    "longcat": ["<longcat_tool_call>", "</longcat_tool_call>", "<longcat_arg_key>", "</longcat_arg_key>"],
    "pythonic": ["<|tool_call_start|>", "<|tool_call_end|>"],
    "kimi_k2": ["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>",
                "<|tool_call_end|>", "<|tool_call_argument_begin|>"],
    "minimax_m2": ["<minimax:tool_call>", "</minimax:tool_call>"],
    "gemma4": ["<|tool_call>", "<tool_call|>", '<|"|>'],
    "function_gemma": ["<start_function_call>", "<end_function_call>", "<escape>"],
    "deepseek": ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
                 "<｜tool▁sep｜>"],
    "harmony": ["<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|start|>"],
}  # fmt: skip
KINDS = [(style, "text") for style in FORMATS]
KINDS += [(style, kind) for style in MARKERS for kind in ("special", "added")]  # tokens that decoding shows, or not


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


SMALL = {"type": "integer", "minimum": 0, "maximum": 99}
TOOLS = [tool("weather", place={"type": "string", "enum": ["Oslo", "Rome"]}, days=SMALL), tool("clock", hours=SMALL)]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def engine(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    style, kind = request.param
    folder = tmp_path_factory.mktemp(f"{style}-{kind}")
    template = FORMATS[style] + families.CHATML
    if kind != "text":
        shown = MARKERS[style] if kind == "added" else []
        hidden = [] if kind == "added" else MARKERS[style]
        scripted.write(folder, [["\n", *shown, scripted.END]], template, specials=hidden)
        source = families.make("qwen2_vl", tmp_path_factory.mktemp("weights"), 3)
        (folder / "model.safetensors").write_bytes(next(source.glob("*.safetensors")).read_bytes())
    else:
        families.qwen2_vl(folder, 3)
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with Engine.load(folder, cache=no_cache()) as made:
        assert made.tool_parser.style == style.removesuffix("-fenced")
        yield made


def called(engine: Any, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    found = engine.chat.completions.create(messages=ASKED, tools=TOOLS, temperature=1.0, max_tokens=2000, **options)
    assert found.choices[0].finish_reason == "tool_calls", found.choices[0].message.content
    return [(c.function.name, json.loads(c.function.arguments)) for c in found.choices[0].message.tool_calls]


def fits(name: str, arguments: dict[str, Any]) -> bool:
    if name == "weather":
        return arguments["place"] in ("Oslo", "Rome") and arguments["days"] in range(100) and len(arguments) == 2
    return name == "clock" and set(arguments) == {"hours"} and arguments["hours"] in range(100)


@pytest.mark.parametrize("seed", [1, 2])
def test_required(engine: Any, seed: int) -> None:
    found = engine.chat.completions.create(
        messages=ASKED, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, temperature=1.0, seed=seed,
        max_tokens=2000,
    )  # fmt: skip
    (call,) = found.choices[0].message.tool_calls
    assert fits(call.function.name, json.loads(call.function.arguments))
    assert found.choices[0].finish_reason == "tool_calls"
    assert not found.choices[0].message.content


def test_by_name(engine: Any) -> None:
    for name in ("clock", "weather"):
        choice = {"type": "function", "function": {"name": name}}
        ((said, arguments),) = called(engine, tool_choice=choice, seed=5)
        assert said == name
        assert fits(said, arguments)


def test_a_stream_of_a_required_call(engine: Any) -> None:
    choice = {"type": "function", "function": {"name": "clock"}}
    chunks = list(
        engine.chat.completions.create(
            messages=ASKED, tools=TOOLS, tool_choice=choice, temperature=1.0, seed=3, max_tokens=2000, stream=True
        )
    )
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [(piece.index, piece.function.name) for piece in pieces if piece.function.name] == [(0, "clock")]
    assert pieces[0].id
    assert fits("clock", json.loads("".join(piece.function.arguments for piece in pieces)))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ""
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_what_cannot_be_enforced_is_refused(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2_vl"), cache=no_cache()) as made:

        def ask(**options: Any) -> Any:
            return made.chat.completions.create(messages=ASKED, max_tokens=4, **options)

        with pytest.raises(RequestError, match="there are no tools"):
            ask(tool_choice="required")
        with pytest.raises(RequestError, match="names 'fly', which is no tool; there are: weather, clock"):
            ask(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "fly"}})
        with pytest.raises(RequestError, match="it is auto, none, required"):
            ask(tools=TOOLS, tool_choice="maybe")
        with pytest.raises(RequestError, match="exclude each other"):
            ask(tools=TOOLS, tool_choice="required", response_format={"type": "json_object"})
        with pytest.raises(RequestError, match="parallel_tool_calls=False needs"):
            ask(tools=TOOLS, parallel_tool_calls=False)
