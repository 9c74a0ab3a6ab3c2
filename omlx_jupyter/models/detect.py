"""What a checkpoint folder holds, read from its files alone (no weights are loaded)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .families import canonical

_VISION_CONFIG_KEYS = ("vision_config", "vit_config", "vision_tower", "visual", "mm_vision_tower", "vision_encoder")
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
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        model_type = canonical(str(config["model_type"]))
    except FileNotFoundError:
        raise ModelError(f"{path} has no config.json, so it is no model folder; check the path.") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{path / 'config.json'} is damaged or names no model_type; get the file again.") from None
    if config.get("model_file") and not trust_code:
        raise ModelError(f"{path} runs its own code ({config['model_file']}); pass trust_code=True if you trust it.")
    names = tensor_names(path)
    if not names:
        raise ModelError(f"{path} has no .safetensors weights; finish the download or convert the model first.")
    vision_config = any(config.get(key) for key in _VISION_CONFIG_KEYS)
    vision_weights = any(part in name.lower() for name in names for part in _VISION_WEIGHT_PARTS)
    return Checkpoint(path, config, model_type, vision_config, vision_weights, tuple(names))


def tensor_names(path: Path) -> list[str]:
    """All tensor names of a checkpoint, from its index or its files' headers.

    :raises ModelError: a weights file that is cut short.
    """
    index = path / "model.safetensors.index.json"
    if index.exists():
        try:
            return sorted(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError):
            raise ModelError(f"{index} is damaged; get the file again.") from None
    return sorted(name for file in sorted(path.glob("*.safetensors")) for name in safetensors_header(file))


def safetensors_header(file: Path) -> dict[str, Any]:
    """Tensor name -> {dtype, shape, data_offsets}.

    :raises ModelError: the file is cut short or is no safetensors file.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > 100 * 2**20:
                raise ValueError("header too long")
            header = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for n, entry in header.items() if n != "__metadata__"), default=0)
            if file.stat().st_size < 8 + length + end:
                raise ValueError("data cut short")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is damaged or cut short ({error}); download it again.") from None
    return {name: entry for name, entry in header.items() if name != "__metadata__"}
