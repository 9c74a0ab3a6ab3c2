"""`--json` and `--table`: answers as instances and DataFrames, decoding bound to their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

if TYPE_CHECKING:
    import pandas

    from ..answers.result import Result

TABLE_SCHEMA = {
    "type": "object",
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "rows": {"type": "array", "items": {"type": "array", "items": {"type": ["string", "number", "null"]}}},
    },
    "required": ["columns", "rows"],
    "additionalProperties": False,
}
TABLE_HINT = 'Answer as JSON: {"columns": [names], "rows": [[values in the order of the columns]]}.'


class NotWholeError(UsageError):
    """An answer that isn't what was asked for; `answer` holds what was said."""

    def __init__(self, said: str, answer: Result | str) -> None:
        super().__init__(said)
        self.answer = answer


def schema_of(model: object) -> Mapping[str, Any]:
    """The JSON schema of a pydantic model, or a schema as it is.

    :raises UsageError: neither.
    """
    if hasattr(model, "model_json_schema"):
        return dict(model.model_json_schema())
    if isinstance(model, Mapping):
        return model
    raise UsageError(f"--json takes a pydantic model or a JSON schema (a dict), not a {type(model).__name__}.")


def instance_of(model: object, answer: Result | str) -> Any:
    """:raises NotWholeError: the answer was cut before it was whole, or the model refuses it."""
    text = answer if isinstance(answer, str) else answer.text
    if not isinstance(answer, str) and answer.thinking and not text:
        raise NotWholeError(f"{answer.detail}; try a larger --max-tokens, a --think-budget or --no-think.", answer)
    try:
        if hasattr(model, "model_validate_json"):
            return model.model_validate_json(text)
        return json.loads(text)
    except ValueError as error:
        raise NotWholeError(
            f"the answer is no whole {_name(model)} ({str(error).splitlines()[0]}); try a larger --max-tokens.", answer
        ) from None


def _name(model: object) -> str:
    return getattr(model, "__name__", "JSON")


def frame_of(answer: Result | str) -> pandas.DataFrame:
    """A DataFrame of a `TABLE_SCHEMA` answer; short rows are filled, long ones cut.

    :raises UsageError: pandas is missing.
    :raises NotWholeError: the answer was cut.
    """
    try:
        import pandas
    except ImportError:
        raise UsageError("--table needs pandas; run %pip install pandas.") from None
    made = instance_of({}, answer)
    columns = made["columns"]
    rows = [(row + [None] * len(columns))[: len(columns)] for row in made["rows"]]
    return pandas.DataFrame(rows, columns=columns)
