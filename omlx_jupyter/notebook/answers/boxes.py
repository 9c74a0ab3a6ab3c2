"""A picture with what an answer found on it: static HTML that is saved with the notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from .html import Html, html
from .result import Result, ResultList

if TYPE_CHECKING:
    from ...images.kept import KeptImage

_WIDEST = 900  # pixels of the picture that is kept in the notebook
_MOST_LISTED = 200
_MARKED = "{fill:rgba(255,140,0,.35);stroke:#e07000;stroke-width:3}"
_BLUE = (30, 120, 255)
_OVER = "fill:rgba(30,120,255,.08);stroke:#1e78ff;stroke-width:1;vector-effect:non-scaling-stroke"


@dataclass(frozen=True)
class Shape:
    """A polygon in the picture's pixels and what is said of it."""

    corners: Sequence[tuple[float, float]]
    title: str


def show_boxes(value: Result | ResultList) -> None:
    """Display each picture of an answer with the lines that were read there, or with the boxes that the answer names.
    Nothing for pages read whole without boxes."""
    from IPython.display import HTML, display

    for result in [value] if isinstance(value, Result) else value:
        if isinstance(result, Result) and result.images and (result.lines or result.regions or result.places):
            display(HTML(str(boxes_html(result))))


def boxes_html(result: Result) -> Html:
    """The picture under one polygon a line, or a place that the answer names. Pointed at or reached by Tab it says what
    it is; places are listed below too, and one of the list that is pointed at is marked on the picture."""
    picture: KeptImage = result.images[0]
    if result.regions:
        return _listed(picture, [Shape(region.box, f"{region.kind}: {region.text[:80]}") for region in result.regions])
    if result.lines:
        return _drawn(picture, [Shape(line.box, f"{line.text} ({line.logprob:.2f})") for line in result.lines], "lines")
    return _listed(picture, [Shape(place.corners, place.label or "?") for place in result.places])


def _drawn(picture: KeptImage, shapes: Sequence[Shape], what: str) -> Html:
    """The outlines are part of the picture, so that they are seen where SVG is taken out of a notebook that isn't
    trusted; over it lie the shapes that say what they are."""
    width, height = picture.width, picture.height
    made = Html()
    for shape in shapes:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.corners)
        polygon = html('<polygon points="{}" tabindex="0"><title>{}</title></polygon>', corners, shape.title)
        made = Html(made + polygon)
    return html(
        '<div style="position:relative;max-width:{}px"><img src="data:image/png;base64,{}" alt="The page with its {}" '
        'style="width:100%;display:block"><svg viewBox="0 0 {} {}" role="img" aria-label="The page\'s {}" '
        'style="position:absolute;inset:0;width:100%;height:100%"><g style="{}">{}</g></svg></div>',
        min(width, _WIDEST),
        base64.b64encode(_outlined(picture, shapes)).decode(),
        what,
        width,
        height,
        what,
        _OVER,
        made,
    )


def _outlined(picture: KeptImage, shapes: Sequence[Shape]) -> bytes:
    """PNG bytes of it, at most _WIDEST pixels wide, with an outline round each shape."""
    from PIL import ImageDraw

    image = picture.preview()
    image.thumbnail((_WIDEST, _WIDEST))
    across, down = image.width / picture.width, image.height / picture.height
    canvas = ImageDraw.Draw(image)
    for shape in shapes:
        corners = [(min(x * across, image.width - 1), min(y * down, image.height - 1)) for x, y in shape.corners]
        canvas.polygon(corners, outline=_BLUE)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _listed(picture: KeptImage, shapes: Sequence[Shape]) -> Html:
    """With a list of the shapes; whichever of the two is pointed at, or has the focus, marks the other: by CSS, so that
    it works in a saved notebook too."""
    name = f"omlx-places-{uuid4().hex[:12]}"
    items, rules = Html(), []
    for number, shape in enumerate(shapes[:_MOST_LISTED], 1):
        items = Html(items + html('<li tabindex="0">{}</li>', shape.title))
        chosen = f"nth-child({number}):is(:hover, :focus)"
        rules.append(f".{name}:has(li:{chosen}) polygon:nth-child({number})" + _MARKED)
        rules.append(f".{name}:has(polygon:{chosen}) li:nth-child({number})" + "{outline:2px solid #e07000}")
    if len(shapes) > _MOST_LISTED:
        items = Html(items + html("<li>and {} more</li>", len(shapes) - _MOST_LISTED))
    return html(
        '<style>{}</style><div class="{}">{}<ol style="columns:16em">{}</ol></div>',
        Html("".join(rules)),  # of numbers and the name alone
        name,
        _drawn(picture, shapes, "places"),
        items,
    )
