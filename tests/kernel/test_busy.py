"""A page's message that a subshell handles doesn't make a running cell look finished."""

from __future__ import annotations

from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from .conftest import Kernel


def test_a_cell_that_runs_stays_busy() -> None:
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
    try:
        kernel = Kernel(manager, client)
        assert kernel.run("%load_ext omlx_jupyter").ok
        request = client.session.msg("create_subshell_request")
        client.control_channel.send(request)
        reply = client.get_control_msg(timeout=10)
        if "subshell_id" not in reply["content"]:
            pytest.skip("this ipykernel has no subshells")
        subshell = reply["content"]["subshell_id"]

        def send(kind: str, **content: Any) -> None:
            message = client.session.msg(kind, {"comm_id": "page-1", **content})
            message["header"]["subshell_id"] = subshell
            client.shell_channel.send(message)

        running = client.execute("import time; time.sleep(3)")
        send("comm_open", target_name="omlx_jupyter", data={"v": 1})
        send("comm_msg", data={"v": 1, "kind": "watch", "page": "p", "level": "status"})
        states = []
        while not states or states[-1] != (running, "idle"):
            message = client.get_iopub_msg(timeout=20)
            if message["msg_type"] == "status":
                states.append((message["parent_header"].get("msg_id"), message["content"]["execution_state"]))
        others = [at for at, (parent, state) in enumerate(states) if parent != running and state == "idle"]
        assert others, "the subshell handled nothing"
        assert (running, "busy") in states[others[-1] :], states
        assert states[-1] == (running, "idle")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
