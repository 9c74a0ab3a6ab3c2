"""Who may ask a server, and for how much."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx_jupyter import SamplingParams, connect
from omlx_jupyter.errors import RequestError
from omlx_jupyter.remote import place
from omlx_jupyter.remote.line import Address, Line
from omlx_jupyter.serve.guard import host_of

from ..conftest import noise_image
from .conftest import Served, end, start

ENDLESS = dict.fromkeys(range(256, 320), -1e9)  # no token that ends anything


@pytest.fixture(scope="module")
def small(checkpoint: Callable[..., Path]) -> Any:
    made = start(
        f"g{os.getpid()}", [str(checkpoint("qwen2_vl"))], "--port", "0", "--max-body-mib", "1", "--max-queue", "4"
    )
    yield made
    end(made)


def ask(served: Served, path: str = "/health", method: str = "GET", body: Any = None, **headers: str) -> Any:
    """(status, body) over TCP."""
    url = served.record.url
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    reply = connection.getresponse()
    made = reply.status, reply.read()
    connection.close()
    return made


def token(served: Served) -> str:
    return f"Bearer {served.record.token}"


def test_the_folder_the_socket_and_the_record_are_private(small: Served) -> None:
    record = small.record
    for path, kind in ((Path(record.socket), stat.S_ISSOCK), (place.folder() / f"{small.name}.json", stat.S_ISREG)):
        mode = path.stat().st_mode
        assert kind(mode)
        assert not mode & 0o077, oct(mode)
    assert stat.S_IMODE(place.folder().stat().st_mode) == 0o700
    assert len(os.fsencode(record.socket)) < 104


def test_a_token_is_asked_for_over_tcp(small: Served) -> None:
    right = token(small)
    assert ask(small, Authorization=right)[0] == 200
    for wrong in ("", "Bearer ", "Bearer x", right[:-1], right + "x", right.replace("Bearer", "Basic"), "Bearer ü"):
        status, body = ask(small, Authorization=wrong.encode("latin-1", "replace").decode("latin-1"))
        assert status == 401, wrong
        assert small.record.token not in body.decode()
    assert ask(small)[0] == 401
    for path in ("/v1/models", "/metrics", "/omlx/v1/hello", "/omlx/v1/stop", "/nothing"):
        assert ask(small, path)[0] == 401, path


def test_the_client_says_what_is_wrong_with_a_token_and_never_shows_it(small: Served) -> None:
    assert connect(small.record.url).name == small.models[0]  # found by its address
    with pytest.raises(RequestError, match="missing, wrong or of an earlier start") as told:
        connect(small.record.url, key="of-an-earlier-start")
    assert "of-an-earlier-start" not in str(told.value)
    assert "of-an-earlier-start" not in repr(Address("x", url="y", token="of-an-earlier-start"))


def test_another_host_header_and_pages_are_refused(small: Served) -> None:
    assert ask(small, Authorization=token(small), Host="evil.example")[0] == 421
    assert ask(small, Authorization=token(small), Host="evil.example:80")[0] == 421
    assert ask(small, Authorization=token(small), Host="localhost:1")[0] == 200
    assert ask(small, Authorization=token(small), Origin="http://localhost:1")[0] == 403
    status, _ = ask(small, "/v1/models", "OPTIONS", Origin="http://evil.example")
    assert status in (401, 403)


def test_names_in_host_headers() -> None:
    assert [host_of(h) for h in (b"A.b:1", b"[::1]:80", b"[::1]", b"127.0.0.1", b"", b"a:b")] == [
        "a.b", "::1", "::1", "127.0.0.1", "", "a:b",
    ]  # fmt: skip


def test_a_body_too_large(small: Served) -> None:
    right = token(small)
    assert ask(small, "/v1/chat/completions", "POST", b"x" * 2**21, Authorization=right)[0] == 413
    connection = http.client.HTTPConnection(small.record.url.removeprefix("http://"), timeout=20)
    pieces = (b"x" * 65536 for _ in range(40))  # chunked: no length is told
    try:
        connection.request("POST", "/v1/chat/completions", body=pieces, headers={"Authorization": right})
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server had closed by then
    connection.close()
    with connect(small.name) as engine, pytest.raises(Exception, match="over the limit of 1 MiB"):
        engine.generate("?", [noise_image(900, 900)], SamplingParams(max_tokens=1))
    with connect(small.name) as engine:
        assert engine.generate("after", sampling=SamplingParams(max_tokens=1)).token_ids


def post(served: Served, body: Any, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    status, said = ask(served, path, "POST", json.dumps(body), Authorization=token(served))
    return status, json.loads(said)


@pytest.mark.parametrize(
    "source",
    ["/etc/hostname", "file:///etc/hostname", "~/x.png", "FILE:///etc/hostname", "a*.png", "x.pdf", " /etc/hostname"],
)
def test_no_path_is_taken(small: Served, source: str) -> None:
    for part in (
        {"type": "image_url", "image_url": {"url": source}},
        {"type": "image_url", "image_url": source},
        {"type": "input_image", "image_url": source},
        {"type": "image", "image": source},
        {"type": "file", "file": {"file_url": source}},
    ):
        for body, path in (
            ({"messages": [{"role": "user", "content": [part]}]}, "/v1/chat/completions"),
            ({"input": [{"role": "user", "content": [part]}]}, "/v1/responses"),
        ):
            status, said = post(small, body, path)
            assert status == 400, (part, said)
            assert "paths aren't taken" in said["error"]["message"]


def test_no_private_address_and_no_other_model(small: Served) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}
    status, said = post(small, {"messages": [{"role": "user", "content": [part]}]})
    assert status == 422
    assert "private" in said["error"]["message"]
    status, said = post(small, {"model": "/etc", "messages": [{"role": "user", "content": "x"}]})
    assert status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/omlx/v1/submit", b"{"),
        ("/omlx/v1/submit", b"[]"),
        ("/omlx/v1/submit", b'{"session": "x", "requests": []}'),
        ("/omlx/v1/pictures", b"\0\0\0\4nonsense"),
        ("/omlx/v1/pictures", b'\0\0\0\x2a{"digest":"x","width":1,"height":1,"a":"1"}abc'),
        ("/omlx/v1/pictures", b'\0\0\0\x2d{"digest":"x","width":-1,"height":10,"a":"1"}abc'),
        ("/omlx/v1/decode", b'{"token_ids": ["a"]}'),
        ("/omlx/v1/tools/rm", b"{}"),
        ("/v1/chat/completions", b"null"),
        ("/v1/chat/completions", b'{"messages": [1]}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": [[1]]}]}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "no_such": 1}'),
        ("/v1/responses", b'{"input": 5}'),
    ],
)
def test_nonsense_is_refused_with_a_sentence(small: Served, path: str, body: bytes) -> None:
    status, said = ask(small, path, "POST", body, Authorization=token(small))
    assert 400 <= status < 500, said
    assert json.loads(said)["error"]["message"]


def test_a_full_queue_is_waited_for_by_ours_and_told_to_others(small: Served) -> None:
    """Four requests at most: ours come in by and by."""
    with connect(small.name) as engine:
        endless = SamplingParams(max_tokens=100_000, logit_bias=ENDLESS)
        held = [engine.submit(f"{n}", sampling=endless) for n in range(4)]
        for handle in held:
            handle.poll(None)
        late = engine.submit("late", sampling=SamplingParams(max_tokens=2))
        status, said = post(small, {"messages": [{"role": "user", "content": "x"}]})
        assert (status, "queue is full" in said["error"]["message"]) == (429, True)
        for handle in held:
            handle.cancel()
        assert late.result(30).token_ids


def test_a_slow_reader_holds_nobody(small: Served) -> None:
    """One that never reads its stream, while another is served; then it goes away and its rows end."""
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(small.record.socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(b"GET /omlx/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    said = b""
    while b'"session"' not in said or not said.endswith(b"\r\n"):
        said += raw.recv(1)
    session = json.loads(said[said.index(b'{"session"') :].splitlines()[0])["session"]
    line = Line(Address("x", socket=small.record.socket))
    bias = {str(token): value for token, value in ENDLESS.items()}
    asked = {"messages": [{"role": "user", "parts": ["slow"], "extra": {}}]}
    asked["sampling"] = {"max_tokens": 100_000, "logit_bias": bias, "logprobs": 20}  # type: ignore[assignment]
    reply = line.ask("POST", "/omlx/v1/submit", {"session": session, "requests": [{"id": 1, **asked}]})
    assert reply.json() == {"unknown": {}}
    with connect(small.name) as engine:
        for number in range(5):
            assert engine.generate(f"quick {number}", sampling=SamplingParams(max_tokens=20), timeout=30).token_ids
        assert [lane.number for lane in engine.requests()]
        raw.close()
        for _ in range(400):
            if not engine.requests():
                break
            threading.Event().wait(0.05)
        assert not engine.requests()
    line.close()


def test_a_second_server_of_the_name_and_a_foreign_folder(small: Served, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="runs already"):
        start(small.name, small.models)
    for name in ("../x", "", "a/b", "x" * 40, ".x"):
        with pytest.raises(RequestError, match="no name"):
            place.checked_name(name)
        assert place.read(name) is None


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "folder", lambda: tmp_path / "open")
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open" / "evil.json").write_text(json.dumps({"name": "evil", "pid": 1, "socket": "/tmp/evil"}))
    assert place.read("evil") is None
    assert place.names() == []
    with pytest.raises(RequestError, match="yours alone"):
        place.private_folder()
    (tmp_path / "linked").symlink_to(tmp_path)
    monkeypatch.setattr(place, "folder", lambda: tmp_path / "linked")
    with pytest.raises(RequestError, match="yours alone"):
        place.private_folder()
