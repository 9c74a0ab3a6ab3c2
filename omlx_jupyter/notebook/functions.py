"""`vlm(...)` and `ocr(...)`: the magics as plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..images.source import open_images
from ..types import ImagePart, Message, SamplingParams
from . import session
from .config import settings
from .result import Result


def vlm(prompt: str, *images: Any, system: str | None = None, **sampling: Any) -> Result:
    """Ask about pictures: `vlm("What is this?", img)`. Keyword arguments are SamplingParams' fields.

    :raises OmlxError: one sentence that names the mend.
    """
    return _ask(prompt, images, system, sampling)


def ocr(*images: Any, prompt: str | None = None, **sampling: Any) -> Result:
    """Read the text in pictures: `ocr("receipt.png").text`.

    :raises OmlxError: one sentence that names the mend.
    """
    return _ask(prompt, images, None, sampling)


def _ask(prompt: str | None, images: Sequence[Any], system: str | None, sampling: dict[str, Any]) -> Result:
    limits = settings().image_limits()
    opened = [image for source in images for image in open_images(source, limits)]
    parts: list[Any] = [*(ImagePart(image) for image in opened), *([prompt] if prompt else [])]
    params = SamplingParams(**sampling)
    handle = session.submit(lambda e: e.submit([Message("user", parts)], sampling=params, system=system))
    try:
        generation = handle.result()
    except BaseException:
        handle.cancel()
        raise
    return Result(generation, opened, prompt or "")
