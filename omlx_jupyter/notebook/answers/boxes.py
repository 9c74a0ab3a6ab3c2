"""A page with the boxes of its lines drawn on it: static HTML that is saved with the notebook."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from .html import Html, html
from .result import Result, ResultList

if TYPE_CHECKING:
    from ...images.decoded import DecodedImage

_WIDEST = 900  # pixels of the picture that is kept in the notebook


def show_boxes(value: Result | ResultList) -> None:
    """Display each page of an answer with its lines' boxes; pages read whole have none."""
    from IPython.display import HTML, display

    for result in [value] if isinstance(value, Result) else value:
        if isinstance(result, Result) and result.lines and result.images:
            display(HTML(str(boxes_html(result))))


def boxes_html(result: Result) -> Html:
    """The page as a picture under one polygon a line; a line's text is its polygon's title."""
    picture: DecodedImage = result.images[0]
    data = base64.b64encode(picture.png(_WIDEST)).decode()
    shapes = Html()
    for line in result.lines:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.box)
        title = f"{line.text} ({line.logprob:.2f})"
        shape = html('<polygon points="{}" tabindex="0"><title>{}</title></polygon>', corners, title)
        shapes = Html(shapes + shape)
    width, height = picture.width, picture.height
    return html(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="The page with its lines" style="max-width:{}px;width:100%">'
        '<image href="data:image/png;base64,{}" width="{}" height="{}"/><g style="{}">{}</g></svg>',
        width,
        height,
        min(width, _WIDEST),
        data,
        width,
        height,
        "fill:rgba(30,120,255,.12);stroke:#1e78ff;stroke-width:1;vector-effect:non-scaling-stroke",
        shapes,
    )
