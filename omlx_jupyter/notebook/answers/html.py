"""HTML that shows text: one way to make it, so that nothing goes in as it is."""

from __future__ import annotations

from html import escape


class Html(str):
    """HTML made by `html`; it is not escaped again."""

    __slots__ = ()


def html(template: str, *fields: object) -> Html:
    """The template with each `{}` filled, escaped unless it is `Html` itself."""
    return Html(template.format(*(field if isinstance(field, Html) else escape(str(field)) for field in fields)))
