"""Text models, and vision-language models that only mlx-lm can load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from omlx_jupyter import Engine, SamplingParams
from omlx_jupyter.errors import ModelError
from omlx_jupyter.models.detect import inspect_checkpoint

from ..conftest import noise_image

SHORT = SamplingParams(temperature=0, max_tokens=4)


def edited(source: Path, target: Path, **config: object) -> Path:
    shutil.copytree(source, target)
    file = target / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return target


def test_a_text_model(checkpoint: Callable[..., Path]) -> None:
    with Engine.load(checkpoint("qwen2")) as engine:
        assert not engine.sees
        assert engine.warnings == ()
        assert len(engine.generate("Hi", sampling=SHORT).token_ids) == 4
        with pytest.raises(ModelError, match="text model and can't see pictures; load a vision-language model"):
            engine.generate("Hi", [noise_image(30, 30)])


def test_a_vlm_config_without_vision_weights(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = edited(checkpoint("qwen2"), tmp_path / "m", vision_config={"depth": 2})
    assert not inspect_checkpoint(path).is_vlm
    with Engine.load(path) as engine:
        assert "its weights hold none, so pictures are off" in engine.warnings[0]
        with pytest.raises(ModelError, match="pictures are off"):
            engine.generate("Hi", [noise_image(30, 30)])


def test_a_vlm_that_mlx_vlm_cannot_load(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import mlx_vlm

    def refuse(*args: object, **kwargs: object) -> None:
        raise ValueError("a tensor is missing")

    path = edited(checkpoint("qwen2"), tmp_path / "m", vision_config={"depth": 2})
    names = json.dumps(
        {"weight_map": {"model.layers.0.x": "model.safetensors", "visual.blocks.0": "model.safetensors"}}
    )
    (path / "model.safetensors.index.json").write_text(names)
    monkeypatch.setattr(mlx_vlm, "load", refuse)
    with Engine.load(path) as engine:
        (warning,) = engine.warnings
        assert "pictures are off" in warning
        assert len(engine.generate("Hi", sampling=SHORT).token_ids) == 4
    assert sum("pictures are off" in r.getMessage() for r in caplog.records) == 1


def test_neither_can_load_it(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = edited(checkpoint("qwen2_vl"), tmp_path / "m", hidden_size=96)
    with pytest.raises(ModelError, match="can't be loaded") as caught:
        Engine.load(path)
    assert "qwen2_vl" in str(path) or str(path) in str(caught.value)


def test_memory_of_an_unloaded_model_is_given_back(checkpoint: Callable[..., Path]) -> None:
    import mlx.core as mx

    path = checkpoint("gemma3_text")
    before = mx.get_active_memory()
    engine = Engine.load(path)
    engine.generate("Hi", sampling=SHORT)
    assert mx.get_active_memory() > before
    engine.close()
    assert mx.get_active_memory() <= before + 100_000
