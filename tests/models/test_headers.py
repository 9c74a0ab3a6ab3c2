"""A weights file is checked before it is read; pickles are refused by name (2 s)."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.detect import inspect_checkpoint
from omlx_jupyter.models.headers import safetensors_header
from omlx_jupyter.models.hub import embedded_path


def written(path: Path, header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(begin: int, end: int, shape: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = {"a": tensor(0, 8, [2]), "b": tensor(8, 12, [])}


def test_what_mlx_and_safetensors_write_is_taken(tmp_path: Path) -> None:
    import mlx.core as mx
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {"x": mx.ones((2, 3), mx.bfloat16), "e": mx.zeros((0, 4)), "s": mx.array(1, mx.uint8)}
    mx.save_safetensors(str(tmp_path / "m.safetensors"), arrays)
    assert set(safetensors_header(tmp_path / "m.safetensors")) == set(arrays)
    save_file({"x": np.ones((3, 2), np.float16)}, tmp_path / "s.safetensors", {"format": "np"})
    assert safetensors_header(tmp_path / "s.safetensors")["x"]["shape"] == [3, 2]
    assert set(safetensors_header(written(tmp_path / "g.safetensors", GOOD, bytes(12)))) == {"a", "b"}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({**GOOD, "b": tensor(4, 8, [])}, 8, "overlap"),
        ({**GOOD, "b": tensor(12, 16, [])}, 16, "hole"),
        ({"a": tensor(4, 8, [1])}, 8, "hole"),
        (GOOD, 11, "says 12"),
        (GOOD, 13, "says 12"),
        ({"a": tensor(0, 8, [3])}, 8, "differ"),
        ({"a": tensor(0, 8, [10**30])}, 8, "impossible shape"),
        ({"a": tensor(0, 0, [2**62, 2**62, 0, 2**62])}, 0, None),
        ({"a": tensor(0, 8, [-2])}, 8, "impossible shape"),
        ({"a": tensor(0, 8, [2.0])}, 8, "impossible shape"),
        ({"a": tensor(0, 8, [True, 2])}, 8, "impossible shape"),
        ({"a": tensor(0, 8, [1] * 40 + [2])}, 8, "impossible shape"),
        ({"a": tensor(8, 0, [2])}, 8, "impossible offsets"),
        ({"a": tensor(-8, 0, [2])}, 8, "impossible offsets"),
        ({"a": tensor(0, 8, [2], "F33")}, 8, "unknown dtype"),
        ({"a": tensor(0, 8, [2], ["F32"])}, 8, "unknown dtype"),
        ({"a": {"dtype": "F32"}}, 8, "no dtype, shape and offsets"),
        ({"a": [1]}, 8, "no dtype, shape and offsets"),
        ({"__metadata__": {"x": 1}, **GOOD}, 12, "notes"),
        (b"[]", 0, "no table"),
        (b"{", 0, "damaged"),
        (b"\xff\xfe", 0, "damaged"),
        (b'{"a": NaN}', 0, "NaN"),
        (b'{"a":1,"a":2}', 0, "twice"),
        (b"[" * 200_000, 0, "nested too deep"),
        (b'{"a":' * 100_000, 0, "nested too deep"),
    ],
)
def test_a_header_that_contradicts_itself(tmp_path: Path, header: Any, data: int, words: str | None) -> None:
    path = written(tmp_path / "w.safetensors", header, bytes(data))
    if words is None:
        assert safetensors_header(path)
        return
    with pytest.raises(ModelError, match=words):
        safetensors_header(path)


@pytest.mark.parametrize("length", [2**63, 2**40, 13, 0])
def test_a_length_that_is_not_the_headers(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelError, match="damaged or cut short"):
        safetensors_header(written(tmp_path / "w.safetensors", b"{}", b"", length))


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="not a regular file"):
        safetensors_header(tmp_path / "w.safetensors")


@given(st.data())
@settings(max_examples=200)
def test_random_changes_end_in_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.getbasetemp() / "fuzz.safetensors", GOOD, bytes(12))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        header = safetensors_header(path)
    except ModelError as error:
        sentence = str(error)
    else:
        sentence = "download it again"
        assert sum(e["data_offsets"][1] - e["data_offsets"][0] for e in header.values()) == 12
    assert "download it again" in sentence


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded_path(), tmp_path / "model"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "weights.npz", "model.ckpt"])
def test_pickled_weights_are_refused_by_name(copy: Path, name: str) -> None:
    (copy / "model.safetensors").rename(copy / name)
    with pytest.raises(ModelError, match=f"only pickled weights .{name}.*safetensors"):
        inspect_checkpoint(copy)


@pytest.mark.parametrize("shard", ["model.bin", "../model.safetensors", "/etc/passwd", "a/b.safetensors", "x.npz"])
def test_an_index_names_only_files_of_its_folder(copy: Path, shard: str) -> None:
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(ModelError, match=r"is no \.safetensors file of its folder"):
        inspect_checkpoint(copy)


@pytest.mark.parametrize("index", ["[]", "{", '{"weight_map": []}', "[" * 100_000])
def test_a_damaged_index(copy: Path, index: str) -> None:
    (copy / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match="is damaged"):
        inspect_checkpoint(copy)


def test_a_damaged_shard_is_found_behind_an_index(copy: Path, checkpoint: Callable[..., Path]) -> None:
    names = dict.fromkeys(safetensors_header(copy / "model.safetensors"), "model.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert inspect_checkpoint(copy).tensors
    with (copy / "model.safetensors").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ModelError, match="damaged or cut short"):
        inspect_checkpoint(copy)
