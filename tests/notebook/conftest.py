"""An InteractiveShell with the extension, without a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from ..conftest import draw_text


@pytest.fixture(scope="module")
def loaded() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    made.run_line_magic("load_ext", "omlx_jupyter")
    yield made
    made.run_line_magic("unload_ext", "omlx_jupyter")
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(loaded: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    monkeypatch.chdir(tmp_path)
    draw_text("Hello 42").save(tmp_path / "hello.png")
    draw_text("Sum 17").save(tmp_path / "sum.png")
    loaded.user_ns["img"] = draw_text("Hello 42")
    return loaded
