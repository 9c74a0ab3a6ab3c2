"""Calls of the `openai` client's `chat.completions.create`, what has to come of each, and docs/openai.md of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict

SAID = [{"role": "user", "content": "Say a word."}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"],
    "additionalProperties": False}}}  # fmt: skip
SCHEMA = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: Literal[7]


@dataclass(frozen=True)
class Call:
    """`options` of one call, `holds` of its completion (a list of chunks where it streams); or it is `refused`."""

    name: str
    options: dict[str, Any]
    holds: Callable[[Any], bool] = lambda made: bool(made.choices)
    refused: str = ""
    said: str = ""  # for the table
    messages: list[dict[str, Any]] = field(default_factory=lambda: SAID)


def text(made: Any) -> str:
    return str(made.choices[0].message.content or "")


def same(made: Any) -> bool:
    return len({json.dumps(choice.message.model_dump()) for choice in made.choices}) == 1


CALLS = [
    Call("messages", {}, said="text and parts: text, image_url, file (PDFs as pages, text files), data frames, arrays"),
    Call("model", {"model": "any"}, lambda made: made.model == "any", said="comes back as it was given"),
    Call("temperature", {"temperature": 0}),
    Call("top_p", {"top_p": 0.5}),
    Call("seed", {"seed": 3, "temperature": 1, "n": 1}),
    Call("n", {"n": 3, "temperature": 0}, lambda made: len(made.choices) == 3 and same(made),
         said="rows of one batch over one prompt; each has a seed of its own"),
    Call("max_tokens", {"max_tokens": 2}, lambda made: made.usage.completion_tokens <= 2),
    Call("max_completion_tokens", {"max_completion_tokens": 2}, lambda made: made.usage.completion_tokens <= 2),
    Call("stop", {"stop": ["e", "a"]}, lambda made: not set("ea") & set(text(made)), said="a text or a list"),
    Call("logit_bias", {"logit_bias": {"65": 100}, "max_tokens": 3, "temperature": 0},
         lambda made: len(set(text(made))) == 1),
    Call("presence_penalty", {"presence_penalty": 1.5}),
    Call("frequency_penalty", {"frequency_penalty": 1.5}),
    Call("logprobs", {"logprobs": True}, lambda made: made.choices[0].logprobs.content[0].logprob <= 0,
         said="the model's own: before grammar, penalties and temperature"),
    Call("top_logprobs", {"logprobs": True, "top_logprobs": 4},
         lambda made: len(made.choices[0].logprobs.content[0].top_logprobs) == 4, said="0 to 20, with logprobs"),
    Call("response_format", {"response_format": {"type": "json_object"}, "max_tokens": 400, "seed": 1},
         said="text, json_object, json_schema, a pydantic model: by grammar"),
    Call("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True,
         "schema": SCHEMA}}, "max_tokens": 600}, lambda made: json.loads(text(made)) == {"n": 7}),
    Call("response_format", {"response_format": Answer, "max_tokens": 600},
         lambda made: Answer.model_validate_json(text(made)).n is not None),
    Call("tools", {"tools": [TOOL]}, said="OpenAI's, and Python functions"),
    Call("tool_choice", {"tools": [TOOL], "tool_choice": "none"}, lambda made: not made.choices[0].message.tool_calls),
    Call("tool_choice", {"tools": [TOOL], "tool_choice": "auto"}),
    Call("tool_choice", {"tools": [TOOL], "tool_choice": "required", "max_tokens": 900, "parallel_tool_calls": False},
         lambda made: json.loads(made.choices[0].message.tool_calls[0].function.arguments)["a"] in range(10),
         said="none, auto, required, by name: by grammar"),
    Call("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}},
         "max_tokens": 900}, lambda made: made.choices[0].finish_reason == "tool_calls"),
    Call("parallel_tool_calls", {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False,
         "max_tokens": 900}, lambda made: len(made.choices[0].message.tool_calls) == 1,
         said="False with a required or named tool"),
    Call("stream", {"stream": True}, lambda chunks: chunks[-1].choices[0].finish_reason is not None),
    Call("stream_options", {"stream": True, "stream_options": {"include_usage": True}},
         lambda chunks: chunks[-1].usage.total_tokens > 0, said="the usage comes with the last chunk anyway"),
    Call("reasoning_effort", {"reasoning_effort": "low"}, refused="reads no 'reasoning_effort'",
         said="where the model's template reads it; refused by name elsewhere"),
    Call("prediction", {"prediction": {"type": "content", "content": "A word."}}, said="a hint: the model checks it"),
    Call("timeout", {"timeout": 60.0}, said="seconds, or httpx's"),
    Call("timeout", {"timeout": httpx.Timeout(60)}),
    Call("user", {"user": "me"}, said="taken, without effect"),
    Call("metadata", {"metadata": {"a": "b"}}, said="taken, without effect"),
    Call("store", {"store": False}, said="taken, without effect"),
    Call("service_tier", {"service_tier": "auto"}, said="taken, without effect"),
    Call("safety_identifier", {"safety_identifier": "x"}, said="taken, without effect"),
    Call("prompt_cache_key", {"prompt_cache_key": "x"}, said="taken: every prefix is kept anyway"),
    Call("prompt_cache_options", {"prompt_cache_options": {}}, said="taken: every prefix is kept anyway"),
    Call("prompt_cache_retention", {"prompt_cache_retention": "24h"}, said="taken: every prefix is kept anyway"),
    Call("extra_headers", {"extra_headers": {}}, said="taken, without effect"),
    Call("extra_query", {"extra_query": {}}, said="taken, without effect"),
    Call("extra_body", {"extra_body": {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "think_budget": None}},
         said="top_k, min_p, repetition_penalty, think_budget, enable_thinking, chat_template_kwargs, "
              "continue_final_message"),
    Call("extra_body", {"extra_body": {"continue_final_message": True}, "max_tokens": 2},
         lambda made: text(made).startswith("So "), messages=[*SAID, {"role": "assistant", "content": "So "}]),
    Call("audio", {"audio": {"voice": "x", "format": "wav"}}, refused="unknown option 'audio'"),
    Call("modalities", {"modalities": ["text"]}, refused="unknown option 'modalities'"),
    Call("moderation", {"moderation": {}}, refused="unknown option 'moderation'"),
    Call("functions", {"functions": []}, refused="unknown option 'functions'", said="refused: use tools"),
    Call("function_call", {"function_call": "auto"}, refused="unknown option",
         said="refused: use tools"),
    Call("verbosity", {"verbosity": "low"}, refused="unknown option 'verbosity'"),
    Call("web_search_options", {"web_search_options": {}}, refused="unknown option 'web_search_options'"),
]  # fmt: skip


_PAGE = """\
# OpenAI's shapes

`engine.chat.completions.create(...)` takes what the `openai` package's client takes, and gives its types. Each
parameter of that client, as `tests/chat/test_openai_calls.py` calls it (written by `python -m tools.openai_doc`):

| parameter | here |
|---|---|
TABLE

A thought comes as `reasoning_content`, in messages and in deltas; `usage` has `cached_tokens`, `reasoning_tokens`.
Calls are streamed as they are written. A call that can't be parsed stays text, and `completion.omlx["notes"]` says why.
With `continue_final_message` the answer's `content` begins with the message that it goes on with.

`engine.responses.create(...)` is the Responses shape over the same engine: text, pictures and files in `input`,
`instructions`, function tools and their outputs, `text.format`, `reasoning.effort`, all events of its stream. What
needs a server that remembers (`previous_response_id`, `conversation`, `background`) or hosted tools is refused by name.
`engine.async_chat` and `engine.async_responses` are awaited.
"""


def page() -> str:
    """docs/openai.md."""
    lines = []
    told: dict[str, list[str]] = {}
    for call in CALLS:
        here = call.said or ("refused by name" if call.refused else "works")
        told.setdefault(call.name, [])
        if (call.said or not told[call.name]) and here not in told[call.name]:
            told[call.name].append(here)
    for name, said in told.items():
        kept = [one for one in said if one != "works"] or said
        lines.append(f"| `{name}` | {'; '.join(kept)} |")
    return _PAGE.replace("TABLE", "\n".join(lines))
