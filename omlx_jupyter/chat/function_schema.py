"""Python functions as tools: what a model is told of them, and whether a call's arguments fit."""

from __future__ import annotations

import asyncio
import enum
import inspect
import re
import types
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import RequestError

Schema = dict[str, Any]
_JSON_TYPES: dict[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}
_IN_DOCSTRING = re.compile(r"^\s*(?::param\s+(?:\w+\s+)?)?(\w+)\s*(?:\([^)]*\))?\s*:\s*(\S.*)$")


def function_schema(function: Callable[..., object], name: str = "") -> Schema:
    """OpenAI's description of a function, from its signature, types and docstring; `name` where it has none.

    :raises RequestError: it has no name that a model could call, or takes arguments without names.
    """
    called = str(getattr(function, "__name__", ""))
    called = called if called.isidentifier() else name
    if not called.isidentifier():
        raise RequestError("a tool needs a name that the model can call; define it with def.")
    parameters = inspect.signature(function).parameters
    if any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in parameters.values()):
        raise RequestError(f"{called} takes arguments without names, which a model can't give; name them.")
    text = inspect.getdoc(function) or ""
    schema = _by_pydantic(function) or _by_hand(function)
    for key, said in _parameters_in(text, set(schema["properties"])).items():
        schema["properties"][key].setdefault("description", said)
    return {"type": "function", "function": {"name": called, "description": text, "parameters": schema}}


def _by_pydantic(function: Callable[..., object]) -> Schema | None:
    """None where pydantic isn't there, or doesn't know one of the types."""
    try:
        from pydantic import TypeAdapter

        kind: Any = function  # pydantic takes functions where types go
        made: Schema = TypeAdapter(kind).json_schema()
    except ImportError:
        return None
    except Exception:  # of pydantic's, about types that are no data
        return None
    if made.get("type") != "object":
        return None
    for held in made.setdefault("properties", {}).values():
        held.pop("title", None)
    return {"type": "object", "properties": made["properties"], "required": made.get("required", []), **_shared(made)}


def _shared(schema: Mapping[str, object]) -> Schema:
    return {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def _by_hand(function: Callable[..., object]) -> Schema:
    try:
        hints = get_type_hints(function)
    except Exception:  # an annotation that names nothing here
        hints = {}
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind == parameter.VAR_KEYWORD:
            continue
        properties[name] = _of_type(hints.get(name, str))
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _of_type(hint: object) -> Schema:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        kinds = [{"type": "null"} if one is type(None) else _of_type(one) for one in inner]
        return {"anyOf": kinds}
    if origin in (list, set, tuple):
        return {"type": "array", "items": _of_type(inner[0])} if inner else {"type": "array"}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    return {"type": _JSON_TYPES.get(origin or hint, "string")}


def _parameters_in(text: str, names: set[str]) -> dict[str, str]:
    """What a docstring says of parameters, in the usual styles: `x: ...`, `x (int): ...`, `:param x: ...`."""
    found = (_IN_DOCSTRING.match(line) for line in text.splitlines())
    return {match.group(1): match.group(2) for match in found if match and match.group(1) in names}


def misfit(arguments: object, schema: Mapping[str, object]) -> str:
    """What is wrong with a call's arguments, for the model; "" where they fit."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, best_match
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(schema)
        found = best_match(Draft202012Validator(schema).iter_errors(arguments))
    except (SchemaError, Unresolvable, RecursionError) as error:
        return f"the tool's own schema can't be used ({str(error).splitlines()[0]})"
    if found is None:
        return ""
    where = ".".join(str(step) for step in found.absolute_path)
    return f"{where}: {found.message}" if where else str(found.message)


def call_with(function: Callable[..., object], arguments: Mapping[str, object]) -> Any:
    """Call it, values made what its types say where pydantic can (a date of its text, a model of its fields). One that
    is async is waited for.

    :raises TypeError: the arguments don't fit.
    """
    inspect.signature(function).bind(**arguments)
    try:
        from pydantic import validate_call

        checked = validate_call(function)
    except Exception:  # not there, or types that it doesn't know
        checked = function
    made = checked(**arguments)
    if not inspect.iscoroutine(made):
        return made
    with ThreadPoolExecutor(1, "omlx-tool") as pool:  # a loop of its own: the notebook's may be running
        return pool.submit(asyncio.run, made).result()
