"""What a notebook sees: streams, results, interrupts, in a real kernel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from ..test_rooms import FIRST_USE
from .conftest import Kernel


def test_ocr_streams_into_one_display_and_leaves_a_static_bundle(kernel: Kernel) -> None:
    assert kernel.run("img = draw_text('Hello 42')").ok
    outcome = kernel.run("%ocr img -o page")
    assert outcome.ok
    assert len(outcome.bundles("display_data")) == 1
    assert not outcome.bundles("execute_result")
    text = eval(kernel.value("page.text"))
    assert set(outcome.final) == {"text/markdown", "text/plain"}
    assert outcome.final["text/plain"].startswith(text)
    assert "first token" in outcome.final["text/plain"]
    assert kernel.value("_ is page") == "True" or kernel.value("page.text") == repr(text)


def test_load_ext_brings_nothing_heavy_into_a_kernel(kernel: Kernel) -> None:
    brought = set(kernel.run("print(*(_after - _before))").stdout.split())
    assert "omlx_jupyter.notebook.watch.comm" in brought
    assert not brought & set(FIRST_USE)
    rooms = {name.split(".")[1] for name in brought if name.startswith("omlx_jupyter.")}
    assert rooms == {"notebook", "errors", "visible"}


def test_underscore_out_and_a_later_display(kernel: Kernel) -> None:
    assert kernel.run("%ocr img").ok
    last = kernel.run("_")
    assert len(last.bundles("display_data", "execute_result")) == 1
    assert "first token" in last.final["text/plain"]
    assert kernel.run("kept = %ocr img").ok
    assert "tokens" in kernel.run("kept").final["text/plain"]


def test_tokens_appear_while_they_are_made(kernel: Kernel, checkpoint: Callable[..., Path]) -> None:
    assert kernel.run(f"%omlx load {checkpoint('qwen2_vl')}").ok
    outcome = kernel.run("%%vlm --max-tokens 3000 --temperature 1 --seed 2 --top-p 0.999\nTell me a long story")
    assert outcome.ok
    assert len([d for d in map(piece, outcome.messages) if d]) >= 2
    assert kernel.run("%omlx load tiny-ocr").ok


ENDLESS = (
    "from omlx_jupyter.notebook.work import run as _run, session as _session\n"
    "_run.sampling_from = lambda args: endless(_session.engine())"
)


def piece(timed: tuple[float, dict[str, Any]]) -> str:
    """The text that a message to the live widget brings."""
    content = timed[1]["content"].get("data", {}).get("content", {})
    return str(content.get("d", "")) if timed[1]["msg_type"] == "comm_msg" else ""


def test_an_interrupt_stops_within_a_fifth_of_a_second_and_keeps_the_text(
    kernel: Kernel, checkpoint: Callable[..., Path]
) -> None:
    assert kernel.run(f"%omlx load {checkpoint('qwen2_vl')}").ok
    assert kernel.run("from omlx_jupyter.notebook.work import run as _run; _real = _run.sampling_from").ok
    assert kernel.run(ENDLESS).ok
    identity = kernel.start("%%vlm -o story\nTell me everything")
    pressed: list[float] = []

    def press(message: dict) -> None:
        if not pressed and len(piece((0.0, message))) > 5:
            pressed.append(time.monotonic())
            kernel.manager.interrupt_kernel()

    outcome = kernel.finish(identity, on_message=press)
    assert pressed
    assert outcome.reply["status"] == "error"
    assert outcome.reply["ename"] == "Interrupted"
    stopped = next(t for t, m in outcome.messages if m["msg_type"] == "error")
    assert stopped - pressed[0] < 0.2
    assert "interrupted" in outcome.final["text/plain"]
    assert int(kernel.value("len(story.generation.token_ids)")) > 3
    assert kernel.value("_ is story") == "True"
    assert kernel.value("_session.engine().stats().decoding") == "0"
    assert kernel.run("_run.sampling_from = _real").ok
    assert kernel.run("%omlx load tiny-ocr").ok


def test_errors_are_one_line_and_stop_run_all(kernel: Kernel) -> None:
    outcome = kernel.run("%ocr nowhere.png")
    assert outcome.reply["status"] == "error"
    assert outcome.stdout.strip().startswith("UsageError: there is no file nowhere.png")
    assert "Traceback" not in outcome.stdout


def test_the_engine_works_from_a_running_event_loop(kernel: Kernel) -> None:
    assert kernel.run("from omlx_jupyter.notebook.work import session").ok
    outcome = kernel.run(
        "handle = session.engine().submit(images=[img])\n"
        "said = ''\n"
        "async for piece in handle:\n"
        "    said += piece.text\n"
        "print(said == handle.result().text, (await session.engine().agenerate(images=[img])).text == said)"
    )
    assert outcome.ok, outcome.reply
    assert outcome.stdout.strip() == "True True"


def test_a_killed_engine_thread_is_replaced(kernel: Kernel) -> None:
    assert kernel.run("from omlx_jupyter.notebook.work import session\nsession.current_engine().close()").ok
    outcome = kernel.run("%ocr img")
    assert outcome.ok
    assert "first token" in outcome.final["text/plain"]


AT_500_A_SECOND = """
import time
from omlx_jupyter.engine.request import Progress
from omlx_jupyter.notebook.answers.stream_view import NotebookView
from omlx_jupyter.types import Usage
view, text, began = NotebookView(), "", time.monotonic()
for token in range(2000):
    text += "word "[: 3 + token % 3]
    view.update(text, Progress("decode", 10, 10, token, 0), Usage(decode_tokens_per_s=500))
    time.sleep(max(0, began + token / 500 - time.monotonic()))
view.fail()
"""


def test_pieces_are_sent_once(kernel: Kernel) -> None:
    """Bytes of everything that the live view sends, 2,000 tokens at 500 a second."""
    outcome = kernel.run(AT_500_A_SECOND)
    assert outcome.ok
    length = int(kernel.value("len(text)"))
    live = [m["content"] for _, m in outcome.messages if m["msg_type"].startswith("comm_msg")]
    sent = sum(len(json.dumps(content, ensure_ascii=False).encode()) for content in live)
    print(f"{sent / length:.2f} bytes sent live per byte of text, {len(live)} messages")
    assert sent <= 3 * length
    assert len(live) <= 20 * 4.5
    assert sum(map(len, map(piece, outcome.messages))) <= length


def test_two_background_cells_run_in_one_batch_and_write_into_their_own_cells(kernel: Kernel) -> None:
    first = kernel.run("%%vlm --background -i img -o one\nText Recognition:")
    second = kernel.run("%%vlm --background -i img -o two\nText Recognition:")
    assert first.ok
    assert second.ok
    waited = kernel.run("%omlx jobs wait")
    assert waited.stdout.count("finished") == 2
    assert kernel.value("one.text == two.text and type(one).__name__") == "'Result'"


def test_a_console_gets_the_text_as_a_stream(kernel: Kernel) -> None:
    """jupyter console and qtconsole drop display updates."""
    kernel.console = True
    try:
        outcome = kernel.run("%ocr draw_text('Total 7')")
    finally:
        kernel.console = False
    assert outcome.ok
    assert "first token" in outcome.stdout
    assert not outcome.bundles("display_data", "update_display_data", "execute_result")


def test_the_extension_announces_itself_and_answers_a_page() -> None:
    """As JupyterLab's extension does it: hear the beacon, open a comm, watch."""
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
    try:
        kernel = Kernel(manager, client)
        opened = [
            m["content"] for _, m in kernel.run("%load_ext omlx_jupyter").messages if m["msg_type"] == "comm_open"
        ]
        assert [o["target_name"] for o in opened] == ["omlx_jupyter"]

        def send(kind: str, **content: Any) -> None:
            client.shell_channel.send(client.session.msg(kind, {"comm_id": "page-1", **content}))

        send("comm_open", target_name="omlx_jupyter", data={"v": 1})
        send("comm_msg", data={"v": 1, "kind": "watch", "page": "p", "level": "panel"})
        heard: dict[str, Any] = {}
        while {"status", "panel"} - set(heard):
            message = client.get_iopub_msg(timeout=20)
            if message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == opened[0]["comm_id"]:
                heard[message["content"]["data"]["kind"]] = message["content"]["data"]
        assert heard["status"]["model"] == ""
        assert heard["panel"]["dashboard"] is None
        assert not [m for _, m in kernel.run("%unload_ext omlx_jupyter").messages if m["msg_type"] == "error"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_where_nobody_looks_nothing_lives_and_the_answer_is_saved(kernel: Kernel) -> None:
    """As nbclient, nbconvert and papermill ask: no widget, whose state would stay in the notebook; one display."""
    assert kernel.run("img = draw_text('Hello 42')").ok
    kernel.batch = True
    try:
        outcome = kernel.run("%ocr img")
    finally:
        kernel.batch = False
    assert outcome.ok
    kinds = [message["msg_type"] for _, message in outcome.messages]
    assert "comm_open" not in kinds
    assert "Hello" in outcome.final["text/markdown"]
    assert len(outcome.bundles("display_data")) == 1
