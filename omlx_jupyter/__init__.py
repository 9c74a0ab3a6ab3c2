"""Vision-language models in the notebook.

    %load_ext omlx_jupyter
    %ocr receipt.png
    %%vlm -i chart.png
    What does this show?

In plain Python: `from omlx_jupyter import Engine, SamplingParams`. Importing this package loads
neither mlx nor transformers; they come in with the first model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .chat.client import Engine as Engine
    from .errors import OmlxError as OmlxError
    from .notebook.cells.functions import ocr as ocr
    from .notebook.cells.functions import vlm as vlm
    from .remote.connect import connect as connect
    from .runs.evaluate import evaluate as evaluate
    from .types import Generation as Generation
    from .types import ImagePart as ImagePart
    from .types import Message as Message
    from .types import SamplingParams as SamplingParams
    from .types import Usage as Usage

__version__ = "0.1.0"

_PUBLIC = {
    "Engine": "chat.client",
    "Generation": "types",
    "ImagePart": "types",
    "Message": "types",
    "OmlxError": "errors",
    "SamplingParams": "types",
    "Usage": "types",
    "connect": "remote.connect",
    "evaluate": "runs.evaluate",
    "ocr": "notebook.cells.functions",
    "vlm": "notebook.cells.functions",
}
__all__ = [
    "Engine",
    "Generation",
    "ImagePart",
    "Message",
    "OmlxError",
    "SamplingParams",
    "Usage",
    "connect",
    "evaluate",
    "load_ipython_extension",
    "ocr",
    "unload_ipython_extension",
    "vlm",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where `jupyter labextension develop` finds the built extension."""
    return [{"src": "labextension", "dest": "omlx_jupyter"}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by `%load_ext omlx_jupyter`."""
    importlib.import_module(".notebook.extension", __name__).load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by `%unload_ext omlx_jupyter`: ends the engine and takes the magics away."""
    importlib.import_module(".notebook.extension", __name__).unload(shell)
