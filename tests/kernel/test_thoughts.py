"""A model that thinks, in a real kernel: its thought streams apart, is saved folded, and left out where that is set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from ..checkpoints import scripted
from ..engine.test_thinking import CHAINS, SWITCHED, THOUGHT
from .conftest import Kernel

# A long thought: numbers, each followed by the next, so that it takes more than a moment
LONG = [f" {n}," for n in range(200)]
LONG_CHAINS = [["\n", "<think>", *LONG, "</think>", "\n\n", "Four", ".", scripted.END]]


@pytest.fixture(scope="module")
def thinker(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = scripted.write(tmp_path_factory.mktemp("thinker"), CHAINS, SWITCHED)
    assert kernel.run(f"%omlx load {folder}").ok
    yield kernel
    assert kernel.run("%omlx load tiny-ocr").ok


def messages(outcome: Any) -> list[dict[str, Any]]:
    """What went to the live widget."""
    held = [m["content"]["data"].get("content", {}) for _, m in outcome.messages if m["msg_type"] == "comm_msg"]
    return [content for content in held if content]


def test_a_thought_streams_apart_from_the_answer(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = scripted.write(tmp_path_factory.mktemp("long"), LONG_CHAINS)
    assert kernel.run(f"%omlx load {folder}").ok
    outcome = kernel.run("%%vlm --temperature 0 --no-draft -o answer\nWhat is 2 + 2?")
    assert outcome.ok
    sent = messages(outcome)
    whole = ""
    for message in sent:
        if "t" in message:
            assert message["to"] <= len(whole)
            whole = whole[: message["to"]] + message["t"]
    thought = eval(kernel.value("answer.thinking"))
    assert thought == "".join(LONG).strip()
    assert len([m for m in sent if "t" in m]) >= 2
    assert whole
    assert thought.startswith(whole)
    assert any(str(m.get("l", "")).startswith("thinking… ") for m in sent)
    state = json.dumps([m["content"] for _, m in outcome.messages if m["msg_type"] == "comm_open"])
    assert " 17," not in state  # messages alone carry it: a widget's state may be saved
    assert kernel.value("(answer.text, str(answer))") == "('Four.', 'Four.')"


def test_two_outputs_are_left(thinker: Kernel) -> None:
    outcome = thinker.run("%%vlm --temperature 0 -o answer\nWhat is 2 + 2?")
    assert outcome.ok
    thought, answer = outcome.bundles("update_display_data", "display_data")[-2:]
    assert set(thought) == {"text/html", "text/markdown", "text/plain"}
    assert "".join(THOUGHT) in thought["text/html"]
    assert set(answer) == {"text/markdown", "text/plain"}
    assert answer["text/plain"].startswith("Four.\n[")
    later = thinker.run("answer").bundles("display_data")
    assert [set(bundle) for bundle in later] == [set(thought), set(answer)]


def test_a_background_answer_stays_in_its_own_cell(thinker: Kernel) -> None:
    started = thinker.run("%%vlm --background --temperature 0 -o later\nWhat is 2 + 2?")
    places = [m["content"]["transient"]["display_id"] for _, m in started.messages if m["msg_type"] == "display_data"]
    assert len(places) == 2
    waited = thinker.run("%omlx jobs wait")
    assert waited.ok
    shown = {
        m["content"]["transient"]["display_id"]: m["content"]["data"]
        for _, m in [*started.messages, *waited.messages]
        if m["msg_type"] == "update_display_data"
    }
    updates = [shown.get(place, {}) for place in places]
    assert "<details>" in updates[0].get("text/html", "") or thinker.value("later.thinking") == repr("".join(THOUGHT))
    assert not [m for _, m in waited.messages if m["msg_type"] == "display_data"]


@pytest.mark.parametrize("saved", [True, False])
def test_a_saved_notebook(tmp_path: Path, saved: bool) -> None:
    """Run by nbclient, as nbconvert and papermill do, widgets' states included; read by nbconvert."""
    from nbconvert import HTMLExporter, MarkdownExporter

    folder = scripted.write(tmp_path / "thinker", CHAINS, SWITCHED)
    cells = [
        f"%load_ext omlx_jupyter\n%omlx load {folder}\n%config Omlx.save_thoughts = {saved}",
        "%%vlm --temperature 0 -o answer\nWhat is 2 + 2?",
        "answer",
        "assert answer.thinking and '<think' not in answer.text\nanswer.text",
    ]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    done = NotebookClient(
        made, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    text = json.dumps(done, ensure_ascii=False)
    thought = "".join(THOUGHT)
    assert (thought in text) is saved
    kinds = [set(output.data) for output in done.cells[1].outputs]
    answer = {"text/markdown", "text/plain"}
    assert kinds == ([{"text/html", *answer}, answer] if saved else [answer])
    assert [set(output.data) for output in done.cells[2].outputs] == kinds
    assert f"({len(THOUGHT) + 2} thought)" in done.cells[1].outputs[-1].data["text/plain"]
    page, _ = HTMLExporter().from_notebook_node(done)
    assert (thought in page) is saved
    assert ("<details><summary" in page) is saved
    plain, _ = MarkdownExporter().from_notebook_node(done)
    assert "Four." in plain
