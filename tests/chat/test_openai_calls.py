"""Every parameter of the `openai` client's call works here or is refused by name; the page of them is the code."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from omlx_jupyter.errors import RequestError

from .openai_calls import CALLS, Call, page


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_call(call: Call, tiny: Any) -> None:
    options = {"max_tokens": 8, **call.options}
    if "max_completion_tokens" in options:
        del options["max_tokens"]

    def make() -> Any:
        return tiny.chat.completions.create(messages=call.messages, **options)

    if call.refused:
        with pytest.raises(RequestError, match=call.refused):
            make()
        return
    made = make()
    assert call.holds(list(made) if call.options.get("stream") else made)


def test_no_parameter_is_left_out() -> None:
    theirs = set(inspect.signature(OpenAI(api_key="none").chat.completions.create).parameters)
    assert theirs == {call.name for call in CALLS}


def test_the_page_is_made_of_the_calls() -> None:
    path = Path(__file__).parents[2] / "docs" / "openai.md"
    assert path.read_text(encoding="utf-8") == page(), "run python -m tools.openai_doc"
