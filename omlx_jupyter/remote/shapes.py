"""Our messages and settings -> a request of OpenAI's chat completions."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..types import ImagePart, Message, SamplingParams

if TYPE_CHECKING:
    from ..images.limits import Limits

Item = dict[str, Any]
READ = "Read all text in the picture. Give the text alone."  # where a picture comes without words
# What servers of others name as we do, but OpenAI's own API doesn't have
_MORE = ("top_k", "min_p", "repetition_penalty")
_SAME = ("temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty")


def messages_of(messages: Sequence[Message], limits: Limits, budget: int) -> tuple[list[Item], list[str], int]:
    """(messages with pictures as data URLs, notes, how many pictures).

    :raises ImageError: a picture can't be opened.
    """
    from ..images.source import open_images

    made: list[Item] = []
    notes: list[str] = []
    count = 0
    for message in messages:
        parts: list[Item] = []
        for part in message.parts:
            if not isinstance(part, ImagePart):
                parts.append({"type": "text", "text": str(part)})
                continue
            for image in open_images(part.source, limits):
                small = image.shrunk_to(budget)
                notes += [small.note] if small.note else []
                count += 1
                url = "data:image/png;base64," + base64.b64encode(small.png()).decode()
                parts.append({"type": "image_url", "image_url": {"url": url}})
        made += _turn(message, parts, made)
    _ask_to_read(made)
    return made, notes, count


def _turn(message: Message, parts: list[Item], before: list[Item]) -> list[Item]:
    texts = [part for part in parts if part["type"] == "text"]
    pictures = [part for part in parts if part["type"] != "text"]
    said: Any = parts if pictures else "".join(part["text"] for part in texts)
    if message.role == "tool":
        told = {"role": "tool", "content": "".join(part["text"] for part in texts)}
        told["tool_call_id"] = str(message.extra.get("tool_call_id") or _open_call(before))
        # a tool's answer takes no pictures there: they come with a turn of the user's
        return [told, {"role": "user", "content": pictures}] if pictures else [told]
    made: Item = {"role": message.role, "content": said}
    if calls := message.extra.get("tool_calls"):
        made["tool_calls"] = [_call(call, len(before), place) for place, call in enumerate(calls)]
        made["content"] = said or None
    return [made]


def _call(call: Item, turn: int, place: int) -> Item:
    function = dict(call.get("function") or call)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    told = {"name": function.get("name"), "arguments": arguments}
    return {"id": call.get("id") or f"call_{turn}_{place}", "type": "function", "function": told}


def _open_call(before: list[Item]) -> str:
    """The first call that has no answer yet."""
    answered = {item.get("tool_call_id") for item in before}
    ids = [call["id"] for item in before for call in item.get("tool_calls") or ()]
    return next((one for one in ids if one not in answered), "call_0_0")


def _ask_to_read(made: list[Item]) -> None:
    turns = [item for item in made if item["role"] == "user"]
    content = turns[-1]["content"] if turns else ""
    if isinstance(content, list) and not any(part["type"] == "text" and part["text"].strip() for part in content):
        content.append({"type": "text", "text": READ})


def options_of(sampling: SamplingParams, words: Item, begin: str) -> Item:
    """Options of a chat completion.

    :raises RequestError: what no such server takes.
    """
    if sampling.lark is not None or sampling.stop_token_ids:
        what = "a grammar" if sampling.lark is not None else "stop_token_ids"
        raise RequestError(f"a server that speaks OpenAI's shapes can't be given {what}; use json_schema or stop.")
    made = {key: value for key in _SAME if (value := getattr(sampling, key)) is not None}
    made.setdefault("temperature", 0.0)  # as an engine of ours has it
    more = {key: value for key in _MORE if (value := getattr(sampling, key)) is not None}
    if sampling.stop:
        made["stop"] = list(sampling.stop)
    if sampling.logit_bias is not None:
        made["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs is not None:
        made |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    if sampling.json_schema is not None:
        shape = {"name": "answer", "schema": dict(sampling.json_schema)}
        made["response_format"] = {"type": "json_schema", "json_schema": shape}
    words = dict(words)
    if sampling.think is not None:
        words.setdefault("enable_thinking", sampling.think)
    if words:
        more["chat_template_kwargs"] = words
    if begin:
        more |= {"continue_final_message": True, "add_generation_prompt": False}
    return {**made, **({"extra_body": more} if more else {})}
