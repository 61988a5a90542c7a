"""Where a webhook may go: https, a listed host, and only addresses of the public internet.

A URL is taken apart once, here, and strictly; what is sent goes to what this says, so no second parser can read it
another way. A name is resolved once per delivery, every address it has is looked at, and the connection goes to one of
those addresses, never to the name: a name that resolves to something else a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from governor_agents.errors import ConfigError, DeliveryFailed

HTTPS = 443

MOST = 8
"""How many addresses of a name are looked at; a name with more of them is not called."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""From a host and a port to addresses as text. Raises `OSError` when there are none."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PRINTABLE = re.compile(r"[!-~]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart: the host in lower case, the path with its query."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS else f"{host}:{self.port}"


def parse(url: str, hosts: Collection[str]) -> Target:
    """Take a URL apart. ``hosts`` are those that may be called: ``example.com``, ``example.com:8443``.

    Raises `ConfigError` for anything but https to one of them. The message never quotes the URL's path, query or
    userinfo, which may hold a secret.
    """
    if not _PRINTABLE.fullmatch(url) or "\\" in url:  # of which some libraries drop parts
        raise ConfigError("a webhook's URL is printable ASCII; write other hosts as xn--..., anything else as %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("the URL of a webhook cannot be read; write https://HOST/PATH") from None
    if parts.scheme != "https" or not url.lower().startswith("https://"):
        raise ConfigError("a webhook goes to https://HOST/PATH and nothing else")
    if "@" in parts.netloc:
        raise ConfigError("a webhook's URL holds no user and password; the signature says who calls")
    if parts.fragment or "#" in url:
        raise ConfigError("a webhook's URL has no fragment (#...)")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    target = Target(_host(parts.netloc), HTTPS if port is None else port, path or "/")
    if target.authority not in {host.lower() for host in hosts}:
        raise ConfigError(f"webhooks may not go to {target.authority}; list it under `hosts` if they may")
    return target


def _host(netloc: str) -> str:
    """The host of ``HOST`` or ``HOST:PORT``: a name, or an address in its usual form. Raises `ConfigError`."""
    host = netloc.lower()
    host = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    if host.startswith("["):
        return _literal(host[1:-1])
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError("the host of a webhook is a name in ASCII (xn--... for others) without a dot at its end")
    if re.fullmatch(
        r"\d+|0x[0-9a-f]*", labels[-1]
    ):  # 127.1, 0x7f000001, 2130706433: names that libraries take for numbers
        return _literal(host)
    return host


def _literal(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(
            "the host of a webhook that is a number is an address in its usual form, such as 192.0.2.1"
        ) from None
    if str(address) != text or getattr(address, "scope_id", None):
        raise ConfigError(f"write the address of a webhook as {str(address).partition('%')[0]}")
    return text


def public(address: Address) -> bool:
    """True for an address of the public internet, and of one that carries another, when that is public as well."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inside(address)
        if inner is not None:
            return public(inner)
        if address.scope_id or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4, Teredo, NAT64."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else None)


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """The addresses of a host, as the system knows them. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


async def pinned(target: Target, resolve: Resolve = resolve, *, loopback: bool = False) -> tuple[str, ...]:
    """The addresses to connect to. All that the host has must be public: one that is not refuses all of them.

    ``loopback`` lets the addresses of this machine pass, for tests. Raises `DeliveryFailed`.
    """
    try:
        texts = tuple(await resolve(target.host, target.port))
        found = [ipaddress.ip_address(text) for text in texts]
    except (OSError, UnicodeError, ValueError):
        raise DeliveryFailed(f"{target.host} has no address now") from None
    if not found or len(found) > MOST:
        raise DeliveryFailed(f"{target.host} has {len(found)} addresses; between 1 and {MOST} are called")
    for address in found:
        if not (public(address) or (loopback and address.is_loopback)):
            raise DeliveryFailed(f"{target.host} has an address that is not on the public internet; it is not called")
    return texts
