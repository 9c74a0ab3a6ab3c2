"""What a client may name as a picture: what it sends along, or a public address. Never a file of the server."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import RequestError

_SENT = ("data:", "http://", "https://")
_KEYS = ("image_url", "image", "file_url")


def check_messages(told: object) -> None:
    """:raises RequestError: a picture or a file that is named by a path, by `file://` or in another way."""
    if isinstance(told, str):
        return
    if not isinstance(told, list):
        raise RequestError("messages are a list.")
    for message in told:
        if not isinstance(message, Mapping):
            raise RequestError("a message is an object with role and content.")
        for content in (message.get("content"), message.get("output")):
            for part in content if isinstance(content, list) else [content]:
                if isinstance(part, Mapping):
                    _check_part(part)
                elif not isinstance(part, str | None):
                    raise RequestError("a part of a message is text or an object.")


def _check_part(part: Mapping[str, object]) -> None:
    file = part.get("file")
    for held in (part, file if isinstance(file, Mapping) else {}):
        for key in _KEYS:
            value = held.get(key)
            source = value.get("url") if isinstance(value, Mapping) else value
            if source is not None and not (isinstance(source, str) and source.lstrip()[:8].lower().startswith(_SENT)):
                raise RequestError(
                    "a picture is sent as a data: URL or named by a public http(s) one; paths aren't taken."
                )
