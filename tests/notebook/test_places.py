"""Where an answer says that things stand: drawn in the cell, kept in a run, and what the review cuts out.

The embedded model grounds nothing by itself; a schema of constants makes it write the boxes, through the real engine.
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from omlx_jupyter import SamplingParams
from omlx_jupyter.images.grounding import Grounding
from omlx_jupyter.notebook.answers.review import review
from omlx_jupyter.notebook.cells.tool_cell import named
from omlx_jupyter.notebook.work import session
from omlx_jupyter.runs.doubts import doubts
from omlx_jupyter.runs.question import Question
from omlx_jupyter.runs.run import Run, read_run

from .test_cells import run


def const(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {"const": value}
    return {
        "type": "object",
        "properties": {key: const(held) for key, held in value.items()},
        "required": list(value),
        "additionalProperties": False,
    }


SAID = {"total": {"value": "42", "bbox_2d": [500, 0, 1000, 500]}, "who": "<i>me</i>"}


def test_boxes_of_a_cells_answer(shell: InteractiveShell) -> None:
    shell.user_ns["schema"] = const(SAID)
    with capture_output() as said:
        run(shell, "%%vlm --json schema --boxes --max-tokens 200 -o got\n{img} Where?")
    width, height = shell.user_ns["img"].size
    drawn = next(o.data["text/html"] for o in said.outputs if "<svg" in o.data.get("text/html", ""))
    points = re.findall(r"[\d.]+,[\d.]+", re.findall(r'points="([^"]*)"', drawn)[0])
    assert [tuple(map(float, point.split(","))) for point in points] == [
        (width // 2, 0), (width, 0), (width, -(-height // 2)), (width // 2, -(-height // 2)),
    ]  # fmt: skip
    assert '<li tabindex="0">total</li>' in drawn
    assert shell.user_ns["got"] == SAID


def test_boxes_of_background_cells_are_refused(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="--background"):
        shell.run_cell_magic("vlm", "--boxes --background", "{img} Where?")


def test_a_runs_fields_have_their_places(shell: InteractiveShell, tmp_path: Path) -> None:
    asked = Question("Where?", schema=const(SAID), sampling=SamplingParams(max_tokens=200))
    Run(str(tmp_path / "hello.png"), asked, tmp_path / "r.parquet", session.engine).start().wait()
    (record,) = read_run(tmp_path / "r.parquet")
    width, height = Image.open(tmp_path / "hello.png").size
    corners = [[width // 2, 0], [width, 0], [width, -(-height // 2)], [width // 2, -(-height // 2)]]
    assert json.loads(json.dumps(record.places)) == {"total": corners}
    boxes = {doubt.place: doubt.box for doubt in doubts(iter([record]))}
    assert set(boxes) == {"total.value", "who"}  # a box's numbers are no fields to correct
    assert list(map(list, boxes["total.value"])) == corners
    assert boxes["who"] is None
    widget = review(Run([], Question(), tmp_path / "r.parquet", lambda: None))
    sizes = {}
    for _ in boxes:
        data = base64.b64decode(widget.item["picture"].partition(",")[2])
        sizes[widget.item["place"]] = Image.open(io.BytesIO(data)).size
        widget._handle_custom_msg({"act": "skip"}, [])
    assert sizes["who"] == (width, height)
    assert sizes["total.value"][0] < 0.75 * width


def test_the_kit_counts_as_the_model_does(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = session.engine()
    (zoom, *_) = named(shell.user_ns, "pictures", [])
    assert "0 to 1000" in zoom.schema["function"]["parameters"]["properties"]["box"]["description"]
    monkeypatch.setattr(engine, "grounding", Grounding(0, cell=16, least=256, most=10**7))
    picture = _opened(shell.user_ns["img"])
    (_, crop, _) = named(shell.user_ns, "pictures", [picture])
    said = crop.schema["function"]["parameters"]["properties"]["box"]["description"]
    assert said == "[left, top, right, bottom] in pixels of the picture as you see it"
    across, down = engine.grounding.seen(picture.width, picture.height)
    cut = crop.run({"picture": 1, "box": [0, 0, across / 2, down]})
    assert (cut.width, cut.height) == (-(-picture.width // 2), picture.height)


def _opened(picture: Image.Image) -> Any:
    from omlx_jupyter.images.source import open_images

    return open_images(picture)[0]
