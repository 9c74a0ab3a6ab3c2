"""What a checkpoint folder holds, read from its files alone (no weights are loaded)."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .families import canonical
from .headers import safetensors_header

_VISION_CONFIG_KEYS = ("vision_config", "vit_config", "vision_tower", "visual", "mm_vision_tower", "vision_encoder")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npz", ".npy", ".h5", ".msgpack", ".joblib")
_VISION_WEIGHT_PARTS = ("vision", "visual", "vit.", "sam_model", "image_encoder", "image_newline", "mm_projector")


@dataclass(frozen=True)
class Checkpoint:
    """Facts of a checkpoint folder. `tensors` is a sample of its tensor names."""

    path: Path
    config: dict[str, Any]
    model_type: str
    vision_config: bool
    vision_weights: bool
    tensors: tuple[str, ...] = field(default=())

    @property
    def is_vlm(self) -> bool:
        return self.vision_config and self.vision_weights


def inspect_checkpoint(path: Path, trust_code: bool = False) -> Checkpoint:
    """Read config.json and the safetensors headers.

    :raises ModelError: no folder, no or a broken config, no weights, or code that isn't trusted.
    """
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder with a model; name a folder or a hub id like org/name.")
    refuse_odd_files(path)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        model_type = canonical(str(config["model_type"]))
    except FileNotFoundError:
        raise ModelError(f"{path} has no config.json, so it is no model folder; check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"{path / 'config.json'} is damaged or names no model_type; get the file again.") from None
    if config.get("model_file") and not trust_code:
        raise ModelError(f"{path} runs its own code ({config['model_file']}); pass trust_code=True if you trust it.")
    names = tensor_names(path)
    if not names:
        _refuse_pickles(path)
        raise ModelError(f"{path} has no .safetensors weights; finish the download or convert the model first.")
    vision_config = any(config.get(key) for key in _VISION_CONFIG_KEYS)
    vision_weights = any(part in name.lower() for name in names for part in _VISION_WEIGHT_PARTS)
    return Checkpoint(path, config, model_type, vision_config, vision_weights, tuple(names))


def refuse_odd_files(path: Path) -> None:
    """A pipe among a checkpoint's files would keep whoever opens it waiting, a device would never end.

    :raises ModelError: names the first that is neither a file nor a folder.
    """
    for root, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            try:
                mode = os.stat(os.path.join(root, name)).st_mode
            except OSError:  # a link that leads nowhere can't be opened either
                continue
            if not stat.S_ISREG(mode):
                raise ModelError(f"{Path(root, name)} is a pipe, socket or device, not a file; remove it.")


def tensor_names(path: Path) -> list[str]:
    """All tensor names of a checkpoint. Every weights file's header is checked, whether or not an index names it.

    :raises ModelError: a weights file that is damaged, pickled or outside the folder.
    """
    headers = {file.name: safetensors_header(file) for file in sorted(path.glob("*.safetensors"))}
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return sorted(name for header in headers.values() for name in header)
    try:
        weights = {str(name): str(file) for name, file in json.loads(index.read_bytes())["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{index} is damaged; get the file again.") from None
    for file in sorted(set(weights.values()) - set(headers)):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelError(f"{index} names {file}, which is no .safetensors file of its folder; get the file again.")
    return sorted(weights)


def _refuse_pickles(path: Path) -> None:
    found = sorted(f.name for f in path.iterdir() if f.suffix in PICKLED)
    if found:
        raise ModelError(
            f"{path} has only pickled weights ({', '.join(found[:3])}), and reading a pickle runs what is in it; "
            "convert them to .safetensors, or get a checkpoint that has them."
        )
