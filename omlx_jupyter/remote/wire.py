"""What goes between a server of ours and its clients, as JSON values. Both sides use this; standard library only."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .. import errors
from ..errors import OmlxError, RequestError
from ..types import Delta, Generation, ImagePart, Message, SamplingParams, TokenLogprob, Usage

if TYPE_CHECKING:
    from ..images.decoded import DecodedImage

Item = dict[str, Any]
VERSION = 1
ROOT = f"/omlx/v{VERSION}"
_HEAD = struct.Struct(">I")
_SAMPLING = frozenset(f.name for f in fields(SamplingParams))
_USAGE = frozenset(f.name for f in fields(Usage))


def sampling_out(sampling: SamplingParams | None) -> Item:
    """What is set of it."""
    if sampling is None:
        return {}
    made = {f.name: getattr(sampling, f.name) for f in fields(sampling)}
    made = {key: value for key, value in made.items() if value is not None and value != ()}
    if sampling.logit_bias is not None:
        made["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return made


def sampling_in(said: object) -> SamplingParams:
    """:raises RequestError: an unknown name, or a value outside its range."""
    if not isinstance(said, Mapping) or set(said) - _SAMPLING:
        raise RequestError("sampling holds what is no setting of a request.")
    made = dict(said)
    if isinstance(made.get("logit_bias"), Mapping):
        try:
            made["logit_bias"] = {int(token): bias for token, bias in made["logit_bias"].items()}
        except ValueError:
            raise RequestError("logit_bias maps token ids to numbers.") from None
    return SamplingParams(**made)


def messages_out(messages: Sequence[Message], take: Callable[[object], list[DecodedImage]]) -> list[Item]:
    """`take(source)` opens a picture's source; each `DecodedImage` goes by its digest."""
    made = []
    for message in messages:
        parts: list[Any] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                parts += [
                    {"picture": image.digest, "source": image.source, "note": image.note, "text": image.text}
                    for image in take(part.source)
                ]
            else:
                parts.append(part)
        made.append({"role": message.role, "parts": parts, "extra": dict(message.extra)})
    return made


def pictures_in(messages: object) -> Iterator[Item]:
    """The pictures that messages name.

    :raises RequestError: they aren't messages.
    """
    for message in messages if isinstance(messages, list) else [None]:
        told = message if isinstance(message, dict) else {}
        parts = told.get("parts")
        if not isinstance(parts, list) or told.get("role") not in ("system", "user", "assistant", "tool"):
            raise RequestError("messages are a list of {role, parts, extra}.")
        for part in parts:
            if isinstance(part, dict) and isinstance(part.get("picture"), str):
                yield part
            elif not isinstance(part, str):
                raise RequestError("a part of a message is text, or names a picture by its digest.")


def messages_in(said: Sequence[Item], picture: Callable[[Item], object]) -> list[Message]:
    """Messages as the engine takes them; `picture(part)` finds what was sent."""
    return [
        Message(
            message["role"],
            [part if isinstance(part, str) else ImagePart(picture(part)) for part in message["parts"]],
            dict(message.get("extra") or {}),
        )
        for message in said
    ]


def frame(head: Item, body: bytes | memoryview) -> list[bytes | memoryview]:
    """A header and the bytes that it tells of, for a body that holds several."""
    text = json.dumps(head).encode()
    return [_HEAD.pack(len(text)), text, body]


def frames(data: memoryview, size: Callable[[Item], int]) -> Iterator[tuple[Item, memoryview]]:
    """(header, bytes) of each; `size(header)` says how many bytes follow it.

    :raises RequestError: the data ends early, or a header is none.
    """
    at = 0
    while at < len(data):
        try:
            (length,) = _HEAD.unpack_from(data, at)
            head = json.loads(bytes(data[at + 4 : at + 4 + length]))
            most = size(head)
        except (struct.error, ValueError, KeyError, TypeError):
            raise RequestError("a picture's header can't be read.") from None
        begin = at + 4 + length
        at = begin + most
        if most < 0 or at > len(data):
            raise RequestError("a picture is shorter than its header says.")
        yield head, data[begin:at]


def delta_out(delta: Delta) -> list[Any]:
    return [delta.text, delta.token_ids, delta.thinking, delta.reasoning, logprobs_out(delta.logprobs)]


def delta_in(said: Sequence[Any]) -> Delta:
    return Delta(said[0], tuple(said[1]), said[2], said[3], tuple(logprobs_in(said[4])))


def logprobs_out(told: Sequence[TokenLogprob]) -> list[Any]:
    return [[t.token_id, t.logprob, t.top] for t in told]


def logprobs_in(said: Sequence[Any]) -> list[TokenLogprob]:
    return [TokenLogprob(i, p, tuple((j, q) for j, q in top)) for i, p, top in said]


def usage_out(usage: Usage) -> Item:
    return {name: getattr(usage, name) for name in _USAGE}


def usage_in(said: Item) -> Usage:
    return Usage(**{key: value for key, value in said.items() if key in _USAGE})


def generation_out(made: Generation) -> Item:
    logprobs = None if made.logprobs is None else logprobs_out(made.logprobs)
    return {**asdict(made), "usage": usage_out(made.usage), "logprobs": logprobs}


def generation_in(said: Item) -> Generation:
    logprobs = None if said["logprobs"] is None else logprobs_in(said["logprobs"])
    made = {**said, "usage": usage_in(said["usage"]), "notes": tuple(said["notes"]), "logprobs": logprobs}
    return Generation(**made)


def error_out(error: BaseException) -> Item:
    """Errors of ours by the name that a client knows them by; others are no news for it."""
    if isinstance(error, OmlxError):
        known = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return {"kind": known, "message": str(error)}
    return {"kind": "RequestError", "message": f"the request failed ({type(error).__name__})."}


def error_in(said: Item) -> OmlxError:
    kind = getattr(errors, str(said.get("kind")), None)
    known = isinstance(kind, type) and issubclass(kind, OmlxError)
    return (kind if known else RequestError)(str(said.get("message")))  # type: ignore[misc]


@dataclass(frozen=True)
class Hello:
    """What a server says of one of its models."""

    server: str
    name: str
    family: str
    is_ocr: bool
    sees: bool
    thinks: bool
    identity: str
    context: int
    pixel_budget: int
    models: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    drafter: str = ""
    recipe: Item | None = None  # how pages are read
    grounding: Item = field(default_factory=dict)  # how boxes are counted
    tool_starts: tuple[str, ...] = ()
    tool_begins: tuple[str, ...] = ()
    tool_start_id: int | None = None
    tool_style: str = ""
    max_body: int = 2**40  # bytes of one request


def hello_in(said: Item) -> Hello:
    """:raises ValueError: it is none of ours."""
    known = {f.name for f in fields(Hello)}
    made = {key: value for key, value in said.items() if key in known}
    for key in ("models", "warnings", "tool_starts", "tool_begins"):
        made[key] = tuple(made.get(key) or ())
    try:
        return Hello(**made)
    except TypeError as error:
        raise ValueError(str(error)) from None
