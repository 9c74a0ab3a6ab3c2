"""Which layout detector finds a page's regions: the one that is named, the one that is set, or white space alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ...errors import RequestError
from ..settings import per_model
from ..settings.config import settings

if TYPE_CHECKING:
    from ...models.layout_model import LayoutModel

_lock = threading.Lock()
_loaded: list[LayoutModel] = []  # at most one


def chosen(layout: bool | str) -> LayoutModel | bool:
    """`True` is as set; a text names a detector, a folder or hub id. It stays loaded until another one is named.

    :raises ModelError: it can't be loaded.
    :raises RequestError: it is neither.
    """
    if not isinstance(layout, bool | str):
        raise RequestError(f"layout is {layout!r}; it is True, False, or a layout model's folder or hub id.")
    name = settings().layout_model if layout is True else layout
    if not name:
        return layout is True
    name = per_model.resolve(name) or name
    from ...models.layout_model import LayoutModel

    with _lock:
        if _loaded and _loaded[0].name != name:
            _loaded.pop().close()
        if not _loaded:
            _loaded.append(LayoutModel(name, settings().trust_code))
        return _loaded[0]


def forget() -> None:
    """Free what is loaded."""
    with _lock:
        while _loaded:
            _loaded.pop().close()
