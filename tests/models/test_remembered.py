"""What was shown of a checkpoint is shown once, and anew where anything that computes has changed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.engine import drafting
from omlx_jupyter.models import loaded, proof, remembered
from omlx_jupyter.models.loader import load_model
from omlx_jupyter.models.row_proof import RowProof
from omlx_jupyter.models.row_store import Grouping

from ..conftest import no_cache


@pytest.fixture
def place(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.setattr(remembered, "folder", lambda: tmp_path / "proofs")
    return tmp_path / "proofs"


@pytest.fixture
def counted(monkeypatch: Any) -> list[str]:
    """Names of the proofs that are made."""
    made: list[str] = []

    def count(name: str, module: Any, attribute: str) -> None:
        real = getattr(module, attribute)
        monkeypatch.setattr(module, attribute, lambda *args: (made.append(name), real(*args))[1])

    count("rows", loaded, "prove")
    count("alone", proof.Proof, "run")
    count("widest", drafting, "widest")
    return made


def answer(path: Path) -> list[int]:
    with Engine.load(path, cache=no_cache()) as engine:
        return list(engine.generate("yes yes yes yes", sampling=SamplingParams(temperature=0, max_tokens=24)).token_ids)


@pytest.mark.parametrize("family", ["qwen2_vl", "mistral3"])
def test_a_checkpoint_is_proved_once(
    checkpoint: Callable[..., Path], place: Path, counted: list[str], family: str
) -> None:
    path = checkpoint(family) if family == "qwen2_vl" else wide(family, place.parent)
    first = answer(path)
    assert set(counted) == ({"rows", "widest"} if family == "qwen2_vl" else {"rows", "widest", "alone"})
    counted.clear()
    assert answer(path) == first
    assert counted == []
    assert [stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()] == [0o600]
    with Engine.load(path, cache=no_cache()) as engine:
        engine.forget_proofs()
    answer(path)
    assert "rows" in counted


def wide(family: str, folder: Path) -> Path:
    from ..checkpoints.wide import WIDE

    made = folder / family
    WIDE[family](made)
    return made


def test_a_reason_is_remembered_too(place: Path, counted: list[str]) -> None:
    path = wide("paligemma", place.parent)
    why = load_model(path).whole_because
    assert why
    counted.clear()
    assert load_model(path).whole_because == why
    assert counted == []


def test_it_is_made_anew_for_other_weights(checkpoint: Callable[..., Path], place: Path, counted: list[str]) -> None:
    answer(checkpoint("qwen2_vl"))
    counted.clear()
    answer(checkpoint("qwen2_vl", 1))
    assert "rows" in counted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"rows": 5, "widest": "no"}',
        b'{"rows": {"grouping": {}}, "widest": 9000}',
        b"[" * 90000,
    ],
)
def test_a_damaged_file_is_proved_anew(
    checkpoint: Callable[..., Path], place: Path, counted: list[str], content: bytes
) -> None:
    path = checkpoint("qwen2_vl")
    first = answer(path)
    (file,) = place.iterdir()
    file.write_bytes(content)
    counted.clear()
    assert answer(path) == first
    assert set(counted) == {"rows", "widest"}
    assert json.loads(file.read_text())["widest"] == 64


def test_a_pipe_or_a_link_is_not_read(checkpoint: Callable[..., Path], place: Path, counted: list[str]) -> None:
    path = checkpoint("qwen2_vl")
    answer(path)
    (file,) = place.iterdir()
    for make in (os.mkfifo, lambda at: os.symlink("/dev/zero", at)):
        file.unlink()
        make(file)
        counted.clear()
        answer(path)
        assert set(counted) == {"rows", "widest"}


def test_rows_there_and_back() -> None:
    shown = RowProof(Grouping(51, 4, True), "", 4096)
    assert remembered.rows_from_json(json.loads(json.dumps(remembered.rows_to_json(shown)))) == shown
    assert remembered.rows_from_json({"grouping": {"call_tokens": 1, "most": 0, "handles": "yes"}}) is None
