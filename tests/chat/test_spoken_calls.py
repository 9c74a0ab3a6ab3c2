"""Tool calls that a checkpoint really speaks: in each format, through the engine, alone, in a batch, from the cache.

Each checkpoint's next token is a function of its last one (tests/checkpoints/scripted.py): the answer is cut into
pieces that occur once, each a token of its own; its marks are special tokens, as the families have them, which decoding
leaves out, or plain ones.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine
from omlx_jupyter.cache.prefix_cache import CacheSettings

from ..checkpoints import families, scripted
from ..conftest import noise_image
from .test_tool_choice import FORMATS, MARKERS

WHY = "the river rises, 3 boats lie still"
ARGUMENTS = {"city": "Köln", "why": WHY, "n": 12}
JSON = json.dumps(ARGUMENTS, ensure_ascii=False)
TAGS = {"city": "Köln", "why": WHY, "n": "12"}


def _tagged(before: str, between: str, after: str) -> str:
    return "".join(before + name + between + value + after for name, value in TAGS.items())


ANSWERS = {
    "json_tools": f'I look.<tool_call>\n{{"name": "f", "arguments": {JSON}}}\n</tool_call>',
    "mistral": f"I look.[TOOL_CALLS]f[ARGS]{JSON}",
    "qwen3_coder": "I look.<tool_call>\n<function=f>\n"
    + _tagged("<parameter=", ">\n", "\n</parameter>\n") + "</function>\n</tool_call>",
    "glm47": "I look.<tool_call>f\n"
    + _tagged("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n") + "</tool_call>",
    "kimi_k2": "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
    f"{JSON}<|tool_call_end|><|tool_calls_section_end|>",
    "deepseek": "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>"
    f"{JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek-fenced": "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
    f"{JSON}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "harmony": "I look.<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
    f"{JSON}<|call|>",
    "llama3_json": f'{{"name": "f", "parameters": {JSON}}}',
    "gemma4": f'I look.<|tool_call>call:f{{city:<|"|>Köln<|"|>,why:<|"|>{WHY}<|"|>,n:12}}<tool_call|>',
    "pythonic": f'I look.<|tool_call_start|>[f(city="Köln", why="{WHY}", n=12)]<|tool_call_end|>',
    "pythonic_list": f'[f(city="Köln", why="{WHY}", n=12)]',
    "minimax_m2": 'I look.<minimax:tool_call>\n<invoke name="f">\n'
    + _tagged('<parameter name="', '">', "</parameter>\n") + "</invoke>\n</minimax:tool_call>",
}  # fmt: skip
# Marks that come more than once can't be tokens of a chain in which each token has one that follows
ONCE = {style: [mark for mark in MARKERS.get(style.removesuffix("-fenced"), []) if answer.count(mark) == 1]
        for style, answer in ANSWERS.items()}  # fmt: skip
KINDS = [(style, kind) for style in ANSWERS for kind in ("special", "plain")
         if (ONCE[style] if kind == "special" else all(mark.isascii() for mark in ONCE[style]))]  # fmt: skip
PROPERTIES = {"city": {"type": "string"}, "why": {"type": "string"}, "n": {"type": "integer"}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": PROPERTIES}}}]


def pieces(answer: str, marks: list[str]) -> list[str]:
    """The answer in pieces that are all different: each mark is one, and so is each byte of a letter outside ASCII."""
    parts = re.split("(" + "|".join([*map(re.escape, marks), "[^\x00-\x7f]"]) + ")", answer)
    for seed in range(10_000):
        found = [piece for part in parts for piece in _cut(part, marks, random.Random(seed))]
        if len(set(found) | {"\n"}) == len(found) + 1:
            return found
    raise AssertionError(f"no pieces of {answer!r} are all different")


def _cut(part: str, marks: list[str], r: random.Random) -> Iterator[str]:
    if part in marks:
        yield part
    elif not part.isascii():
        yield from (chr(byte) for byte in part.encode())  # the byte-level alphabet has these as they are
    else:
        at = 0
        while at < len(part):
            size = r.randint(3, 7)
            yield part[at : at + size]
            at += size


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def speaks(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    style, kind = request.param
    folder = tmp_path_factory.mktemp(f"speaks-{style}-{kind}")
    template = FORMATS[style] + families.CHATML
    chain = ["\n", *pieces(ANSWERS[style], ONCE[style]), scripted.END]
    scripted.write(folder, [chain], template, specials=ONCE[style] if kind == "special" else ())
    with Engine.load(folder, cache=CacheSettings(64 * 2**20, folder=Path(folder, "kept"))) as engine:
        assert engine.tool_parser.style == style.removesuffix("-fenced")
        yield engine, style


def asked(picture: Any = None, said: str = "Weather?") -> dict[str, Any]:
    from omlx_jupyter.images.source import open_images

    content: Any = [{"type": "text", "text": said}]
    if picture is not None:
        import base64

        url = "data:image/png;base64," + base64.b64encode(open_images(picture)[0].png()).decode()
        content.insert(0, {"type": "image_url", "image_url": {"url": url}})
    return {"messages": [{"role": "user", "content": content}], "tools": TOOLS, "temperature": 0, "max_tokens": 200}


def assert_called(message: Any, finish_reason: str, style: str) -> None:
    (call,) = message.tool_calls
    assert (call.function.name, finish_reason) == ("f", "tool_calls")
    assert json.loads(call.function.arguments) == ARGUMENTS
    assert (message.content or "") == ("I look." if ANSWERS[style].startswith("I") else "")


def test_alone_and_from_the_cache(speaks: tuple[Any, str]) -> None:
    engine, style = speaks
    picture = noise_image(160, 120, 4)
    tokens = []
    for _ in range(2):
        made = engine.chat.completions.create(**asked(picture))
        assert_called(made.choices[0].message, made.choices[0].finish_reason, style)
        tokens.append(made.usage.completion_tokens)
    assert made.usage.prompt_tokens_details.cached_tokens > 0
    assert tokens[0] == tokens[1]


def test_streamed_in_a_batch(speaks: tuple[Any, str]) -> None:
    """Four rows of different prompts at once; the deltas of each put together are its call."""
    engine, style = speaks
    pictures = [None, noise_image(96, 64, 1), noise_image(128, 128, 2), None]
    streams = [
        engine.chat.completions.create(**asked(picture, "W" * number + "?"), stream=True)
        for number, picture in enumerate(pictures, 1)
    ]
    chunks: list[list[Any]] = [[] for _ in streams]
    going = dict(enumerate(streams))
    while going:
        for number, stream in list(going.items()):
            chunk = next(stream, None)
            if chunk is None:
                del going[number]
            else:
                chunks[number].append(chunk)
    for own in chunks:
        text = "".join(c.choices[0].delta.content or "" for c in own)
        calls = [piece for c in own for piece in c.choices[0].delta.tool_calls or ()]
        assert [piece.function.name for piece in calls if piece.function.name] == ["f"]
        assert json.loads("".join(piece.function.arguments or "" for piece in calls)) == ARGUMENTS
        assert text == ("I look." if ANSWERS[style].startswith("I") else "")
        assert own[-1].choices[0].finish_reason == "tool_calls"
        if style not in ("gemma4", "pythonic", "pythonic_list"):  # whose arguments can't be told before their end
            assert len(calls) > 2
