"""A real kernel, driven through jupyter_client."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel


@dataclass
class Outcome:
    """What a cell sent: its reply, and its outputs in order with their arrival times."""

    reply: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.reply.get("status") == "ok"

    @property
    def stdout(self) -> str:
        return "".join(m["content"]["text"] for _, m in self.messages if m["msg_type"] == "stream")

    def bundles(self, *kinds: str) -> list[dict[str, str]]:
        return [m["content"]["data"] for _, m in self.messages if m["msg_type"] in kinds]

    @property
    def final(self) -> dict[str, str]:
        """The last state of the cell's display."""
        return self.bundles("display_data", "update_display_data")[-1]


class Kernel:
    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client
        self.console = False  # ask as jupyter console does
        self.batch = False  # ask as nbclient and papermill do

    def start(self, code: str) -> str:
        """Send a cell; its message's id. As JupyterLab does, which names the cell, unless told otherwise."""
        if self.console or self.batch:
            return str(self.client.execute(code, allow_stdin=self.console))
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": True}
        metadata = {"cellId": f"cell-{time.monotonic_ns()}"}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def finish(self, identity: str, timeout: float = 60, on_message: Any = None) -> Outcome:
        outcome = Outcome()
        deadline = time.monotonic() + timeout
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError("the cell took too long") from None
            if message["parent_header"].get("msg_id") != identity:
                continue
            outcome.messages.append((time.monotonic(), message))
            if on_message is not None:
                on_message(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while not outcome.reply:
            reply = self.client.get_shell_msg(timeout=10)
            if reply["parent_header"].get("msg_id") == identity:
                outcome.reply = reply["content"]
        return outcome

    def run(self, code: str, timeout: float = 60) -> Outcome:
        return self.finish(self.start(code), timeout)

    def value(self, expression: str) -> str:
        outcome = self.run(f"print(repr({expression}))")
        assert outcome.ok, outcome.reply
        return outcome.stdout.strip()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
    made = Kernel(manager, client)
    outcome = made.run("import sys\n_before = set(sys.modules)\n%load_ext omlx_jupyter\n_after = set(sys.modules)")
    assert outcome.ok, outcome.reply
    assert made.run("from tests.conftest import draw_text, endless, noise_image").ok
    yield made
    client.stop_channels()
    manager.shutdown_kernel(now=True)
