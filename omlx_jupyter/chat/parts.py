"""Parts of a message, as people and the `openai` package give them -> text and pictures."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from ..errors import RequestError
from ..images.source import is_image_source
from ..types import ImagePart
from .tables import is_table, table

Part = str | ImagePart
_TEXT = ("text", "input_text", "output_text", "refusal")
_PICTURE = ("image_url", "input_image", "image")
_FILE = ("file", "input_file")
# Files that are text by their names, where a data URL doesn't say so
_TEXT_ENDINGS = (
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".yaml",
    ".yml",
    ".xml",
    ".html",
    ".py",
    ".log",
    ".toml",
)


def part(value: object, place: int) -> Part:
    """A part of message `place`: text, a picture in any form, a data frame as a table, or an OpenAI part.

    :raises RequestError: anything else, by its place.
    """
    if isinstance(value, str):
        return checked_text(value, f"message {place}")
    if isinstance(value, ImagePart):
        return value
    if isinstance(value, Mapping):
        return _openai_part(value, place)
    if is_table(value):
        return checked_text(table(value), f"message {place}")
    if is_image_source(value):
        return ImagePart(value)
    raise RequestError(
        f"message {place} has a part that is a {type(value).__name__}; give text, a picture, a data frame or an "
        "ImagePart."
    )


def checked_text(text: str, where: str) -> str:
    """:raises RequestError: half of a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{where} holds half of a character ({text[error.start]!a} at {error.start}); "
            "it was cut or decoded wrongly, write it again."
        ) from None
    return text


def _openai_part(fields: Mapping[str, object], place: int) -> Part:
    kind = fields.get("type")
    if kind in _TEXT:
        return checked_text(str(fields.get("text") or fields.get("refusal") or ""), f"message {place}")
    if kind in _PICTURE:
        value = fields.get("image_url", fields.get("image"))
        source = value.get("url") if isinstance(value, Mapping) else value
        if source is None:
            raise RequestError(f"message {place} has a picture without a source; give it as image_url.")
        return ImagePart(source)
    if kind in _FILE:
        held = fields.get("file", fields)
        return _file(held if isinstance(held, Mapping) else {}, place)
    raise RequestError(
        f"message {place} has a part of type {kind!r}; use {', '.join((_TEXT[0], _PICTURE[0], _FILE[0]))}."
    )


def _file(fields: Mapping[str, object], place: int) -> Part:
    """A PDF as its pages, a picture as it is, a text file as text under its name.

    :raises RequestError: no data, an id of a file that lies elsewhere, or a kind that can't be read.
    """
    name, data, url = (fields.get(key) for key in ("filename", "file_data", "file_url"))
    if isinstance(url, str):
        return ImagePart(url)
    if not isinstance(data, str):
        held = "names a file_id, which nobody here holds" if fields.get("file_id") else "has no data"
        raise RequestError(f"message {place} has a file that {held}; give it as file_data, a data URL.")
    shown = str(name or "the file")
    kind, content = _content(data, shown, place)
    if kind.startswith("text/") or kind == "application/json" or shown.lower().endswith(_TEXT_ENDINGS):
        try:
            return checked_text(f"{shown}:\n{content.decode('utf-8')}\n", f"message {place}")
        except UnicodeDecodeError:
            raise RequestError(f"message {place} has the text file {shown}, which is no UTF-8; convert it.") from None
    return ImagePart(content)  # opening it says what is wrong with it


def _content(data: str, shown: str, place: int) -> tuple[str, bytes]:
    """(MIME type or "", bytes) of a data URL or of bare base64.

    :raises RequestError: it is neither.
    """
    head, comma, body = data.partition(",") if data[:5].lower() == "data:" else ("", ",", data)
    kind = head[5:].partition(";")[0].lower()
    try:
        if not comma:
            raise ValueError
        if head and ";base64" not in head.lower():
            return kind, unquote_to_bytes(body)
        return kind, base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"message {place} has {shown}, whose data is no base64; copy it whole.") from None
