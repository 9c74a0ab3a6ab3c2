"""Downloads, from a real server on loopback."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images import fetch
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import open_images

from ..conftest import noise_image

OPEN = Limits(allow_private_urls=True, timeout_s=5)


def _png() -> bytes:
    buffer = io.BytesIO()
    noise_image(20, 20).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.split("?")[0].strip("/")
        if name.startswith("hop"):
            left = int(name[3:])
            self.send_response(302)
            self.send_header("Location", f"/hop{left - 1}" if left > 1 else "/a.png")
            self.end_headers()
        elif name == "a.png":
            self._send(_png())
        elif name == "page":
            self._send(b"<html>not found, but 200</html>")
        elif name == "slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(40):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
        elif name == "large":
            self._send(b"x" * 300_000)
        elif name == "escape":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        else:
            self.send_error(404)

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_download_and_redirects(server: str) -> None:
    direct = open_images(f"{server}/a.png", OPEN)[0]
    assert direct.digest == open_images(_png())[0].digest
    assert open_images(f"{server}/hop5", OPEN)[0].digest == direct.digest


@pytest.mark.parametrize(
    ("path", "limits", "words"),
    [
        ("hop6", OPEN, "redirects more than 5"),
        ("nothing", OPEN, "answered 404"),
        ("page", OPEN, "HTML page"),
        ("large", Limits(allow_private_urls=True, max_bytes=100_000), "over the limit"),
        ("slow", Limits(allow_private_urls=True, timeout_s=0.5), "took over"),
        ("escape", OPEN, "not an http"),
        ("a.png", Limits(), "private address 127.0.0.1"),
    ],
)
def test_refusals(server: str, path: str, limits: Limits, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_images(f"{server}/{path}", limits)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/a.png",
        "http://0.0.0.0/a.png",
        "http://2130706433/a.png",
    ],
)
def test_private_addresses_in_every_spelling(url: str) -> None:
    with pytest.raises(ImageError, match=r"private address|can't be found"):
        open_images(url)


def test_a_name_that_changes_its_address_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name is resolved once, and the address that was checked is connected to."""
    import socket

    import httpx

    asked: list[str] = []

    def rebinding(host: str, port: int, **_: object) -> list:
        asked.append(host)
        address = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    pinned, extensions = fetch._pin(httpx.URL("https://rebind.test/a.png"), Limits())
    assert pinned.host == "8.8.8.8"
    assert extensions == {"sni_hostname": "rebind.test"}
    assert asked == ["rebind.test"]
    with pytest.raises(ImageError, match="private address"):
        fetch._pin(httpx.URL("https://rebind.test/a.png"), Limits())


def test_unreachable_hosts(server: str) -> None:
    with pytest.raises(ImageError, match="can't be fetched"):
        open_images("http://127.0.0.1:9/a.png", OPEN)
    with pytest.raises(ImageError, match="can't be found"):
        open_images("http://no-such-host.invalid/a.png")
