"""What a fault at run time has switched off, until the process ends: by checkpoint, whatever loads it again."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loaded import LoadedModel

_log = logging.getLogger(__name__)
_WHY = {
    "alone": "there was a fault while requests ran together; they run one at a time until the kernel ends",
    "whole": "there was a fault in a prompt that was taken apart; prompts run whole and uncached until the kernel ends",
}
_lock = threading.Lock()
_off: dict[tuple[str, str], str] = {}  # (folder, "alone" or "whole") -> why


def switch_off(model: LoadedModel, what: str, error: BaseException) -> str:
    """Let the model's rows run "alone", or its prompts "whole", from now on; why, in a sentence. Told by a warning."""
    why = _WHY[what]
    with _lock:
        _off[str(model.checkpoint.path), what] = why
    apply(model)
    _log.warning("%s: %s", model.name, why)
    _log.debug("what was met", exc_info=error)
    return why


def apply(model: LoadedModel) -> LoadedModel:
    """Set what was switched off."""
    with _lock:
        alone, whole = (_off.get((str(model.checkpoint.path), what), "") for what in ("alone", "whole"))
    model.alone_because = model.alone_because or alone
    model.whole_because = model.whole_because or whole
    return model


def switch_on(model: LoadedModel) -> None:
    """Forget what was switched off; the next load tries it again."""
    with _lock:
        for what in ("alone", "whole"):
            _off.pop((str(model.checkpoint.path), what), None)
