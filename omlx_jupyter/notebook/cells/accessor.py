"""`df["image"].omlx.ocr()`: reading a column of pictures."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    import pandas

    from ...types import SamplingWords


class OmlxAccessor:
    """Pictures in a Series: paths, URLs, bytes, PIL images."""

    def __init__(self, series: pandas.Series) -> None:
        self._series = series

    def ocr(
        self,
        prompt: str | None = None,
        concurrency: int = 16,
        whole: bool = False,
        layout: bool | str = False,
        hint: object = None,
        draft: bool | None = None,
        **sampling: Unpack[SamplingWords],
    ) -> Any:
        """The texts as a Series with the same index; a picture that can't be read gives None. `hint` may be a
        column beside it: what the pictures may say."""
        from .functions import read_pictures

        found = read_pictures(self._series, concurrency, prompt, whole, hint, draft, sampling, layout)
        texts = [None if result.finish_reason == "error" else result.text for result in found]
        return type(self._series)(texts, index=self._series.index, name="text", dtype=object)


def register(info: object = None) -> None:
    """Add `.omlx` to pandas' Series, once pandas is there. Called before each cell: a look into a dictionary.

    A cell that imports pandas and uses `.omlx` gets it imported a moment earlier.
    """
    cell = getattr(info, "raw_cell", None) or ""
    if "pandas" not in sys.modules and ".omlx." in cell and "pandas" in cell:
        with contextlib.suppress(ImportError):
            import pandas as _  # noqa: F401
    pandas = sys.modules.get("pandas")
    if pandas is not None and hasattr(pandas, "api") and not hasattr(pandas.Series, "omlx"):
        pandas.api.extensions.register_series_accessor("omlx")(OmlxAccessor)
