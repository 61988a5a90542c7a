"""What a Redis URL says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError

FORMS: Final = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
"""Scheme: what is behind it, and whether it is spoken to under TLS."""

_OPTIONS: Final = {
    "namespace", "partitions", "protocol", "min_replicas", "appendfsync", "unsafe", "scripting", "timeout",
    "connections", "db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password",
}  # fmt: skip
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PORT: Final = {"server": 6379, "sentinel": 26379, "cluster": 6379}

MAX_PARTITIONS: Final = 256

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """What a Redis URL says. ``shown`` is the URL without its passwords, the only form that may be shown.

    ``redis://[user:password@]host[:port][/db]``, ``rediss://`` for TLS, ``unix:///path/to/socket``,
    ``redis+sentinel://host:port,host:port/MASTER[/db]``, ``redis+cluster://host:port,host:port``. Options:

    * ``namespace``: what all keys begin with (``ga``); ``partitions``: over how many slots records are spread,
      fixed when the namespace is first used (1, for a cluster 16)
    * ``min_replicas``: how many replicas must have each write before it counts (0)
    * ``appendfsync=always``: refuse a server that flushes less often; ``unsafe=allow``: open one whose settings
      could lose acknowledged decisions
    * ``scripting=no``: never send Lua scripts (``auto``: unless the server forbids them)
    * ``protocol``: 2 or 3; ``timeout``: seconds for each answer (5); ``connections``: how many to each server (16)
    * ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``; ``sentinel_username``, ``sentinel_password``; ``db``
    """

    url: str = field(repr=False)
    shown: str
    form: str
    tls: bool
    addresses: tuple[Address, ...] = ()
    socket: str = ""
    master: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    files: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "ga"
    partitions: int = 0
    protocol: int = 2
    min_replicas: int = 0
    fsync_always: bool = False
    unsafe: bool = False
    scripting: bool = True
    timeout: float = 5.0
    connections: int = 16

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL. Raises `ConfigError`, in which no password stands."""
        scheme, _, rest = url.partition("://")
        if scheme not in FORMS:
            raise ConfigError(
                f"{shown(url)}: a Redis URL begins with one of {', '.join(f'{each}://' for each in FORMS)}"
            )
        form, tls = FORMS[scheme]
        location, _, query = rest.partition("?")
        user, _, where = location.rpartition("@")
        read = _Reader(url, dict(parse_qsl(query, keep_blank_values=True)))
        hosts, path = (where, "") if form == "socket" else where.partition("/")[::2]
        if form == "socket" and not where.startswith("/"):
            raise read.wrong("write unix:///path/to/redis.sock")
        if "@" in query or "#" in rest:
            raise read.wrong("write @, ?, # and / in a user name or password as %40, %3F, %23 and %2F")
        if read.options.keys() - _OPTIONS:
            raise read.wrong(
                f"unknown option {min(read.options.keys() - _OPTIONS)}; known: {', '.join(sorted(_OPTIONS))}"
            )
        name, _, password = user.partition(":")
        master, db = read.master_and_db(form, path)
        files = read.files(tls)
        return cls(
            url=read.portable(files),
            shown=shown(url),
            form=form,
            tls=tls,
            addresses=() if form == "socket" else read.addresses(hosts, form),
            socket=str(Path(unquote(where)).absolute()) if form == "socket" else "",
            master=master,
            db=db,
            username=unquote(name),
            password=unquote(password),
            sentinel_username=read.text("sentinel_username"),
            sentinel_password=read.text("sentinel_password"),
            files=files,
            namespace=read.namespace(),
            partitions=read.number("partitions", 0, 1, MAX_PARTITIONS),
            protocol=read.number("protocol", 2, 2, 3),
            min_replicas=read.number("min_replicas", 0, 0, 16),
            fsync_always=read.choice("appendfsync", "", "always") == "always",
            unsafe=read.choice("unsafe", "", "allow") == "allow",
            scripting=read.choice("scripting", "auto", "no") != "no",
            timeout=float(read.number("timeout", 5, 1, 600)),
            connections=read.number("connections", 16, 1, 1000),
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    """The options of one URL."""

    url: str = field(repr=False)
    options: dict[str, str] = field(repr=False)

    def wrong(self, mend: str) -> ConfigError:
        return ConfigError(f"{shown(self.url)}: {mend}")

    def text(self, name: str) -> str:
        return self.options.get(name, "")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.options.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise self.wrong(f"{name} is a whole number from {least} to {most}")
        return int(text)

    def choice(self, name: str, *known: str) -> str:
        text = self.options.get(name, known[0])
        if text not in known:
            raise self.wrong(f"write {name}={known[-1]}, or leave it out")
        return text

    def namespace(self) -> str:
        text = self.options.get("namespace", "ga")
        if not _NAMESPACE.fullmatch(text):
            raise self.wrong("a namespace is 1 to 64 letters, digits, dots, dashes and underscores")
        return text

    def addresses(self, hosts: str, form: str) -> tuple[Address, ...]:
        found = tuple(self._address(each, _PORT[form]) for each in hosts.split(","))
        if form == "server" and len(found) > 1:
            raise self.wrong("name one server, or begin the URL with redis+cluster or redis+sentinel")
        return found

    def _address(self, text: str, port: int) -> Address:
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:/@\s]+))(?::([0-9]{1,5}))?", text)
        if found is None or int(found[3] or port) not in range(1, 65536):
            raise self.wrong("name servers as host or host:port, with commas between where there may be several")
        return unquote(found[1] or found[2]), int(found[3] or port)

    def master_and_db(self, form: str, path: str) -> tuple[str, int]:
        """The Sentinel's name for the master, and the database."""
        master = ""
        if form == "sentinel":
            master, _, path = path.partition("/")
            if not master:
                raise self.wrong("name the master behind the sentinels: redis+sentinel://host:26379/mymaster")
        if path and "db" in self.options:
            raise self.wrong("name the database once: behind the host, or as db=")
        text = path or self.options.get("db", "0")
        if not (text.isascii() and text.isdecimal() and len(text) < 6):
            raise self.wrong("the database is a number, such as /0")
        if form == "cluster" and int(text):
            raise self.wrong("a cluster has one database, /0")
        return unquote(master), int(text)

    def files(self, tls: bool) -> dict[str, str]:
        """The paths among the options, absolute, so that the URL means the same in any process."""
        found: dict[str, str] = {
            name: str(Path(self.options[name]).absolute()) for name in _FILES if name in self.options
        }
        if found and not tls:
            raise self.wrong(f"{min(found)} is for TLS; begin the URL with rediss")
        return found

    def portable(self, files: dict[str, str]) -> str:
        """The URL with absolute paths in it."""
        if not files:
            return self.url
        return f"{self.url.partition('?')[0]}?{urlencode(self.options | files, quote_via=quote, safe='/')}"
