"""Addresses of the other side. Pure."""

from __future__ import annotations

import ipaddress


def address_group(remote: str) -> str:
    """Returns the key under which an address is counted: of IPv6 the /64, since one host has all addresses in it (RFC
    6177).

    >>> address_group("10.0.0.7"), address_group("2001:db8:1:2:3:4:5:6"), address_group("::ffff:10.0.0.7")
    ('10.0.0.7', '2001:db8:1:2::', '10.0.0.7')
    """
    if ":" not in remote:
        return remote
    address = ipaddress.IPv6Address(remote.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`. A name is, where it is `localhost` (RFC 6761, 6.3).

    >>> [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "weir.example")]
    [True, True, True, True, False, False, False]
    """
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
