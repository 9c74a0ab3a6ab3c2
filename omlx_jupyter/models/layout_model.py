"""A page's regions by a layout detector of mlx-vlm's (PP-DocLayoutV3 and what is made of it)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .detect import inspect_checkpoint
from .hub import resolve_model
from .own_thread import OwnThread
from .trust import gate

if TYPE_CHECKING:
    from ..images.decoded import DecodedImage

MODEL_TYPE = "pp_doclayout_v3"
_KINDS = {
    "Title": "title",
    "SectionHeader": "heading",
    "Table": "table",
    "Equation": "formula",
    "Figure": "figure",
    "Picture": "figure",
    "PageHeader": "header",
    "PageFooter": "footer",
    "PageNumber": "footer",
}


@dataclass(frozen=True)
class Detected:
    """`kind` is title, heading, text, table, formula, figure, header or footer; `box` is left, top, right, bottom in
    the picture's pixels; `score` says how sure the detector was, 0 to 1."""

    kind: str
    box: tuple[float, float, float, float]
    score: float


class LayoutModel:
    """Loaded and run on a thread of its own, beside the engine's: MLX's arrays belong to the thread that made them.
    About 130 MB for PP-DocLayoutV3; it isn't counted in the engine's memory."""

    def __init__(self, path_or_repo_id: str | Path, trust_code: bool = False, side: int = 1024) -> None:
        """`side`: pixels of the square that a page is drawn into; 1,024 is what it was trained on.

        :raises ModelError: it isn't there, is no layout detector, or can't be loaded.
        """
        self.name, self._side = str(path_or_repo_id), side
        self._thread = OwnThread("omlx-layout")
        try:
            self._backend = self._thread.call(self._load, trust_code)
        except BaseException:
            self.close()
            raise

    def _load(self, trust_code: bool) -> Any:
        checkpoint = inspect_checkpoint(resolve_model(self.name, trust_code), trust_code)
        if checkpoint.model_type != MODEL_TYPE:
            raise ModelError(
                f"{self.name} is a {checkpoint.model_type} model; a layout model is of the type {MODEL_TYPE}."
            )
        from mlx_vlm.models.indic_ocr.pipeline import LayoutOptions, MLXLayoutBackend
        from mlx_vlm.utils import load_model

        try:
            with gate(checkpoint.path, trust_code) as opened:
                try:
                    return MLXLayoutBackend(load_model(opened.view), LayoutOptions(img_size=self._side))
                finally:
                    opened.close()
        except Exception as error:
            told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise ModelError(
                f"the layout model {self.name} can't be loaded ({told}); a file of it is missing or damaged."
            ) from error

    def detect(self, picture: DecodedImage) -> list[Detected]:
        """A page's regions in reading order.

        :raises ModelError: the detector failed.
        """
        backend = self._backend
        if backend is None:
            raise ModelError(f"the layout model {self.name} was closed.")
        try:
            blocks = self._thread.call(backend.detect, picture.pil())
        except Exception as error:
            raise ModelError(f"the layout model {self.name} failed ({type(error).__name__}: {error}).") from error
        found = []
        for block in sorted(blocks, key=lambda b: b.order):
            left, top, right, bottom = (float(side) for side in block.bbox_xyxy)
            if right - left >= 2 and bottom - top >= 2:
                box = (left, top, right, bottom)
                found.append(Detected(_KINDS.get(block.type, "text"), box, float(block.conf)))
        return found

    def close(self) -> None:
        """Free it. Twice is harmless."""
        self._backend = None
        self._thread.close()
