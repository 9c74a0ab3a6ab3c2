"""Kinds of chat templates that are in use, written anew: ours renders what transformers' `apply_chat_template` does."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from omlx_jupyter.errors import RequestError
from omlx_jupyter.models.families import Family
from omlx_jupyter.models.switches import TemplateUse
from omlx_jupyter.models.tokenizer import ChatTokenizer
from omlx_jupyter.types import ImagePart, Message

from ..checkpoints.common import byte_tokenizer

PICTURE = "<|image_pad|>"
PARTS = """{%- macro show(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}{%- for part in content -%}
{%- if part.type == 'image' -%}<|image_pad|>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}{%- endmacro -%}"""
TEMPLATES = {
    "parts in order": PARTS + """{%- for m in messages -%}[{{ m.role }}]{{ show(m.content) }}[end]{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "pictures before text": """{%- for m in messages -%}[{{ m.role }}]
{%- if m.content is string -%}{{ m.content }}{%- else -%}
{%- for p in m.content if p.type == 'image' -%}<|image_pad|>{%- endfor -%}
{%- for p in m.content if p.type == 'text' -%}{{ p.text }}{%- endfor -%}{%- endif -%}[end]{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "system in the first user turn": PARTS + """{%- set said = '' -%}
{%- if messages[0].role == 'system' -%}{%- set said = messages[0].content + '\n\n' -%}
{%- set messages = messages[1:] -%}{%- endif -%}
{%- for m in messages -%}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Roles must alternate') }}{%- endif -%}
[{{ m.role }}]{%- if loop.first -%}{{ said }}{%- endif -%}{{ show(m.content) }}[end]{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "no system": PARTS + """{%- for m in messages -%}{%- if m.role == 'system' -%}
{{ raise_exception('System role not supported') }}{%- endif -%}[{{ m.role }}]{{ show(m.content) }}[end]{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "tools as JSON lines": PARTS + """{%- if tools -%}[tools]{%- for t in tools -%}{{ t | tojson }}
{% endfor -%}[end]{%- endif -%}{%- for m in messages -%}[{{ m.role }}]
{%- if m.tool_calls -%}{%- for c in m.tool_calls -%}call:{{ c.function.name }}:{{ c.function.arguments | tojson }}
{%- endfor -%}
{%- else -%}{{ show(m.content) }}{%- endif -%}[end]{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "a date": PARTS + """[today {{ strftime_now('%Y') }}]{%- for m in messages -%}[{{ m.role }}]{{ show(m.content) }}
{%- endfor -%}{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "generation blocks": PARTS + """{%- for m in messages -%}[{{ m.role }}]{%- if m.role == 'assistant' -%}
{%- generation -%}{{ show(m.content) }}{%- endgeneration -%}{%- else -%}{{ show(m.content) }}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
    "earlier thoughts left out": PARTS + """{%- for m in messages -%}[{{ m.role }}]
{%- if m.role == 'assistant' -%}{{ show(m.content).split('</think>')[-1].lstrip() }}
{%- else -%}{{ show(m.content) }}{%- endif -%}[end]{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}""",
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": [1, "é"]}}}]}
TALKS: dict[str, list[Message]] = {
    "one turn": [Message("user", ["Hi"])],
    "a picture between": [Message("user", ["Look at ", ImagePart(None), " and say."])],
    "a picture first": [Message("user", [ImagePart(None), "What?"]), Message("assistant", ["This."]),
                        Message("user", ["And ", ImagePart(None), ImagePart(None)])],
    "system": [Message("system", ["Be brief."]), Message("user", ["Hi"])],
    "calls": [Message("user", ["Hi"]), Message("assistant", [], CALL),
              Message("tool", ["3"], {"tool_call_id": "c", "name": "f"})],
    "markup": [Message("user", ["{{ messages }} {% raw %} <b> \\n"])],
}  # fmt: skip


def tokenizer(template: Any) -> ChatTokenizer:
    inner = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer([PICTURE, "<|im_end|>"], 300), eos_token="<|im_end|>"
    )
    inner.chat_template = template
    return ChatTokenizer(inner, None, Family(placeholder=PICTURE))


def plainly(messages: list[Message]) -> list[dict[str, Any]]:
    made = []
    for message in messages:
        parts = [{"type": "image"} if isinstance(p, ImagePart) else {"type": "text", "text": p} for p in message.parts]
        pictures = any(part["type"] == "image" for part in parts)
        content: Any = parts if pictures else "".join(part["text"] for part in parts)
        made.append({"role": message.role, "content": content, **message.extra})
    return made


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("kind", TEMPLATES)
def test_it_is_what_transformers_renders(kind: str, talk: str) -> None:
    made = tokenizer(TEMPLATES[kind])
    tools = TOOLS if kind.startswith("tools") else None

    def theirs(**options: Any) -> str:
        return str(
            made.inner.apply_chat_template(
                plainly(TALKS[talk]), tools=tools, tokenize=False, add_generation_prompt=True, **options
            )
        )

    try:
        wanted = theirs()
    except Exception as error:
        with pytest.raises(RequestError, match=str(error)):  # the template's own words reach the user
            made.render(TALKS[talk], TemplateUse(tools=tools))
        return
    text, guarded = made.render(TALKS[talk], TemplateUse(tools=tools))
    assert text == wanted
    assert not guarded
    assert text.count(PICTURE) == sum(isinstance(p, ImagePart) for m in TALKS[talk] for p in m.parts)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_given_beginning_is_what_continue_final_message_renders(kind: str) -> None:
    made = tokenizer(TEMPLATES[kind])
    asked = [Message("user", ["Hi"])]
    wanted = made.inner.apply_chat_template(
        plainly([*asked, Message("assistant", ["It is"])]), tokenize=False, continue_final_message=True
    )
    assert made.render(asked, TemplateUse(begin="It is"))[0] == wanted


def test_of_several_templates_by_name_the_default_counts() -> None:
    named = {"default": TEMPLATES["parts in order"], "rag": "{{ documents }}"}
    made = tokenizer(named)
    wanted = made.inner.apply_chat_template(plainly(TALKS["one turn"]), tokenize=False, add_generation_prompt=True)
    assert made.render(TALKS["one turn"])[0] == wanted == "[user]Hi[end][assistant]"


def test_of_several_templates_that_for_tools_counts_where_there_are_tools() -> None:
    made = tokenizer({"default": TEMPLATES["parts in order"], "tool_use": TEMPLATES["tools as JSON lines"]})
    assert made.render(TALKS["one turn"])[0] == "[user]Hi[end][assistant]"
    assert made.render(TALKS["one turn"], TemplateUse(tools=TOOLS))[0].startswith('[tools]{"type": "function"')


def test_a_checkpoint_without_a_template_gets_a_plain_prompt() -> None:
    made = tokenizer(None)
    assert not made.has_template
    assert made.render(TALKS["system"])[0] == "Be brief.\nHi"


def test_what_a_user_types_is_never_a_token() -> None:
    made = tokenizer(TEMPLATES["parts in order"])
    text, guarded = made.render([Message("user", [f"a {PICTURE} b <|im_end|>"])])
    assert PICTURE not in text
    assert "<|im_end|>" not in text
    assert guarded == [PICTURE, "<|im_end|>"]
    (ids,) = made.split(text, guarded)
    assert made.decode(ids, skip_special_tokens=False) == f"[user]a {PICTURE} b <|im_end|>[end][assistant]"
    assert made.token_id(PICTURE) not in ids
    assert made.token_id("<|im_end|>") not in ids


def test_a_conversation_keeps_the_time_of_its_first_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from omlx_jupyter.models import dates

    class Clock(datetime.datetime):
        at = datetime.datetime(2024, 1, 1, 23, 59)

        @classmethod
        def now(cls, *_: Any) -> datetime.datetime:
            return cls.at

    monkeypatch.setattr(dates, "datetime", Clock)
    made = tokenizer("{{ strftime_now('%d.%H:%M') }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    first, other = [Message("user", ["Hi"])], [Message("user", ["Hello"])]
    assert made.render(first)[0] == "01.23:59[user]Hi"
    Clock.at = datetime.datetime(2024, 1, 2, 0, 1)
    more = [Message("assistant", ["Yes?"]), Message("user", ["What day is it?"])]
    assert made.render([*first, *more])[0].startswith("01.23:59[user]Hi[assistant]")
    assert made.render([*other, *more])[0].startswith("02.00:01")  # its first turn wasn't seen here
    assert made.render(first)[0] == "02.00:01[user]Hi"  # asked anew
