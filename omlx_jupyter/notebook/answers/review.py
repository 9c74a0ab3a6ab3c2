"""`run.review()`: what the model was least sure of, beside its picture, to accept or to correct."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ...chat.documents import cut_out
from ...errors import OmlxError
from ...images.source import open_images
from ...runs.doubts import Doubt, doubts, without
from ...runs.run import Run

_JS = Path(__file__).parent.parent / "js"
_WIDE, _AROUND = 900, 24  # pixels: of the picture that is sent, and of the page round a line


@cache
def _widget_class() -> Any:
    import anywidget
    import traitlets

    class ReviewView(anywidget.AnyWidget):
        """`item` is what is looked at now."""

        _esm = _JS / "review.js"
        _css = _JS / "review.css"
        item = traitlets.Dict().tag(sync=True)
        note = traitlets.Unicode("").tag(sync=True)

    return ReviewView


class Review:
    """Goes through a run's doubts. What is saved is a new line in the run's file, also where nothing was changed: it
    was looked at."""

    def __init__(self, run: Run, show: Callable[[dict[str, Any]], None]) -> None:
        self._run, self._show = run, show
        self.left: list[Doubt] = doubts(run.records())
        self.at = self.saved = 0
        self._count = len(self.left)
        self.look()

    def look(self) -> None:
        """Show the doubt whose turn it is."""
        if not self.left:
            self._show({})
            return
        self.at = max(0, min(self.at, len(self.left) - 1))
        doubt = self.left[self.at]
        number = self._count - len(self.left) + self.at + 1
        self._show({"number": number, "count": self._count, "source": doubt.record.name, "place": doubt.place,
                    "text": doubt.said, "sure": round(doubt.sure, 4), "picture": _picture(doubt)})  # fmt: skip

    def act(self, kind: str, text: str) -> str:
        """save, skip or back; what went wrong, in a sentence, or ""."""
        if not self.left:
            return ""
        if kind != "save":
            self.at += 1 if kind == "skip" else -1
            self.look()
            return ""
        doubt = self.left[self.at]
        try:
            value, said = doubt.corrected(text)
            record = doubt.record
            new = self._run.correct(record.source, value, said or None, page=record.page, column=record.column)
        except ValueError as error:
            return f"{doubt.place or 'the answer'} is a value of another kind ({error})."
        except OmlxError as error:
            return str(error)
        self.saved += 1
        self.left = without(self.left, doubt, new)
        self.look()
        return ""


def review(run: Run) -> Any:
    """The widget. :raises RunError: the run's file can't be read."""
    widget = _widget_class()()
    made = Review(run, lambda item: widget.set_trait("item", item))

    def hear(_: object, content: object, __: object) -> None:
        if isinstance(content, dict) and content.get("act") in ("save", "skip", "back"):
            widget.note = made.act(content["act"], str(content.get("text", ""))) or f"{made.saved} saved"

    widget.on_msg(hear)
    widget.review = made
    return widget


def _picture(doubt: Doubt) -> str:
    """The page, or the part of it round a line, as a data URL; "" where the source can't be opened any longer."""
    record = doubt.record
    try:
        source = record.source if record.page is None else f"{record.source}[{record.page}]"
        picture = open_images(source)[0]
    except OmlxError:
        return ""
    if doubt.box:
        picture = cut_out(picture, doubt.box, _AROUND)
    image = picture.pil()
    image.thumbnail((_WIDE, _WIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
