"""What a prompt is rendered with besides its messages: tools, words for the template, and whether to think."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from .thinking import Markers

# What templates call the switch; the first that one reads is set.
_SWITCHES = ("enable_thinking", "thinking")
# What every rendering brings itself.
_OURS = frozenset(("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"))


@dataclass(frozen=True)
class TemplateUse:
    """`words` are OpenAI servers' `chat_template_kwargs`. `think` None leaves it to the template; an answer that
    begins with given text has no thought before it."""

    tools: Any = None
    words: Mapping[str, Any] = field(default_factory=dict)
    think: bool | None = None
    begin: str = ""  # text that the answer begins with


PLAIN = TemplateUse()


@dataclass(frozen=True)
class Chosen:
    """The words that a template gets, and whether an empty thought has to be written behind its prompt."""

    words: dict[str, Any]
    skip_thought: bool = False


def choose(use: TemplateUse, template: str | None, markers: Markers | None, in_python: bool) -> Chosen:
    """`template` is jinja's text, or None where a tokenizer renders `in_python`, whose words can't be known.

    :raises RequestError: a word that the template doesn't read, or a model that can't do what was asked.
    """
    from .templates import words_of

    reads = words_of(template) if isinstance(template, str) and not in_python else None
    made = dict(use.words)
    if wrong := [word for word in made if word in _OURS]:
        raise RequestError(f"chat_template_kwargs can't set {wrong[0]!r}, which each request sets by itself.")
    if reads is not None and (unknown := [word for word in made if word not in reads]):
        known = ", ".join(sorted(reads - _OURS)) or "none"
        raise RequestError(f"the model's chat template reads no {unknown[0]!r}; its own words are: {known}.")
    if use.think is None or any(word in made for word in _SWITCHES):
        return Chosen(made)
    switch = next((word for word in _SWITCHES if reads is None or word in reads), None)
    if switch is not None:
        return Chosen({**made, switch: use.think})
    if use.think and markers is None:
        raise RequestError("this model doesn't think before it answers; leave think out.")
    return Chosen(made, skip_thought=not use.think and markers is not None)
