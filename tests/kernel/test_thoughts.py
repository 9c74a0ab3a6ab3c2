"""A model that thinks, in a real kernel: its thought streams apart, is saved folded, and left out where that is set."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from ..checkpoints import families, scripted
from ..engine.test_thinking import CHAINS, SWITCHED, THOUGHT
from .conftest import Kernel

GO = families.CHATML.rstrip() + "{%- if add_generation_prompt -%}<go>{%- endif -%}"
# A thought that goes round and round until its budget; what closes it ends with a line feed
LONG = [["</think>", "\n"], ["<go>", "<think>", *THOUGHT, "Two"], ["\n", "Four", ".", scripted.END]]


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
    folder = scripted.write(tmp_path_factory.mktemp("long"), LONG, GO)
    assert kernel.run(f"%omlx load {folder}").ok
    outcome = kernel.run("%%vlm --temperature 0 --no-draft --think-budget 600 --max-tokens 700 -o answer\n2 + 2?")
    assert outcome.ok
    sent = messages(outcome)
    whole = ""
    for message in sent:
        if "t" in message:
            assert message["to"] <= len(whole)
            whole = whole[: message["to"]] + message["t"]
    thought = eval(kernel.value("answer.thinking"))
    assert thought == ("".join(THOUGHT) * 100)[: len(thought)]
    assert len(thought) > 2000
    assert len([m for m in sent if "t" in m]) >= 2
    assert whole
    assert thought.startswith(whole)
    assert any(str(m.get("l", "")).startswith("thinking… ") for m in sent)
    state = json.dumps([m["content"] for _, m in outcome.messages if m["msg_type"] == "comm_open"])
    assert "".join(THOUGHT) not in state  # messages alone carry it: a widget's state may be saved
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
    """The thought's place and the answer's are made before the cell ends."""
    started = thinker.run("%%vlm --background --temperature 0 -o later\nWhat is 2 + 2?")
    sent = [message for _, message in started.messages]
    places = [m["content"]["transient"]["display_id"] for m in sent if m["msg_type"] == "display_data"]
    assert len(places) == 2
    shown: dict[str, Any] = {}
    deadline = time.monotonic() + 20
    while not set(places) <= set(shown):
        message = sent.pop(0) if sent else thinker.client.get_iopub_msg(timeout=deadline - time.monotonic())
        if message["msg_type"] == "update_display_data":
            shown[message["content"]["transient"]["display_id"]] = message["content"]["data"]
    assert "".join(THOUGHT) in shown[places[0]]["text/html"]
    assert shown[places[1]]["text/plain"].startswith("Four.\n[")


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
