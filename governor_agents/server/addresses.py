"""Whose request it is, by address. A header is believed only when a proxy that the operator named has sent it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from governor_agents.server.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address that limits count by: of the last one in the chain whom nobody trusted vouches for.

    ``peer`` is who holds the connection, ``forwarded`` the values of its ``X-Forwarded-For`` headers in order.
    An IPv6 address is given as its /64, since one host has all of those.
    """
    chain = [part.strip() for value in forwarded for part in value.split(",")]
    at = _parse(peer)
    while chain and at is not None and any(at.version == net.version and at in net for net in trusted):
        before = _parse(chain.pop())
        if before is None:  # a trusted proxy passed on what is no address: count it at the proxy
            break
        at = before
    return "unknown" if at is None else _counted(at)


def _parse(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped if mapped is not None else found


def _counted(at: Address) -> str:
    if at.version == 4:
        return str(at)
    return str(ipaddress.IPv6Network((int(at), 64), strict=False))
