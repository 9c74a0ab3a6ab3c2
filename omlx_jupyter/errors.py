"""Every error that omlx_jupyter raises. Each message is one sentence that names the mend."""

from __future__ import annotations

from .visible import shown


class OmlxError(Exception):
    """Base of all errors of this package. Its text may quote a file's name or a server's words, and tracebacks print
    it as it is: what a terminal would act on is shown instead."""

    def __str__(self) -> str:
        return shown(super().__str__())


class ImageError(OmlxError):
    """A picture can't be fetched, is too large or isn't a picture."""


class ModelError(OmlxError):
    """A model can't be found, loaded or used for what was asked."""


class RequestError(OmlxError):
    """A request that can't be served as it is: bad settings, a prompt that is too long."""


class CacheError(OmlxError):
    """The prefix cache's folder can't be emptied. Requests never raise it: to them a faulty cache is a miss."""


class EngineClosedError(OmlxError):
    """The engine was closed; load a new one."""


class EngineFaultError(OmlxError):
    """The device or the engine failed under the running requests; the next request starts a fresh batch."""


class ProcessError(OmlxError):
    """An engine was used in a process that it doesn't live in: after a fork, or pickled into another."""


class RunError(OmlxError):
    """A run can't be saved or gone on with where it was to be."""
