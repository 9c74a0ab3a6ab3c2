"""`vlm(...)` and `ocr(...)`: the magics as plain functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..chat.pages import read_picture
from ..images.source import open_images
from ..types import ImagePart, Message, SamplingParams
from . import session, structured
from .config import settings
from .many import read_many
from .result import Result, ResultList


def vlm(prompt: str, *images: Any, system: str | None = None, json: Any = None, **sampling: Any) -> Any:
    """Ask about pictures: `vlm("What is this?", img)`. Keyword arguments are SamplingParams' fields.

    With `json` (a pydantic model or a JSON schema) the answer is an instance of it. `await vlm(...)`
    is the same.

    :raises OmlxError: one sentence that names the mend.
    """
    if json is None:
        return _ask(prompt, images, system, sampling)
    made = _ask(prompt, images, system, {**sampling, "json_schema": structured.schema_of(json)})
    return structured.instance_of(json, made.text)


def ocr(*images: Any, prompt: str | None = None, whole: bool = False, **sampling: Any) -> Result:
    """Read the text in pictures: `ocr("receipt.png").text`. `ocr.map(paths)` reads many.

    One picture without a prompt is read by lines where the model's checkpoint has a recipe for that
    (`reading.json`), and `.lines` has their boxes; `whole=True` hands it over as it is.

    :raises OmlxError: one sentence that names the mend.
    """
    return _ask(prompt, images, None, sampling, by_lines=not whole)


def _map(
    pictures: Iterable[Any], concurrency: int = 16, prompt: str | None = None, whole: bool = False, **sampling: Any
) -> ResultList:
    """Read many pictures through the batch, `concurrency` of them under way at a time.

    One result per picture, in order; a picture that fails is a `Failure` in its place.
    """
    return read_many(list(pictures), prompt, SamplingParams(**sampling), ahead=max(1, concurrency), whole=whole)


ocr.map = _map  # type: ignore[attr-defined]


def _ask(
    prompt: str | None, images: Sequence[Any], system: str | None, sampling: dict[str, Any], by_lines: bool = False
) -> Result:
    limits = settings().image_limits()
    opened = [image for source in images for image in open_images(source, limits)]
    params = SamplingParams(**sampling)
    whole = settings().reads_whole(not by_lines)
    handle = session.submit(lambda e: read_picture(e, opened, prompt, params, whole, system))
    parts: list[Any] = [*(ImagePart(image) for image in opened), *([prompt] if prompt else [])]
    try:
        generation = handle.result()
    except BaseException:
        handle.cancel()
        raise
    return Result(generation, opened, prompt or "", messages=[Message("user", parts)])
