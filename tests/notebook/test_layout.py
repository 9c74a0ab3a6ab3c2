"""`%ocr --layout`, `ocr(layout=...)` and runs with it, through the front door."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from omlx_jupyter import ocr
from omlx_jupyter.errors import ModelError, RequestError
from omlx_jupyter.models.layout_model import LayoutModel
from omlx_jupyter.notebook.settings import per_model
from omlx_jupyter.notebook.settings.config import settings
from omlx_jupyter.notebook.work import layouts as detectors
from omlx_jupyter.runs.run import read_run

from ..checkpoints import layouts
from ..conftest import draw_text
from ..reading.test_kinds import SANS, Sheet
from .test_magics import complaint, run


@pytest.fixture
def page(shell: InteractiveShell, tmp_path: Path) -> Path:
    sheet = Sheet(520, 260, SANS, 16)
    sheet.column(30, 20, ["We sell these:"])
    for row, cells in enumerate((("Item", "Price"), ("Rice", "2.50"), ("Salt", "9.10"))):
        for left, cell in zip((30, 260), cells, strict=True):
            sheet.put(left, 90 + 34 * row, cell)
    sheet.image.save(tmp_path / "page.png")
    return tmp_path / "page.png"


TABLE = "| Item | Price |\n| --- | --- |\n| Rice | 2.50 |\n| Salt | 9.10 |"


def test_a_cell(shell: InteractiveShell, page: Path) -> None:
    with capture_output() as said:
        run(shell, "%ocr page.png --layout --boxes -o found")
    found = shell.user_ns["found"]
    assert [region.kind for region in found.regions] == ["text", "table"]
    assert found.text == f"We sell these:\n\n{TABLE}"
    drawn = next(o.data["text/html"] for o in said.outputs if "<svg" in o.data.get("text/html", ""))
    assert drawn.count("<polygon") == 2
    assert "table: | Item | Price |" in drawn
    assert [region.kind for region in run(shell, "%ocr page.png").regions] == []


def test_many_and_runs(shell: InteractiveShell, page: Path, tmp_path: Path) -> None:
    many = ocr.map([page, page], layout=True)
    assert [result.text for result in many] == [f"We sell these:\n\n{TABLE}"] * 2
    ocr.map([page], layout=True, save=tmp_path / "r.jsonl")
    (record,) = read_run(tmp_path / "r.jsonl")
    assert record.text == f"We sell these:\n\n{TABLE}"
    again = ocr.map([page], layout=True, save=tmp_path / "r.jsonl")
    assert again.figures().kept == 1
    other = ocr.map([page], save=tmp_path / "r.jsonl")
    assert other.figures().kept == 0  # it is read in another way
    run(shell, "import pandas as pd\ns = pd.Series(['page.png'])")
    assert run(shell, "s.omlx.ocr(layout=True)[0]").endswith(TABLE)


def test_a_detector_by_name_and_as_set(
    shell: InteractiveShell, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page of 1,024 pixels takes MLX's convolutions on a CPU a minute
    monkeypatch.setattr(LayoutModel.__init__, "__defaults__", (False, 64))
    folder = layouts.write(tmp_path / "detector", seed=1)
    try:
        found = ocr(page, layout=str(folder))
        assert found.regions
        assert all(0 < region.score <= 1 for region in found.regions)
        run(shell, f"%config Omlx.layout_model = '{folder}'")
        assert [r.box for r in ocr(page, layout=True).regions] == [r.box for r in found.regions]
        assert len(detectors._loaded) == 1
    finally:
        run(shell, "%config Omlx.layout_model = ''")
        detectors.forget()


def test_one_detector_at_a_time_stays(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LayoutModel.__init__, "__defaults__", (False, 64))
    monkeypatch.setattr(per_model, "models_file", lambda: tmp_path / "models.toml")
    one, two = (str(layouts.write(tmp_path / name, seed=1)) for name in ("one", "two"))
    closed: list[str] = []
    monkeypatch.setattr(LayoutModel, "close", lambda self: closed.append(self.name))
    try:
        assert [detectors.chosen(layout) for layout in (False, "", True)] == [False, False, True]
        first = detectors.chosen(one)
        assert (first.name, detectors.chosen(one) is first) == (one, True)  # type: ignore[union-attr]
        assert [detectors.chosen(layout) for layout in (False, True)] == [False, True]
        monkeypatch.setattr(settings(), "layout_model", one)
        assert detectors.chosen(True) is first
        assert detectors.chosen(False) is False
        run(shell, f"%omlx set {two} alias=second")
        assert detectors.chosen("second").name == two  # type: ignore[union-attr]
        assert closed == [one]
        assert detectors.chosen(True).name == one  # type: ignore[union-attr]
        assert closed == [one, two]
        assert len(detectors._loaded) == 1
    finally:
        detectors.forget()
    assert (detectors._loaded, closed) == ([], [one, two, one])


def test_a_column_is_read_by_lines(shell: InteractiveShell, page: Path) -> None:
    most = 12
    run(shell, "import pandas")
    run(shell, "column = pandas.Series(['page.png']).omlx")
    read = run(shell, f"column.ocr(max_tokens={most})[0]")
    assert read == ocr(page, max_tokens=most).text
    others = [ocr(page, whole=True, max_tokens=most).text, run(shell, f"column.ocr(layout=True, max_tokens={most})[0]")]
    assert len({read, *others}) == 3


def test_what_is_no_layout(shell: InteractiveShell, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="layout is 3"):
        ocr(page, layout=3)  # type: ignore[arg-type]
    with pytest.raises(ModelError):
        ocr(page, layout="nowhere/at_all")
    with pytest.raises(RequestError, match="one picture"):
        ocr(page, draw_text("b"), layout=True)
    assert "one picture" in complaint(shell, "%ocr page.png --layout --prompt Why", capsys)
