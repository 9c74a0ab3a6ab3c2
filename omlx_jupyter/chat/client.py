"""The public engine: the batching engine, and what chat adds to it."""

from __future__ import annotations

from ..engine.engine import Engine as _Engine


class Engine(_Engine):
    __doc__ = _Engine.__doc__
