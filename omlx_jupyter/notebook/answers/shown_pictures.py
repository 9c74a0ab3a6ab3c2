"""The pictures of a question, where its answer is saved: to be seen without a kernel, in any viewer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import ImageError
from ..settings.config import settings
from .html import Html, html

if TYPE_CHECKING:
    from PIL import Image

    from ...images.kept import KeptImage

_MOST = 8
_SMALL = (160, 120)  # px, of what is somewhere else as well
_WIDEST = 640  # px, as it is shown
_MOST_BYTES = 2**20  # of one that is saved as it was sent


def pictures_html(images: Sequence[KeptImage]) -> Html:
    """A line of pictures: of files, pages and addresses thumbnails; the notebook's own (figures, arrays), which are
    nowhere else, as they were sent. Nothing where the setting says so."""
    if settings().save_pictures == "none":
        return Html()
    made = Html()
    for image in images[:_MOST]:
        try:
            made = Html(made + _shown(image))
        except (ImageError, OSError, ValueError):  # its file has gone meanwhile
            continue
    return made


def _shown(image: KeptImage) -> Html:
    picture = image.preview().convert("RGB")
    data = b""
    if image.is_own and settings().save_pictures != "thumbnails":
        data, kind, width = _encoded(picture, "PNG"), "png", min(picture.width, _WIDEST)
    if not data or len(data) > _MOST_BYTES:
        picture.thumbnail(_SMALL)
        data, kind, width = _encoded(picture, "JPEG"), "jpeg", picture.width
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return html('<img src="{}" alt="{}" width="{}"> ', address, image.source[:200], width)


def _encoded(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=75)
    return buffer.getvalue()
