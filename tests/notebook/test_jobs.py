"""A background job's life: its server goes and comes back, it is waited for, ended, listed."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from omlx_jupyter.errors import EngineClosedError, RequestError
from omlx_jupyter.notebook.work import jobs, servers
from omlx_jupyter.notebook.work.jobs import Job


class Asked:
    """A request that says nothing until `gate` opens, and then ends as it is told."""

    def __init__(self, fails: Exception | None = None, tokens: int = 0) -> None:
        self.gate, self.fails = threading.Event(), fails
        self.background = self.cancelled = False
        self.progress = SimpleNamespace(tokens=tokens, phase="decode")
        self.usage = SimpleNamespace(reasoning_tokens=0)

    def in_background(self) -> Asked:
        self.background = True
        return self

    def poll(self, timeout: float) -> tuple[list[Any], bool]:
        ended = self.gate.wait(min(timeout, 0.01)) or self.cancelled
        if ended and self.fails is not None:
            raise self.fails
        return [], ended

    def cancel(self) -> None:
        self.cancelled = True


class Seen:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.finished: list[Any] = []

    def update(self, *_: Any) -> None:
        pass

    def status(self, text: str) -> None:
        self.said.append(text)

    def finish(self, result: Any) -> None:
        self.finished.append(result)


def job_of(handle: Asked, again: Any = None) -> tuple[Job, Seen]:
    seen = Seen()
    made = Job(handle, seen, lambda held, _: SimpleNamespace(finish_reason="stop", of=held), "Hi", again)  # type: ignore[arg-type]
    return made, seen


def closed() -> EngineClosedError:
    return EngineClosedError("the server is gone")


def until(true: Any) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


def test_a_job_is_waited_for_and_told_of() -> None:
    asked, heard = Asked(tokens=7), []
    job, seen = job_of(asked)
    assert asked.background
    assert job._thread.daemon
    assert (job.done, job.state, repr(job)) == (
        False, "writing, 7 tokens", f"<Job {job.number} · writing, 7 tokens>",
    )  # fmt: skip
    asked.progress.phase = "prefill"
    assert job.state == "prefill"
    job.then(heard.append)
    began = time.monotonic()
    for timeout, least in ((0, 0), (0.2, 0.15)):
        with pytest.raises(TimeoutError, match=rf"^job {job.number} is still running$"):
            job.result(timeout)
        assert time.monotonic() - began >= least
    assert time.monotonic() - began < 10
    assert heard == []
    asked.gate.set()
    assert job.result().of is asked  # type: ignore[attr-defined]
    assert heard == seen.finished == [job.result()]
    assert (job.done, job.state) == (True, "finished")
    assert seen.said == []
    assert jobs.find(str(job.number)) is job
    assert job in jobs.listing()

    async def wait() -> Any:
        return await job

    assert asyncio.run(wait()) is job.result()
    follower, _ = job_of(Asked())
    assert follower.number == job.number + 1
    follower.cancel()
    follower.result(20)


def test_a_job_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(RequestError("too long"))
    asked.gate.set()
    job, seen = job_of(asked)
    with pytest.raises(RequestError, match="too long"):
        job.result(20)
    assert (job.state, seen.said, seen.finished) == ("failed: too long", ["too long"], [])
    odd = Asked(ValueError("odd"))
    odd.gate.set()
    other, seen = job_of(odd)
    until(lambda: other.done)
    assert (other.state, seen.said) == ("failed: odd", [])
    jobs.command(["wait", str(job.number)])
    assert capsys.readouterr().out == f"{job.number}: too long\n"
    jobs.command(["wait"])  # a fault of one doesn't end the waiting for those behind it
    assert capsys.readouterr().out.splitlines()[-1] == f"{other.number}: failed: odd"


@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("can", [True, False])
def test_only_a_job_of_which_nothing_was_said_waits_for_its_server(
    tokens: int, gone: bool, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "has_gone", lambda: gone)
    monkeypatch.setattr(jobs, "_RETRY_S", 0.01)
    first, second, tried = Asked(closed(), tokens), Asked(), []
    first.gate.set()
    second.gate.set()

    def again() -> Asked:
        tried.append(1)
        if len(tried) < 3:
            raise closed()
        return second

    job, seen = job_of(first, again if can else None)
    if gone and can and not tokens:
        assert job.result(20).of is second  # type: ignore[attr-defined]
        assert len(tried) == 3
        assert second.background
        assert seen.said == [f"job {job.number} waits for its server; %omlx jobs cancel {job.number} ends it"]
        return
    with pytest.raises(EngineClosedError):
        job.result(20)
    assert tried == []


def test_a_job_that_waits_for_its_server_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "has_gone", lambda: True)
    first = Asked(closed())
    first.gate.set()

    def again() -> Asked:
        raise closed()

    job, seen = job_of(first, again)
    until(lambda: seen.said)
    assert not job.done
    began = time.monotonic()
    jobs.command(["cancel", str(job.number)])
    assert first.cancelled
    with pytest.raises(EngineClosedError):
        job.result(20)
    assert time.monotonic() - began < jobs._RETRY_S + 5


def test_jobs_are_listed_waited_for_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    jobs.command(["cancel"])
    jobs.command(["wait"])
    jobs.command(["clear"])
    capsys.readouterr()
    assert jobs.listing() == []
    jobs.command([])
    assert capsys.readouterr().out == "No jobs yet; %%vlm --background begins one.\n"
    asked, other = Asked(tokens=2), Asked()
    one, _ = job_of(asked)
    two, _ = job_of(other)
    two.prompt = "p" * 61
    asked.gate.set()
    one.result(20)
    jobs.command([])
    assert capsys.readouterr().out.splitlines() == [
        f"{one.number}: finished · Hi",
        f"{two.number}: writing, 0 tokens · {'p' * 60}",
    ]
    jobs.command(["clear"])
    assert jobs.listing() == [two]
    jobs.command(["cancel"])
    jobs.command(["wait"])
    assert other.cancelled
    assert capsys.readouterr().out == f"{two.number}: finished\n"
    jobs.command(["clear"])
    assert jobs.listing() == []
