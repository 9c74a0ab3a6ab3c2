"""What a checkpoint is, from what its files are: a path is no identity, weights change under it."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .detect import Checkpoint, safetensors_header

SCHEMA = 1  # of the records that a block holds
_SAMPLES, _SAMPLE_BYTES = 64, 4096
_SMALL = 64 * 2**20


def identity_of(checkpoint: Checkpoint, dtype: str) -> str:
    """Hex BLAKE2b over configs, processor, tokenizer and template files, tensor names, shapes and dtypes, a
    sample of the weights' bytes, the KV dtype, the record schema and mlx-vlm's version.

    A few milliseconds: 64 samples of 4 KiB a weights file, the ends included.
    """
    made = hashlib.blake2b(digest_size=16, person=b"omlx model")
    made.update(f"{SCHEMA} {dtype} {_mlx_vlm()}".encode())
    for path in sorted(p for p in checkpoint.path.iterdir() if p.is_file()):
        if path.suffix == ".safetensors":
            made.update(f"\n{path.name} {path.stat().st_size} ".encode())
            made.update(repr(sorted(safetensors_header(path).items())).encode())
            _sample(made, path)
        elif path.suffix in (".json", ".jinja", ".model", ".txt", ".tiktoken") and path.stat().st_size <= _SMALL:
            made.update(f"\n{path.name} ".encode() + path.read_bytes())
    return made.hexdigest()


def _sample(made: hashlib.blake2b, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        for index in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            made.update(stream.read(_SAMPLE_BYTES))


def _mlx_vlm() -> str:
    try:
        return version("mlx-vlm")
    except PackageNotFoundError:
        return "?"
