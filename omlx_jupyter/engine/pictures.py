"""The pictures of rows that prefill: encoded once, known from RAM or from disk after that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import mlx.core as mx

from ..cache.features import FeatureCache
from .guard import Guard
from .reuse import Reuse
from .row import Row

if TYPE_CHECKING:
    from ..models.loaded import LoadedModel


class Pictures:
    """Engine thread only. A row's `features` are those of its pictures behind the restored prefix, in order."""

    def __init__(self, model: LoadedModel, reuse: Reuse, guard: Guard, feature_bytes: int) -> None:
        self._model, self._reuse, self._guard = model, reuse, guard
        self.features: FeatureCache[mx.array] = FeatureCache(feature_bytes)
        self.encoded = 0

    @staticmethod
    def missing(row: Row) -> bool:
        """Whether a picture behind the restored prefix isn't encoded yet."""
        return row.images_done + len(row.features) < len(row.prompt.images)

    def ahead(self, row: Row) -> bool:
        """Whether a picture lies behind what is being restored, and isn't encoded yet."""
        if row.prefix is None or row.prefix.reading is None:
            return False
        row.images_done = sum(span.end <= row.prefix.plan.length for span in row.prefix.chain.spans)
        return self.missing(row)

    def encode_next(self, row: Row) -> None:
        """One picture more: encoded, or as it was remembered."""
        image = row.prompt.images[row.images_done + len(row.features)]
        found = self._known_features(row, image.digest)
        if found is None:
            began = time.perf_counter()
            found = self._model.encode_image(image)
            self._reuse.rates.encoded(time.perf_counter() - began)
            self._keep(image.digest, found)
            self._reuse.keep_features(row, image.digest, found)
            row.request.course.images_encoded += 1
            self.encoded += 1
        else:
            row.request.course.images_reused += 1
            row.request.course.saved_s += self._reuse.rates.per_image
        row.features.append(found)

    def _known_features(self, row: Row, digest: str) -> mx.array | None:
        try:
            found = self.features.get(digest)
        except Exception as error:
            self._guard.cache(error)
            found = None
        if found is None:
            found = self._reuse.stored_features(row, digest)
            if found is not None:
                self._keep(digest, found)
        return found

    def _keep(self, digest: str, features: mx.array) -> None:
        try:
            self.features.put(digest, features)
        except Exception as error:
            self._guard.cache(error)
