"""Shared fixtures. Checkpoints are made once a session and loaded by the real loaders."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from PIL import Image, ImageDraw, ImageFont

from omlx_jupyter.models.blas import preload_openblas

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach out
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="omlx-tests-")  # nor touch the user's cache
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tiny matrices; its threads wait by spinning
preload_openblas()  # before a test module imports MLX, which keeps the BLAS that it meets
hypothesis.settings.register_profile("omlx", deadline=None)  # a loaded machine is no failure
hypothesis.settings.load_profile("omlx")


@pytest.fixture(autouse=True, scope="session")
def proofs_are_made() -> Iterator[None]:
    """No test takes over what another one has shown."""
    from omlx_jupyter.models import remembered

    kept, remembered.folder = remembered.folder, lambda: None
    yield
    remembered.folder = kept


def no_cache() -> Any:
    """For tests that must compute everything."""
    from omlx_jupyter.cache.prefix_cache import CacheSettings

    return CacheSettings(0)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`checkpoint("qwen2_vl")` is the folder of a tiny checkpoint of that family."""
    made: dict[tuple[str, int], Path] = {}

    def get(family: str, seed: int = 0) -> Path:
        from .checkpoints.families import make

        if (family, seed) not in made:
            made[family, seed] = make(family, tmp_path_factory.mktemp(f"{family}-{seed}"), seed)
        return made[family, seed]

    return get


@pytest.fixture(scope="session")
def tiny() -> Iterator[Any]:
    """An engine over the embedded model, shared by tests that leave it as it was."""
    from omlx_jupyter import Engine

    engine = Engine.load()
    yield engine
    engine.close()


def draw_text(text: str, size: int = 20) -> Image.Image:
    """Black text on white, a line per line; Pillow's own font, so that no system font is needed."""
    font = ImageFont.load_default(size)
    lines = text.split("\n")
    pitch = int(size * 1.4)
    width = max(int(font.getlength(line)) for line in lines) + 24
    image = Image.new("RGB", (-(-width // 16) * 16, -(-(pitch * len(lines) + 8) // 16) * 16), "white")
    canvas = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        canvas.text((8, 4 + index * pitch), line, font=font, fill="black")
    return image


def noise_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Blocks of random colour: pictures that differ everywhere, also after resizing."""
    import numpy as np

    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (max(2, height // 7), max(2, width // 7), 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def told_why(engine: Any, submit: Callable[[], list[Any]]) -> tuple[list[Any], str]:
    """The handles that `submit` made, and why the first of them that waits does.

    The engine stands still until all of them are there, and where it says why, until that was read: a tiny
    checkpoint may end a request in less time than a thread waits for its turn."""
    stepper, held = engine._loop._stepper, engine._loop._held
    admit, explain = stepper._admit, stepper._explain
    there, told, read = threading.Event(), threading.Event(), threading.Event()

    def together() -> None:
        there.wait(60)
        admit()

    def explained(*about: Any) -> None:
        explain(*about)
        if stepper.waiting_for:
            told.set()
            read.wait(60)

    stepper._admit, stepper._explain = together, explained
    try:
        handles = submit()
        while held.figures()["preparing"]:
            time.sleep(0.001)
        there.set()
        assert told.wait(60), "nothing waited"
        return handles, engine.stats().waiting_for
    finally:
        stepper._admit, stepper._explain = admit, explain
        there.set()
        read.set()


def endless(engine: Any, **settings: Any) -> Any:
    """Sampling for a request that never ends by itself: its end tokens are forbidden."""
    from omlx_jupyter import SamplingParams

    forbidden = dict.fromkeys(engine._loop.model.end_tokens, -1e9)
    return SamplingParams(**{"max_tokens": 100_000, "temperature": 0, "logit_bias": forbidden, **settings})
