"""Which addresses a notebook may fetch from. A table of our own: `ipaddress.is_global` differs between Pythons."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_V4 = {
    IPv4Network(network): name
    for network, name in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "a provider's own network",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarks",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved or broadcast",
    }.items()
}
# The whole of IPv6 is refused but for global unicast (2000::/3) and NAT64 of an allowed IPv4 address.
_GLOBAL_V6 = IPv6Network("2000::/3")
_V6 = {
    IPv6Network(network): name
    for network, name in {
        "::/128": "unspecified",
        "::1/128": "loopback",
        "::/96": "an IPv4-compatible address",
        "64:ff9b:1::/48": "NAT64 of a local network",
        "100::/64": "discarded",
        "2001::/23": "protocol assignments, Teredo among them",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "3fff::/20": "documentation",
        "5f00::/16": "segment routing",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "fec0::/10": "site-local",
        "ff00::/8": "multicast",
    }.items()
}
_NAT64 = IPv6Network("64:ff9b::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")


def plain(text: str) -> Address:
    """An address as it counts: an IPv4 address inside IPv6 (mapped, NAT64) is that IPv4 address."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and (address in _NAT64 or address in _MAPPED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def forbidden(text: str) -> str | None:
    """Why a resolved address may not be fetched from: the kind of its network, or None if it may."""
    address = plain(text)
    if isinstance(address, IPv4Address):
        return next((name for network, name in _V4.items() if address in network), None)
    for network, name in _V6.items():
        if address in network:
            return name
    return None if address in _GLOBAL_V6 else "not global"
