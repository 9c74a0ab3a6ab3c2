"""A checkpoint's identity changes with whatever changes its tokens (1 s)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from omlx_jupyter.models import identity
from omlx_jupyter.models.detect import inspect_checkpoint
from omlx_jupyter.models.hub import embedded_path
from omlx_jupyter.models.identity import identity_of


def known(folder: Path, dtype: str = "float32") -> str:
    return identity_of(inspect_checkpoint(folder), dtype)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded_path(), tmp_path / "model"))


def test_the_same_files_elsewhere_are_the_same(copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    (other / "README.md").write_text("another")
    os.utime(other / "config.json", (0, 0))
    assert known(other) == known(copy)


def test_each_file_counts(copy: Path) -> None:
    before = known(copy)
    seen = {before}
    for path in sorted(p for p in copy.iterdir() if p.suffix not in (".md", ".safetensors")):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        seen.add(known(copy))
        path.write_bytes(content)
    names = ("adapters.safetensors.txt", "adapter_config.json", "vocab.bpe", "code.py", "sub/config.json", "merges.txt")
    for name in names:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"1")
        seen.add(known(copy))
        (copy / name).unlink()
    assert known(copy) == before
    assert len(seen) == 1 + len(list(copy.glob("*.json"))) + len(list(copy.glob("*.jinja"))) + len(names)


def test_a_byte_of_small_weights_counts(copy: Path) -> None:
    before = known(copy)
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 12345] ^= 1
    path.write_bytes(content)
    assert known(copy) != before


def test_large_weights_are_sampled_at_both_ends_and_at_each_tensor(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omlx_jupyter.models.headers import safetensors_header

    monkeypatch.setattr(identity, "_WHOLE", 2**20)
    path = copy / "model.safetensors"
    before, content = known(copy), path.read_bytes()
    header = safetensors_header(path)
    data = len(content) - max(e["data_offsets"][1] for e in header.values())
    begins = [data + e["data_offsets"][0] for e in header.values()]
    ends = [data + e["data_offsets"][1] - 1 for e in header.values()]
    for place in (0, len(content) - 1, *begins[::40], *ends[::40]):
        changed = bytearray(content)
        changed[place] ^= 1
        if place == 0:
            continue  # the header's length: another test's
        path.write_bytes(changed)
        assert known(copy) != before, place
    path.write_bytes(content)
    assert known(copy) == before


def test_dtype_versions_and_format_count(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {known(copy), known(copy, "bfloat16")}
    for library in ("mlx", "mlx-vlm", "mlx-lm", "transformers"):
        with monkeypatch.context() as patch:
            patch.setattr(identity, "_version", lambda name, library=library: "9.9" if name == library else "1.0")
            seen.add(known(copy))
    monkeypatch.setattr(identity, "SCHEMA", 99)
    seen.add(known(copy))
    assert len(seen) == 7


def test_quantisation_counts(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("qwen2_vl"), tmp_path / "q"))
    before = known(folder)
    text = (folder / "config.json").read_text().rstrip().removesuffix("}")
    (folder / "config.json").write_text(text + ', "quantization": {"group_size": 64, "bits": 4}}')
    assert known(folder) != before
