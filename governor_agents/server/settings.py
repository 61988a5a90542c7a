"""What an operator may set about the server, checked once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from governor_agents.core.urls import origin_of
from governor_agents.errors import ConfigError

MINUTE, HOUR = 60.0, 3600.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``most`` of something per ``per`` seconds, over all processes on one store."""

    most: int
    per: float


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits of the server. What is over one is answered with 429 and a time to wait.

    ``address`` counts requests by IP address (IPv6: by /64), ``tenant`` all of them, ``person`` what one person sends,
    ``login`` and ``login_tenant`` the mails that one address of either kind, or anybody, has sent.
    """

    address: Rate = Rate(300, MINUTE)
    tenant: Rate = Rate(6000, MINUTE)
    person: Rate = Rate(60, MINUTE)
    login: Rate = Rate(5, 10 * MINUTE)
    login_tenant: Rate = Rate(200, 10 * MINUTE)


@dataclass(frozen=True, slots=True)
class Settings:
    """See `Settings.of`. ``origin`` is scheme, host and port of ``public_url``; ``hosts`` are in lower case."""

    public_url: str
    origin: str
    hosts: frozenset[str]
    trusted_proxies: tuple[Network, ...] = ()
    max_body: int = 4 * 2**20
    patience: float = 8.0
    session: float = 12 * HOUR
    login: float = 15 * MINUTE
    rates: Rates = Rates()

    @property
    def secure(self) -> bool:
        """True when people reach the server by https."""
        return self.public_url.startswith("https://")

    @classmethod
    def of(
        cls,
        public_url: str,
        *,
        hosts: tuple[str, ...] = (),
        trusted_proxies: tuple[str, ...] = (),
        max_body: int = 4 * 2**20,
        patience: float = 8.0,
        session: float = 12 * HOUR,
        login: float = 15 * MINUTE,
        rates: Rates | None = None,
    ) -> Settings:
        """Settings from what people write.

        ``public_url`` is where people reach the pages, https unless it is this machine. ``hosts`` are further names
        that the ``Host`` header may hold. ``trusted_proxies`` are addresses or networks whose ``X-Forwarded-For`` is
        believed; by default nobody's is. ``max_body`` is in bytes; ``patience`` is how many seconds a person waits for
        the store, ``session`` and ``login`` for how many a login and its link last. Raises `ConfigError`.
        """
        host, origin = origin_of(public_url)
        return cls(
            public_url.rstrip("/"),
            origin,
            frozenset({host, *map(_host, hosts)}),
            tuple(map(_network, trusted_proxies)),
            max_body,
            patience,
            session,
            login,
            rates or Rates(),
        )


def _host(name: str) -> str:
    """A name that a ``Host`` header may hold, without the port."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", name, re.ASCII):
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise ConfigError(f"name {name}: write a host alone, such as approvals.internal") from None
    return name.lower()


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(f"trusted proxy {text}: write an address or a network, such as 10.0.0.0/8") from None
