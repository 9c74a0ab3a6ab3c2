"""Answers that follow a JSON schema, alone and in a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from omlx_jupyter import Engine, SamplingParams


class Receipt(BaseModel):
    total: int
    paid: bool
    kind: str


BOUNDED = {
    "type": "object",
    "properties": {
        "total": {"type": "integer", "minimum": 0, "maximum": 999},
        "paid": {"type": "boolean"},
        "kind": {"enum": ["cash", "card"]},
    },
    "required": ["total", "paid", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(checkpoint: Callable[..., Path]) -> Iterator[Any]:
    with Engine.load(checkpoint("qwen2_vl")) as made:
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_a_random_model_writes_valid_json(engine: Any, seed: int) -> None:
    params = SamplingParams(temperature=1.0, seed=seed, max_tokens=300, json_schema=BOUNDED)
    out = engine.generate("Receipt, please", sampling=params)
    assert out.finish_reason == "stop", out.text
    found = json.loads(out.text)
    assert set(found) == {"total", "paid", "kind"}
    assert 0 <= found["total"] <= 999
    assert found["kind"] in ("cash", "card")
    Receipt.model_validate(found)


def test_rows_with_and_without_a_schema_share_a_batch(engine: Any) -> None:
    free = SamplingParams(temperature=0, max_tokens=30)
    bound = SamplingParams(temperature=0, max_tokens=300, json_schema=BOUNDED)
    alone = [engine.generate("Tell me", sampling=s).token_ids for s in (free, bound)]
    assert alone[0] != alone[1][: len(alone[0])]
    handles = [engine.submit("Tell me", sampling=s) for s in (free, bound, free, bound)]
    assert [h.result(30).token_ids for h in handles] == alone * 2
    assert max(h.usage.peak_rows for h in handles) > 1


def test_the_client_takes_a_pydantic_model_and_a_schema(engine: Any) -> None:
    messages = [{"role": "user", "content": "Receipt"}]
    wrapped = {"type": "json_schema", "json_schema": {"name": "receipt", "schema": BOUNDED}}
    made = engine.chat.completions.create(messages=messages, response_format=wrapped, seed=1, temperature=1)
    Receipt.model_validate_json(made.choices[0].message.content)
