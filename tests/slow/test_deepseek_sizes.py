"""DeepSeek-OCR with its real encoder sizes: a SAM of 86 M parameters (about half a minute). `make slow` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from pathlib import Path
from omlx_jupyter.models.blas import preload_openblas
preload_openblas()
from tests.checkpoints import deepseek
deepseek.shrink = lambda: None  # the real encoders
deepseek.WIDTH = 1024  # what the real SAM's neck gives
from tests.checkpoints.families import make
from tests.conftest import noise_image, no_cache
from omlx_jupyter import Engine, ImagePart, Message, SamplingParams

path = make("deepseekocr", Path(sys.argv[1]))
picture = noise_image(300, 200, 1)
with Engine.load(path, cache=no_cache()) as engine:
    asked = [Message("user", [ImagePart(picture), "Read it."])]
    made = engine.generate(asked, sampling=SamplingParams(temperature=0, max_tokens=8))
expected = deepseek.reference(path, [picture, "\\n", "Read it."], 8)
assert made.token_ids == expected, (made.token_ids, expected)
print("equal", made.usage.prompt_tokens)
"""


def test_real_encoder_sizes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.stdout.strip().splitlines()[-1:], done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("equal"), done.stderr
