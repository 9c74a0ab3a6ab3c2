"""What a folder holds, and one sentence for what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.detect import inspect_checkpoint
from omlx_jupyter.models.families import OCR_STOPS, ocr_profile_of
from omlx_jupyter.models.hub import embedded_path, resolve_model
from omlx_jupyter.models.loader import load_model


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded_path(), tmp_path / "model"))


def test_the_embedded_model() -> None:
    found = inspect_checkpoint(embedded_path())
    assert found.model_type == "glm_ocr"
    assert found.is_vlm
    size = sum(f.stat().st_size for f in embedded_path().iterdir())
    assert size < 8 * 2**20


def test_a_vlm_config_without_vision_weights_is_no_vlm(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint("qwen2_vl")
    assert inspect_checkpoint(folder).is_vlm
    assert not inspect_checkpoint(folder).config.get("missing")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: (f / "config.json").write_text("[]"), "damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "no .safetensors weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"abc"), "cut short"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1]), "cut short"),
        (lambda f: _set(f, model_file="evil.py"), "trust_code"),
        (lambda f: _set(f, model_type="no_such_family"), "can't be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "can't be loaded"),
        (lambda f: (f / "preprocessor_config.json").unlink(), None),
        (lambda f: (f / "tokenizer.json").unlink(), "missing or damaged"),
        (lambda f: _folder(f / "config.json"), "damaged"),
        (lambda f: (f / "config.json").write_text("[" * 200_000), "damaged"),
        (lambda f: (f / "generation_config.json").write_text("[" * 200_000), "can't be loaded"),
        (lambda f: (f / "generation_config.json").write_text('{"temperature": -1}'), "generation_config.json"),
    ],
)
def test_spoilt_folders(copy: Path, spoil: Callable[[Path], object], words: str | None) -> None:
    spoil(copy)
    if words is None:
        load_model(copy)  # glm_ocr's processor has defaults of its own
        return
    with pytest.raises(ModelError) as caught:
        load_model(copy)
    assert words in str(caught.value)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "reading.json", "deeper/tokenizer.json", "x"]
)
def test_a_pipe_or_device_is_refused_and_never_opened(copy: Path, name: str) -> None:
    """A load that waited for a pipe would hold the lock that the next one needs."""
    (copy / "deeper").mkdir()
    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    with pytest.raises(ModelError, match="is a pipe, socket or device, not a file; remove it"):
        load_model(copy)
    (copy / name).unlink()
    (copy / name).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="is a pipe, socket or device, not a file; remove it"):
        load_model(copy)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _set(folder: Path, **values: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", "no model folder"),
        ("./here", "no model folder"),
        ("justaname", "no model folder"),
        ("x" * 5000, "is no folder's name"),
        ("~nobody_of_this_name/model", "is no folder's name"),
        ("org/not-downloaded", "not in the local hub cache"),
        ("or g/na me", "not a hub id"),
    ],
)
def test_names_that_lead_nowhere(name: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    assert words in str(caught.value)


def test_ocr_profiles_follow_the_published_prompts() -> None:
    table = {
        "deepseekocr": ("Convert the document to markdown.", 8192, None),
        "deepseekocr_2": ("Convert the document to markdown.", 8192, None),
        "dots_ocr": ("Convert this page to clean Markdown while preserving reading order.", 8192, None),
        "glm_ocr": ("Text Recognition:", 4096, 1.1),
        "unlimited-ocr": ("document parsing.", 8192, None),
    }
    for model_type, (prompt, most, penalty) in table.items():
        profile = ocr_profile_of(model_type)
        assert profile is not None
        assert profile.prompt == prompt
        assert (profile.sampling.temperature, profile.sampling.max_tokens) == (0, most)
        assert profile.sampling.repetition_penalty == penalty
        assert profile.sampling.stop == OCR_STOPS
    assert ocr_profile_of("qwen2_vl") is None
