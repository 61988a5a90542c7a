"""URLs that people write: what of one may be seen, since it may hold a password; where the pages are."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from governor_agents.errors import ConfigError

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_SECRET: Final = re.compile(r"pass|pwd|secret|token|key|auth|cred|user", re.IGNORECASE)
"""Names of options whose values are not shown."""

_HOST: Final = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


def shown(url: str) -> str:
    """The URL for people to read, with ``***`` for user, password and each option that sounds like either.

    ``rediss://me:secret@host:6380/0?namespace=a`` is shown as ``rediss://***@host:6380/0?namespace=a``.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:  # not a URL at all, so nobody knows where in it a password stands
        return "***"
    place, question, options = rest.partition("?")
    if not place.startswith("/"):  # a path may hold what it likes
        if "@" in options and "@" not in place:  # a password with a question mark in it, or an option with an at sign
            return f"{scheme}://***"
        _, at, host = place.rpartition("@")
        place = f"***@{host}" if at else place
    return f"{scheme}://{place}{question}{'&'.join(map(_option, options.split('&')))}"


def shown_page(url: str) -> str:
    """The same for a page's URL, of which people leave out the scheme: a bare host is no secret."""
    return url if _HOST.fullmatch(url) else shown(url)


def _option(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}=***" if equals and _SECRET.search(name) else option


def origin_of(url: str) -> tuple[str, str]:
    """Host (without port) and origin of the URL at which people reach the pages. Raises `ConfigError`."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    named = f"[{host}]" if ":" in host else host
    bare = f"{parts.scheme}://{parts.netloc}".lower()
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or url.rstrip("/").lower() != bare:
        raise ConfigError(
            f"public URL {shown_page(url)}: write scheme and host alone, such as https://approvals.example.com"
        )
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(
            f"public URL {shown_page(url)} is not https: links and logins would go over the network in clear"
        )
    default = {"http": 80, "https": 443}[parts.scheme]
    return host, f"{parts.scheme}://{named}" + ("" if port in (None, default) else f":{port}")
