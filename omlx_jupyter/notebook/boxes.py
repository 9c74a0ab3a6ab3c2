"""A page with the boxes of its lines drawn on it: static HTML that is saved with the notebook."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from .result import Result, ResultList

if TYPE_CHECKING:
    from ..images.decoded import DecodedImage

_WIDEST = 900  # pixels of the picture that is kept in the notebook


def show_boxes(value: Result | ResultList) -> None:
    """Display each page of an answer with its lines' boxes; pages read whole have none."""
    from IPython.display import HTML, display

    for result in [value] if isinstance(value, Result) else value:
        if isinstance(result, Result) and result.lines and result.images:
            display(HTML(boxes_html(result)))


def boxes_html(result: Result) -> str:
    """The page as a picture under one polygon a line; a line's text is its polygon's title."""
    picture: DecodedImage = result.images[0]
    data = base64.b64encode(picture.png(_WIDEST)).decode()
    shapes = []
    for line in result.lines:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.box)
        title = html.escape(f"{line.text} ({line.logprob:.2f})")
        shapes.append(f'<polygon points="{corners}" tabindex="0"><title>{title}</title></polygon>')
    style = "fill:rgba(30,120,255,.12);stroke:#1e78ff;stroke-width:1;vector-effect:non-scaling-stroke"
    return (
        f'<svg viewBox="0 0 {picture.width} {picture.height}" role="img" aria-label="The page with its lines"'
        f' style="max-width:{min(picture.width, _WIDEST)}px;width:100%">'
        f'<image href="data:image/png;base64,{data}" width="{picture.width}" height="{picture.height}"/>'
        f'<g style="{style}">{"".join(shapes)}</g></svg>'
    )
