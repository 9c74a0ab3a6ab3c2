"""The decode batch of families that run alone: one row, over the caches that its prefill filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from ..models import whole
from ..models.kv_state import cache_bytes
from ..models.sampling import choose, finite_only
from .batch import Sampled, sampled_of
from .row import Row, Slot

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel


class SoloBatch:
    """Stands where DecodeBatch does. Step n + 1 is launched before step n's token is read."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._row: Row | None = None
        self._caches: list[Any] = []
        self._carried: dict[str, Any] = {}
        self._logits: Any = None  # of the prompt, until the first step samples from them
        self._token: Any = None  # (1,) the token to feed next
        self.steps = 0

    @property
    def rows(self) -> list[Row]:
        return [] if self._row is None else [self._row]

    @property
    def nbytes(self) -> int:
        return cache_bytes(self._caches)

    def prefill(self, row: Row) -> None:
        """The whole prompt at once; the row then decodes."""
        assert row.cache is not None
        self._logits, self._carried = whole.prefill(self._model.model, row.prompt, row.cache)
        self._row, self._caches, row.cache = row, row.cache, None

    def leave(self, row: Row) -> None:
        self.drop()

    def drop(self) -> None:
        self._row = self._logits = self._token = None
        self._caches, self._carried = [], {}

    def step(self) -> list[Sampled]:
        """Launch a token and return the one that was ready; the first is returned at once."""
        row, token = self._row, self._token
        assert row is not None
        first = token is None
        if token is None:
            logits, self._logits = self._logits, None
        else:
            self._accept(row, token)
            if row.failed is not None:
                return [Sampled(row, error=row.failed)]
            logits, self._carried = whole.decode(self._model.model, token, self._caches, self._carried)
        tokens, chosen = choose(logits, [row.sampler])
        tokens = finite_only(tokens, logits)
        mx.async_eval(tokens)
        ready = [] if first or row.slot.told else [sampled_of(row, int(np.array(token)[0]), row.slot.chosen)]
        self._token, row.slot = tokens, Slot(chosen[0], fresh=False, told=first)
        self.steps += 1
        return [sampled_of(row, int(np.array(tokens)[0]), row.slot.chosen)] if first else ready

    def _accept(self, row: Row, token: mx.array) -> None:
        """A guide that waits needs the last token on the host before it masks the next."""
        if row.waits_for_guide:
            row.follow_to(int(np.array(token)[0]))
