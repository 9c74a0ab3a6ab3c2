"""What a checkpoint is, from what its files are: a path is no identity, weights change under it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .detect import Checkpoint
from .headers import safetensors_header

SCHEMA = 2  # the cache's format, as far as a block's records and the words of this identity go
_LIBRARIES = ("mlx", "mlx-vlm", "mlx-lm", "transformers", "tokenizers")  # each computes tokens, pictures or KV
_SAMPLES, _SAMPLE_BYTES, _EDGE_BYTES = 64, 4096, 128
_WHOLE = 16 * 2**20
_TEXTS = (".md", ".gitattributes", ".gitignore", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf")


def identity_of(checkpoint: Checkpoint, dtype: str) -> str:
    """Hex BLAKE2b over all that changes tokens or KV: every file of the folder and of folders in it (configs with their
    quantisation, tokenizer, processor, templates, code, adapters, weights) but pictures and readmes; the KV dtype; the
    cache's format; the versions of the libraries that compute.

    Files up to 16 MiB count whole. Of a larger one: its size, 64 samples of 4 KiB spread from head to tail and, where
    it holds tensors, its whole header and 128 bytes at either end of each tensor: some milliseconds a gigabyte.

    Known limit: a byte that changed in a file of more than 16 MiB, between the samples, isn't seen. A new conversion,
    fine-tune or quantisation changes every tensor that it touches from end to end, so it is.
    """
    made = hashlib.blake2b(digest_size=16, person=b"omlx model")
    versions = " ".join(f"{name}={_version(name)}" for name in _LIBRARIES)
    _add(made, f"{SCHEMA} {dtype} {versions}".encode())
    for path in _files(checkpoint.path):
        _add(made, str(path.relative_to(checkpoint.path)).encode("utf-8", "surrogateescape"))
        _add_file(made, path)
    return made.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__pycache__")))
        for name in sorted(names):
            path = Path(root, name)
            if not name.lower().endswith(_TEXTS) and path.is_file():
                yield path


def _add(made: hashlib.blake2b, content: bytes) -> None:
    """With its length, so that what ends one part can't begin the next."""
    made.update(len(content).to_bytes(8, "little") + content)


def _add_file(made: hashlib.blake2b, path: Path) -> None:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= _WHOLE:
            _add(made, stream.read())
            return
        _add(made, f"{size} sampled".encode())
        for index in range(_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            made.update(stream.read(_SAMPLE_BYTES))
        if path.suffix != ".safetensors":
            return
        header = safetensors_header(path)
        _add(made, repr(sorted(header.items())).encode())
        data = size - max((entry["data_offsets"][1] for entry in header.values()), default=0)
        for entry in header.values():
            begin, end = entry["data_offsets"]
            for start in (begin, max(begin, end - _EDGE_BYTES)):
                stream.seek(data + start)
                made.update(stream.read(min(_EDGE_BYTES, end - start)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
