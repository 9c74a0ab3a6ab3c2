"""Pictures over http(s), without handing the notebook's machine to the page that names a URL."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ..errors import ImageError
from .boundary import one_line, one_sentence
from .connect import CheckedBackend, Deadline, check, resolve
from .files import mib
from .limits import Limits, raising

_REDIRECTS = (301, 302, 303, 307, 308)


def fetch(url: str, limits: Limits) -> bytes:
    """Download `url` within the limits: `max_bytes` once decompressed, `timeout_s` for all of it.

    Each hop's host is resolved once, every address is checked, and the connection goes to a checked
    address. No proxy of the environment is used unless `use_proxy` says so.

    :raises ImageError: a private address, a bad status, too many bytes, hops or seconds.
    """
    current, deadline = _parse(url), Deadline(limits.timeout_s)
    shown = _shown(current)
    with one_sentence(shown, "can't be fetched", "check the address and the connection"):
        try:
            for _ in range(limits.max_redirects + 1):
                answer = _hop(current, limits, deadline)
                if isinstance(answer, bytes):
                    return answer
                current = _parse(str(current.join(answer)))
        except httpcore.TimeoutException:
            raise ImageError(
                f"{shown} took over {limits.timeout_s:g} s; try again, download it first, or {raising('timeout_s')}."
            ) from None
    raise ImageError(f"{shown} redirects more than {limits.max_redirects} times; give the final address.")


def _hop(url: httpx.URL, limits: Limits, deadline: Deadline) -> bytes | str:
    """The body, or the address that a redirect points to."""
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc.decode(),
        "User-Agent": "omlx_jupyter",
        "Accept": "image/*,*/*;q=0.5",
    }
    # Pictures are compressed already; an encoding that wasn't asked for is still undone within the limit.
    headers["Accept-Encoding"] = "identity"
    if url.userinfo:
        secret = f"{url.username}:{url.password}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
    target = url.copy_with(userinfo=b"", fragment=None)
    with _pool(target, limits, deadline) as pool, pool.stream("GET", str(target), headers=headers) as response:
        got = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and "location" in got:
            return got["location"]
        if response.status != 200:
            raise ImageError(f"{_shown(url)} answered {response.status}; check the address.")
        length = got.get("content-length", "")
        if length.isdigit() and int(length) > limits.max_bytes:
            raise _too_large(url, limits)
        pieces = _undone(response.iter_stream(), got.get("content-encoding", ""), _shown(url), limits)
        return _joined(pieces, url, limits)


def _pool(url: httpx.URL, limits: Limits, deadline: Deadline) -> httpcore.ConnectionPool:
    tls = httpx.create_ssl_context()
    proxy = _proxy(url) if limits.use_proxy else None
    if proxy is None:
        return httpcore.ConnectionPool(ssl_context=tls, network_backend=CheckedBackend(limits, deadline))
    if not limits.allow_private_urls:
        check(url.host, resolve(url.host, url.port or 443, deadline))
    login = (proxy.username.encode(), proxy.password.encode()) if proxy.userinfo else None
    backend = CheckedBackend(limits, deadline, check=False)  # the user's own proxy may well be private
    address = str(proxy.copy_with(userinfo=b""))
    return httpcore.HTTPProxy(address, proxy_auth=login, ssl_context=tls, network_backend=backend)


def _proxy(url: httpx.URL) -> httpx.URL | None:
    """The environment's proxy for a URL."""
    named = getproxies()
    proxy = named.get(url.scheme) or named.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    return _parse(proxy if "://" in proxy else f"http://{proxy}")


def _undone(chunks: Iterable[bytes], encoding: str, shown: str, limits: Limits) -> Iterator[bytes]:
    """The body without its transfer compression, in pieces that never have more than `max_bytes` + 1 bytes."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ImageError(f"{shown} came in the encoding {one_line(encoding)}, which wasn't asked for; download it.")
    undo = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    for chunk in chunks:
        while chunk:
            yield undo.decompress(chunk, limits.max_bytes + 1)
            chunk = undo.unconsumed_tail
    if not undo.eof:
        raise ImageError(f"{shown} ended before its compressed data did; try again.")


def _joined(pieces: Iterable[bytes], url: httpx.URL, limits: Limits) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > limits.max_bytes:
            raise _too_large(url, limits)
    return bytes(body)


def _too_large(url: httpx.URL, limits: Limits) -> ImageError:
    return ImageError(
        f"{_shown(url)} is over the limit of {mib(limits.max_bytes)}; {raising('max_bytes')} or shrink it."
    )


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        _ = parsed.netloc, parsed.port
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise ImageError(f"{one_line(url)[:80]} is not a URL ({one_line(str(error))}).") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ImageError(f"{one_line(url)[:80]} is not an http(s) URL.")
    return parsed


def _shown(url: httpx.URL) -> str:
    """A URL as messages show it: without a password."""
    return one_line(str(url.copy_with(userinfo=b"")))
