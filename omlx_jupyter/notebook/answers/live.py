"""The widget behind a running answer: pieces go to it as they come, never the whole text again."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ...images.decoded import DecodedImage

_JS = Path(__file__).parent.parent / "js"
_THUMBNAIL = (80, 60)
_MOST_THUMBNAILS = 8


class LiveWidget(Protocol):
    """The widget, as its views use it."""

    text: str
    phase: str

    def send(self, content: Mapping[str, object]) -> object: ...
    def close(self) -> object: ...


@cache
def _widget_class() -> Any:
    import anywidget
    import traitlets

    class LiveAnswer(anywidget.AnyWidget):
        """`text` is sent whole only twice, early, for views that came late; else messages carry deltas."""

        _esm = _JS / "stream.js"
        _css = _JS / "stream.css"
        text = traitlets.Unicode("").tag(sync=True)
        phase = traitlets.Unicode("…").tag(sync=True)
        thumbnails = traitlets.List(traitlets.Unicode()).tag(sync=True)
        stoppable = traitlets.Bool(True).tag(sync=True)

        def _repr_mimebundle_(self, **kwargs: object) -> Any:
            made = super()._repr_mimebundle_(**kwargs)
            bundle = made[0] if isinstance(made, tuple) else made
            return {**(bundle or {}), "text/plain": "…"}

    return LiveAnswer


def make(images: Sequence[DecodedImage], stoppable: bool) -> LiveWidget:
    """A widget for a new answer about `images` (decoded pictures)."""
    shown = [thumbnail(image) for image in images[:_MOST_THUMBNAILS]]
    made: LiveWidget = _widget_class()(thumbnails=shown, stoppable=stoppable)
    return made


def thumbnail(image: DecodedImage) -> str:
    """A small JPEG as a data URL."""
    small = image.pil().convert("RGB")
    small.thumbnail(_THUMBNAIL)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
