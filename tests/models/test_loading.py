"""Weights are read piece by piece, and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omlx_jupyter.models import loader
from omlx_jupyter.notebook.work import session


def test_progress_counts_the_bytes_of_the_weights(tmp_path: Path, monkeypatch: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    layers = {f"layers.{i}.weight": mx.ones((64, 64)) for i in range(8)}
    mx.save_safetensors(str(tmp_path / "w.safetensors"), layers)
    model = nn.Module()
    model.layers = [nn.Linear(64, 64, bias=False) for _ in range(8)]
    model.load_weights(list(mx.load(str(tmp_path / "w.safetensors")).items()))
    monkeypatch.setattr(loader, "_READ_AT_ONCE", 2 * 64 * 64 * 4)
    shares: list[float] = []
    loader.read_weights(model, shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_the_notebook_tells_each_new_share_once_after_half_a_second() -> None:
    said: list[str] = []
    on_wait = session._announce("a-model", said.append)
    for seconds, share in ((0.1, 0.0), (0.6, 0.3), (0.65, 0.3), (0.9, 0.5)):
        on_wait(seconds, share)
    assert len(said) == 2
    assert "a-model" in said[0]
    assert said[0].endswith("30 %")
    assert said[1].endswith("50 %")
