"""What a fault at run time switches off, so that what it ended is worth trying again the plain way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OmlxError
from ..models import switched
from ..models.found import FoundModel
from ..models.places import NotFound
from .guard import NotFiniteError
from .row import Row

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel


class Switching:
    """Engine thread only."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def goes_alone(self, error: BaseException, rows: int) -> bool:
        """Whether a fault while `rows` ran together has switched that off."""
        if rows > 1 and not self._model.alone_because:
            switched.switch_off(self._model, "alone", error)
        return rows > 1

    def no_number(self, errors: list[BaseException], rows: int) -> bool:
        """The same of a row's errors, where these say that its logits were no numbers."""
        return bool(errors) and isinstance(errors[0], NotFiniteError) and self.goes_alone(errors[0], rows)

    def goes_whole(self, error: BaseException, row: Row) -> bool:
        """Whether a fault in a row's prompt, which was taken apart, has switched that off."""
        apart = isinstance(self._model, FoundModel) and row.prompt.inputs is None
        if not apart or (isinstance(error, OmlxError) and not isinstance(error, NotFound)):
            return False
        if not self._model.whole_because:
            switched.switch_off(self._model, "whole", error)
        return True
