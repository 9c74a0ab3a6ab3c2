"""Downloads, from a real server on loopback."""

from __future__ import annotations

import contextlib
import functools
import io
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from omlx_jupyter.errors import ImageError
from omlx_jupyter.images import fetch, networks
from omlx_jupyter.images.decoded import Limits
from omlx_jupyter.images.source import open_images

from ..conftest import noise_image

OPEN = Limits(allow_private_urls=True, timeout_s=5)


def _png() -> bytes:
    buffer = io.BytesIO()
    noise_image(20, 20).save(buffer, "PNG")
    return buffer.getvalue()


@functools.cache
def _packed(encoding: str, kind: str) -> bytes:
    pack = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    return pack.compress(_png() if kind != "bomb" else bytes(64 * 2**20)) + pack.flush()


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
        elif name in ("metadata", "then-slow"):
            self.send_response(302)
            self.send_header("Location", "/slow" if name == "then-slow" else "http://169.254.169.254/latest/meta-data")
            self.end_headers()
        elif name == "stall":
            time.sleep(2)
        elif name == "slow-headers":
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                for _ in range(30):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
        elif name == "who":
            self._send(self.headers.get("Authorization", "").encode())
        elif name.endswith("proxied"):
            self._send(self.path.encode())
        elif name.startswith(("gzip/", "deflate/", "br/")):
            encoding, kind = name.split("/")
            packed = _packed(encoding, kind)
            self._send(packed[:-20] if kind == "cut" else packed, encoding)
        elif name == "escape":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        else:
            self.send_error(404)

    def _send(self, data: bytes, encoding: str = "") -> None:
        self.send_response(200)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
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


def _answers(*addresses: str) -> tuple[list[str], Callable[..., list]]:
    """A resolver that gives another address at each call, the last from then on; and what it was asked."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list:
        asked.append(host)
        address = addresses[min(len(asked), len(addresses)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return asked, resolve


def test_a_name_that_changes_its_address_gains_nothing(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: resolved once, checked, and connected to that very address."""
    asked, answers = _answers("127.0.0.1", "10.0.0.1")
    original = socket.getaddrinfo

    def resolve(host: str, port: int, *args: int, **named: int) -> list:
        return answers(host, port) if host == "rebind.test" else original(host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("omlx_jupyter.images.connect.forbidden", _but_loopback)
    port = server.rpartition(":")[2]
    assert fetch.fetch(f"http://rebind.test:{port}/a.png", Limits(timeout_s=5)) == _png()
    assert asked == ["rebind.test"]
    with pytest.raises(ImageError, match=r"private address 10\.0\.0\.1"):
        fetch.fetch(f"http://rebind.test:{port}/a.png", Limits(timeout_s=5))


def _but_loopback(address: str) -> str | None:
    return None if address == "127.0.0.1" else networks.forbidden(address)


def test_each_redirect_is_checked_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omlx_jupyter.images.connect.forbidden", _but_loopback)
    with pytest.raises(ImageError, match=r"private address 169\.254\.169\.254 \(link-local\)"):
        open_images(f"{server}/metadata", Limits(timeout_s=5))


@pytest.mark.parametrize(
    "address",
    [
        *("0.1.2.3", "10.9.8.7", "100.64.0.1", "100.127.255.255", "127.0.0.2", "169.254.169.254", "172.16.0.1"),
        *("172.31.255.255", "192.0.0.8", "192.0.0.9", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "::10.0.0.1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:7f00:1", "64:ff9b::10.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:db8::1", "2001:10::1"),
        *("2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0"),
        *("fec0::1", "ff02::1", "4000::1"),
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    assert networks.forbidden(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "223.255.255.255", "198.20.0.1"),
        *("2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"),
    ],
)
def test_addresses_that_are_allowed(address: str) -> None:
    assert networks.forbidden(address) is None


@pytest.mark.parametrize("path", ["slow", "slow-headers", "then-slow", "stall"])
def test_one_deadline_for_the_whole_fetch(server: str, path: str) -> None:
    """A byte every now and then keeps no connection beyond the limit, in the headers nor in the body."""
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"took over 0\.5 s"):
        fetch.fetch(f"{server}/{path}", Limits(allow_private_urls=True, timeout_s=0.5))
    assert time.monotonic() - started < 1.5


def test_a_resolver_that_hangs_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(10) and [])
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"took over 0\.2 s"):
        fetch.fetch("http://slow-name.test/a.png", Limits(timeout_s=0.2))
    assert time.monotonic() - started < 1
    released.set()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bytes_are_counted_after_decompression(server: str, encoding: str) -> None:
    limits = Limits(allow_private_urls=True, timeout_s=5)
    assert fetch.fetch(f"{server}/{encoding}/small", limits) == _png()
    _packed(encoding, "bomb")  # the server's part, made before measuring
    tracemalloc.start()
    with pytest.raises(ImageError, match="over the limit of 1 MiB"):
        fetch.fetch(f"{server}/{encoding}/bomb", replace(limits, max_bytes=2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2**20  # of 64 MiB
    with pytest.raises(ImageError, match="ended before"):
        fetch.fetch(f"{server}/{encoding}/cut", limits)


def test_an_encoding_that_was_not_asked_for_is_refused(server: str) -> None:
    with pytest.raises(ImageError, match="encoding br"):
        fetch.fetch(f"{server}/br/small", OPEN)


def test_the_environments_proxy_is_used_only_when_asked_for(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, server)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    port = server.rpartition(":")[2]
    with pytest.raises(ImageError, match="private address"):
        fetch.fetch(f"http://127.0.0.1:{port}/a.png", Limits(timeout_s=5))
    assert fetch.fetch(f"{server}/proxied", OPEN) == b"/proxied"  # a proxy would be asked for the whole URL
    asked, answers = _answers("8.8.8.8")
    original = socket.getaddrinfo

    def resolve(host: str, port: int, *args: int, **named: int) -> list:
        return answers(host, port) if host == "far.test" else original(host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert fetch.fetch("http://far.test/proxied", Limits(timeout_s=5, use_proxy=True)) == b"http://far.test/proxied"
    assert asked == ["far.test"]  # by us, for the check; the proxy resolves for itself
    with pytest.raises(ImageError, match="private address"):
        fetch.fetch(f"http://127.0.0.1:{port}/proxied", Limits(timeout_s=5, use_proxy=True))


def test_a_password_in_a_url_is_sent_and_not_shown(server: str) -> None:
    with pytest.raises(ImageError) as caught:
        fetch.fetch(server.replace("//", "//me:secret@") + "/nothing", OPEN)
    assert "secret" not in str(caught.value)
    data = fetch.fetch(server.replace("//", "//me:secret@") + "/who", OPEN)
    assert data == b"Basic bWU6c2VjcmV0"


def test_unreachable_hosts(server: str) -> None:
    with pytest.raises(ImageError, match="can't be fetched"):
        open_images("http://127.0.0.1:9/a.png", OPEN)
    with pytest.raises(ImageError, match="can't be found"):
        open_images("http://no-such-host.invalid/a.png")
