"""The magics over a server: connect, serve, disconnect, and a server that has gone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter.notebook.watch.state import Watcher
from omlx_jupyter.notebook.work import session
from omlx_jupyter.remote import place
from omlx_jupyter.serve import process

from ..notebook.conftest import loaded as loaded
from ..notebook.conftest import shell as shell
from ..notebook.test_magics import complaint, run
from .conftest import ROOT, until

NAME = f"n{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    process.end(NAME)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's process finds the package from any folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_serve_goes_over_and_every_magic_works_there(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log = place.private_folder() / f"{NAME}.log"
    log.write_text("what an earlier server said\n" * 1000)
    run(shell, f"%omlx serve --name {NAME} --model tiny-ocr")
    told = capsys.readouterr().out
    assert "an earlier server" not in log.read_text()
    (server,) = [found.pid for found in [place.read(NAME)] if found is not None]
    assert os.getsid(server) == server != os.getsid(0)  # it outlives the kernel and its terminal
    assert f"Connected to {NAME}" in told
    assert f"python -m omlx_jupyter stop --name {NAME}" in told
    assert run(shell, "%ocr hello.png").text == "Hello 42"
    assert run(shell, "pages = %ocr hello.png sum.png\n[p.text for p in pages]") == ["Hello 42", "Sum 17"]
    assert run(shell, "%%vlm --max-tokens 4\n{img}").usage.completion_tokens
    job = run(shell, "%%vlm --background\n{img}")
    assert job.result(60).text == "Hello 42"
    assert run(shell, "from omlx_jupyter import ocr, vlm\nocr(img).lines[0].text") == "Hello 42"
    record = "%ocr hello.png sum.png --save r.jsonl -o r"
    assert [row["text"] for row in run(shell, record).df.to_dict("records")] == ["Hello 42", "Sum 17"]
    capsys.readouterr()
    for command in ("status", "model", "memory", "models", f"doctor {NAME}", "cache"):
        run(shell, f"%omlx {command}")
    told = capsys.readouterr().out
    assert f"on the server {NAME}" in told
    assert "a request of one token" in told
    assert "!" not in told
    assert session.current_engine().remote
    seen = Watcher().snapshot()
    assert (seen["model"], seen["where"]) == ("tiny-ocr", NAME)
    assert seen["finished"] > 0


def test_a_server_that_has_gone_is_told_and_the_own_engine_offered(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert process.end(NAME)
    for code in ("%ocr hello.png", "%%vlm\nHello"):
        told = complaint(shell, code, capsys)
        assert f"the server {NAME} has gone; %omlx connect {NAME} tries it again, %omlx disconnect" in told
    run(shell, "%omlx status")
    assert "closed" in capsys.readouterr().out


def test_a_queued_job_waits_for_its_server_which_is_used_again(shell: Any) -> None:
    """The server is killed before the job's request has come to it, and started anew."""
    process.end(NAME)
    command = [sys.executable, "-m", "omlx_jupyter", "serve", "--name", NAME]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    until(lambda: (found := place.read(NAME)) is not None and found.pid == first.pid)
    run(shell, f"%omlx connect {NAME}\n%ocr sum.png")
    try:
        first.send_signal(signal.SIGSTOP)
        job = run(shell, "%%vlm --background\n{img}")
        given_up = run(shell, "%%vlm --background\n{img} again")
    finally:
        first.kill()
        first.wait(20)
    second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        given_up.cancel()
        assert job.result(60).text == "Hello 42"
        until(lambda: given_up.done)
        assert run(shell, "%ocr hello.png").text == "Hello 42"
    finally:
        second.kill()
        second.wait(20)


def test_disconnect_goes_back(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%omlx disconnect")
    assert f"Disconnected from {NAME}" in capsys.readouterr().out
    run(shell, "%omlx disconnect")
    assert "its own engine" in capsys.readouterr().out
    assert run(shell, "%ocr hello.png").text == "Hello 42"
    assert not getattr(session.current_engine(), "remote", False)


def test_mistakes_name_the_mend(shell: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(shell, "%omlx disconnect")
    run(shell, "%ocr hello.png")
    assert "there is no server nobody" in complaint(shell, "%omlx connect nobody", capsys)
    assert "NAME_OR_URL" in complaint(shell, "%omlx connect", capsys)
    assert "needs a value" in complaint(shell, "%omlx connect x --model", capsys)
    assert "isn't known" in complaint(shell, "%omlx serve --colour red", capsys)
    told = complaint(shell, "%omlx connect http://127.0.0.1:9 --key-env OMLX_NO_SUCH", capsys)
    assert "OMLX_NO_SUCH is no variable" in told
    told = complaint(shell, "%omlx connect http://127.0.0.1:9 --key-env sk-secret-itself", capsys)
    assert "sk-secret" not in told
    told = complaint(shell, f"%omlx serve --name bad{NAME} --model {tmp_path / 'none'}", capsys)
    assert "did not start" in told
    assert stat.S_IMODE((place.private_folder() / f"bad{NAME}.log").stat().st_mode) == 0o600
    assert session.current_engine() is not None  # what was in use stays


def test_a_server_that_is_set_is_used_from_the_first_request_on(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from omlx_jupyter.notebook.settings.config import settings
    from omlx_jupyter.notebook.work import servers

    run(shell, "%omlx unload")
    servers._left.clear()
    monkeypatch.setattr(settings(), "server", "nobody")
    assert "there is no server nobody" in complaint(shell, "%ocr hello.png", capsys)
    run(shell, "%omlx disconnect")
    assert run(shell, "%ocr hello.png").text == "Hello 42"
