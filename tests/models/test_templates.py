"""Chat templates run in the sandbox and under limits; honest ones render as transformers renders them (8 s)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omlx_jupyter.errors import RequestError
from omlx_jupyter.models import templates
from omlx_jupyter.models.hub import embedded_path
from omlx_jupyter.models.switches import TemplateUse
from omlx_jupyter.models.tokenizer import ChatTokenizer
from omlx_jupyter.models.whole import WholeProcessor
from omlx_jupyter.types import ImagePart, Message

MESSAGES = [Message("system", ["Be brief."]), Message("user", ["Hi\n  there"]), Message("assistant", ["{{ x }}"])]
N = "{% for a in range(99999) %}"
NS = "{% set ns = namespace(x='aaaaaaaaaa') %}{% for a in range(60) %}{% set ns.x = "
LS = "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = "
ENDLESS = [
    N + N + "{% endfor %}{% endfor %}",
    N + "{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}",
    N + "{{ messages }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}",
    N + "{% set y %}{{ 'a'|center(100000) }}{% endset %}{% endfor %}",
    N + "{{ range(99999)|list|length }}{% endfor %}",
    N + "{{ range(99999)|sum }}{% endfor %}",
    "{% for x in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ (10 ** 4000) ** 4000 }}",
    "{{ 'a'|center(10**9) }}",
    "{{ 'a'|indent(10**9, true) }}",
    "{{ 'a'.center(10**9) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '%999999999d'|format(1) }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=999999999) }}",
    "{{ messages|tojson(indent=10**9) }}",
    "{{ ['a']|batch(10**9, 'a')|list }}",
    NS + "ns.x ~ ns.x %}{% endfor %}",
    NS + "ns.x + ns.x %}{% endfor %}",
    NS + "ns.x.replace('a', 'aa') %}{% endfor %}",
    NS + "ns.x|replace('a', 'aa') %}{% endfor %}",
    NS + "ns.x.join([ns.x, ns.x, ns.x]) %}{% endfor %}",
    NS + "'%s%s' % (ns.x, ns.x) %}{% endfor %}",
    NS + "'{0}{0}'.format(ns.x) %}{% endfor %}",
    LS + "[ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    LS + "(ns.x, ns.x) %}{% endfor %}{{ ns.x|tojson }}",
    LS + "dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x|string }}",
    LS + "namespace(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    LS + "ns.x * 2 %}{% endfor %}{{ ns.x }}",
    "{{ [[1] * 99999] * 99999 }}",
    "{{ ([[1] * 99999] * 9999)|sum(start=[]) }}",
]
REACHING_OUT = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append(1) }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{% include 'config.json' %}",
    "{% import 'config.json' as c %}",
]
HONEST = """{%- set ns = namespace(found=false, n=0) -%}
{%- macro show(part, deep=1) -%}[{{ part|trim }}{% if deep %}{{ show('x', deep - 1) }}{% endif %}]{%- endmacro -%}
{%- macro wrap(left) -%}{{ left }}{{ caller('z') }}{%- endmacro -%}
{%- for m in messages if m.role != 'tool' %}
  {%- if loop.first and not ns.found %}{% set ns.found = true %}{{ bos_token }}{% endif -%}
  <|{{ m['role'] }}|>{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}
  {%- if m.content is string %}{{ show(m.content) }}{% else %}
  {%- for p in m.content %}{% if p.type == 'image' %}<image>{% continue %}{% endif %}{{ p.text }}
  {%- endfor %}{% endif -%}
  {{ m.content|length }} {{ undefined_name }}{{ none }} {{ (1, 2) }} {{ {'a': [1, 2.5]} }} {{ m|tojson(indent=2) }}
  {%- set a, b = m.role, 3 %}{{ a ~ '-' ~ b ~ none }} {{ '%s:%d' % (a, b) }} {{ '{:>4}'.format(b) }}
  {{- 'a,b'.split(',') }}
  {{- m.content.split('\n')[-1] if m.content is string }} {{ messages[1:]|map(attribute='role')|join('+') }}
  {%- set text %}block {{ b }}{% endset %}{{ text|upper }}{% filter replace('a', 'b') %}banana{% endfilter %}
  {%- call(x) wrap('c') %}body{{ x }}{% endcall %}{{ range(3)|list }} {{ 7 // 2 }} {{ 2 ** 5 }} {{ [1] + [2] }}
  {{- 'ab' * 2 }}
{% endfor %}
{%- if tools %}{{ tools|tojson }}{% endif %}{% generation %}z{% endgeneration %}{{ strftime_now('%%')|length }}
{%- for x in [3, 1] recursive %}{{ x }}{{ loop([]) }}{% else %}none{% endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    from transformers import AutoTokenizer

    inner = AutoTokenizer.from_pretrained(str(embedded_path()))
    return ChatTokenizer(inner, SimpleNamespace(chat_template=None))


def rendered(tokenizer: ChatTokenizer, template: str, tools: Any = None) -> str:
    tokenizer._template_owner.chat_template = template
    return tokenizer.render(MESSAGES, TemplateUse(tools))[0]


@pytest.mark.parametrize("template", ENDLESS, ids=range(len(ENDLESS)))
def test_a_template_without_end_is_ended(
    tokenizer: ChatTokenizer, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"chat template (was ended|refuses these messages \(maximum recursion)"):
        rendered(tokenizer, template)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("template", REACHING_OUT)
def test_a_template_reaches_nothing(tokenizer: ChatTokenizer, template: str) -> None:
    with pytest.raises(RequestError, match="refuses these messages"):
        rendered(tokenizer, template)


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "f", "parameters": {}}}]])
def test_honest_templates_render_as_transformers_does(tokenizer: ChatTokenizer, tools: Any) -> None:
    for template in (HONEST, (embedded_path() / "chat_template.jinja").read_text()):
        dicts = [{"role": m.role, "content": str(m.parts[0])} for m in MESSAGES]
        theirs = tokenizer.inner.apply_chat_template(
            dicts, chat_template=template, tools=tools, tokenize=False, add_generation_prompt=True
        )
        assert rendered(tokenizer, template, tools) == theirs
        assert len(theirs) > 20


def test_the_families_templates_render_as_transformers_does(checkpoint: Callable[..., Path]) -> None:
    from transformers import AutoTokenizer

    for family in ("qwen2_vl", "pixtral", "dots_ocr"):
        inner = AutoTokenizer.from_pretrained(str(checkpoint(family)))
        dicts = [{"role": "user", "content": "Hi"}]
        theirs = inner.apply_chat_template(dicts, tokenize=False, add_generation_prompt=True)
        assert ChatTokenizer(inner, inner).render([Message("user", ["Hi"])])[0] == theirs


def test_a_long_conversation_has_room(tokenizer: ChatTokenizer) -> None:
    long = [Message("user", ["word " * 100]) for _ in range(3000)]
    template = "{% for m in messages %}{{ m.role ~ ': ' + m.content|trim }}\n{% endfor %}"
    tokenizer._template_owner.chat_template = template
    assert tokenizer.render(long)[0].count("\n") == 3000


def test_the_users_own_transformers_keeps_its_environment(tokenizer: ChatTokenizer) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    rendered(tokenizer, "x")
    assert not isinstance(_compile_jinja_template("{{ 'a' * 5000000 }}").environment, templates.BoundedEnvironment)
    found: list[str] = []
    with templates.limits(10):
        thread = threading.Thread(target=lambda: found.append(type(_compile_jinja_template("y").environment).__name__))
        thread.start()
        thread.join(10)
    assert found == ["ImmutableSandboxedEnvironment"]


def test_processors_that_leave_the_sandbox_out_get_one(tmp_path: Path) -> None:
    from mlx_vlm.models.phi3_v.processing_phi3_v import Phi3VProcessor

    canary = tmp_path / "canary"
    processor = Phi3VProcessor.__new__(Phi3VProcessor)
    evil = "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}"
    processor.chat_template = evil
    processor.tokenizer = SimpleNamespace(chat_template=evil)
    processor.apply_chat_template([], tokenize=False)
    assert canary.exists()  # what the test is about
    canary.unlink()
    inner = SimpleNamespace(get_vocab=dict, chat_template=None)
    whole = WholeProcessor(processor, ChatTokenizer(inner, inner), SimpleNamespace(model_type="phi3_v"))
    with pytest.raises(RequestError, match="unsafe"):
        whole.render([Message("user", [ImagePart("a.png"), "Hi"])])
    assert not canary.exists()
