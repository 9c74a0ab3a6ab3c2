"""Pictures over http(s), without handing the notebook's machine to the page that names a URL."""

from __future__ import annotations

import ipaddress
import socket
import time

import httpx

from ..errors import ImageError
from .decoded import Limits


def fetch(url: str, limits: Limits) -> bytes:
    """Download `url` within the limits.

    Each hop's host is resolved once, every address is checked, and the connection goes to the
    checked address: a name that resolves differently the second time gains nothing.

    :raises ImageError: a private address, a bad status, too many bytes, hops or seconds.
    """
    deadline = time.monotonic() + limits.timeout_s
    current = _parse(url)
    with httpx.Client(follow_redirects=False, timeout=limits.timeout_s) as client:
        for _ in range(limits.max_redirects + 1):
            pinned, extensions = _pin(current, limits)
            try:
                response = _get(client, current, pinned, extensions, limits, deadline)
            except httpx.TimeoutException:
                raise ImageError(f"{url} took over {limits.timeout_s:.0f} s; try again or download it first.") from None
            except httpx.HTTPError as error:
                raise ImageError(f"{url} can't be fetched ({error or type(error).__name__}).") from None
            if isinstance(response, bytes):
                return response
            current = _parse(str(current.join(response)))
    raise ImageError(f"{url} redirects more than {limits.max_redirects} times.")


def _get(
    client: httpx.Client,
    url: httpx.URL,
    pinned: httpx.URL,
    extensions: dict[str, object],
    limits: Limits,
    deadline: float,
) -> bytes | str:
    """The body, or the address that a redirect points to."""
    headers = {"Host": url.netloc.decode(), "User-Agent": "omlx_jupyter", "Accept": "image/*,*/*;q=0.5"}
    with client.stream("GET", pinned, headers=headers, extensions=extensions) as response:
        if response.is_redirect:
            return response.headers["location"]
        if response.status_code != 200:
            raise ImageError(f"{url} answered {response.status_code} {response.reason_phrase}; check the address.")
        chunks, size = [], 0
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > limits.max_bytes:
                raise ImageError(f"{url} is over the limit of {limits.max_bytes / 2**20:.0f} MiB.")
            if time.monotonic() > deadline:
                raise ImageError(f"{url} took over {limits.timeout_s:.0f} s; try again or download it first.")
        return b"".join(chunks)


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ImageError(f"{url[:80]} is not a URL ({error}).") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ImageError(f"{url[:80]} is not an http(s) URL.")
    return parsed


def _pin(url: httpx.URL, limits: Limits) -> tuple[httpx.URL, dict[str, object]]:
    if limits.allow_private_urls:
        return url, {}
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise ImageError(f"the host of {url} can't be found; check the address and the connection.") from None
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        plain = getattr(address, "ipv4_mapped", None) or address
        if not plain.is_global or plain.is_multicast:
            raise ImageError(f"{url} resolves to the private address {plain}; set allow_private_urls if you trust it.")
    host = str(addresses[0])
    return url.copy_with(host=host), {"sni_hostname": url.host}
