"""Which SMTP server mails go through, read from one URL: ``smtp+starttls://user:password@host:587?from=...``.

Nothing that is raised or printed here quotes the URL: a password stands in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from governor_agents.errors import ChannelUnusable

VARIABLE = "GOVERNOR_SMTP_URL"
EXAMPLE = "smtp+starttls://user:password@smtp.example.com:587?from=approvals@example.com"

Security = Literal["starttls", "tls", "none"]
_SCHEMES: Final[Mapping[str, tuple[Security, int]]] = {
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
    "smtp": ("none", 25),
}
_OPTIONS: Final = frozenset({"from", "ca", "timeout", "plain"})

_LOCAL: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?=.{{3,254}}\Z)(?!.*=\?)(?=[^@]{{1,64}}@){_LOCAL}@{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def is_address(text: str) -> bool:
    """True for an address that can be mailed as it is: no quotes, spaces, comments, line ends, encoded words."""
    return _ADDRESS.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """A server, how to speak to it, and whom mails are from. ``timeout`` is in seconds, for each step of a session.

    ``ca`` is the file of a certificate authority to trust instead of the system's. No ``repr`` shows the login.
    """

    host: str
    port: int
    security: Security
    sender: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca: str = ""
    timeout: float = 15.0

    @classmethod
    def of(cls, url: str) -> SmtpSettings:
        """Read a URL. Raises `ChannelUnusable`, one line with the mend, without anything that may be secret."""
        split, port = _split(url)
        security, default = _SCHEMES[split.scheme]
        options = dict(parse_qsl(split.query, keep_blank_values=True))
        if set(options) - _OPTIONS:  # which ones is not said: a password that was not quoted may stand there
            raise _wrong(f"has an option that is none of {', '.join(sorted(_OPTIONS))}")
        host, user = split.hostname or "", unquote(split.username or "")
        if security == "none" and options.get("plain") != "allow" and not _loopback(host):
            raise _wrong(f"would send to {host} in clear: use smtp+starttls:// or smtps://, or add plain=allow")
        if bool(user) != bool(split.password):
            raise _wrong("names a user without a password, or the other way round")
        return cls(
            host,
            default if port is None else port,
            security,
            _sender(options.get("from", "")),
            user,
            unquote(split.password or ""),
            options.get("ca", ""),
            _seconds(options.get("timeout", "15")),
        )

    @property
    def where(self) -> str:
        """Host and port, to be shown."""
        return f"{self.host}:{self.port}"

    @property
    def domain(self) -> str:
        """The sender's domain."""
        return self.sender.rpartition("@")[2].lower()


def _wrong(what: str) -> ChannelUnusable:
    return ChannelUnusable(f"{VARIABLE} {what}")


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        split = urlsplit(url.strip())
        port = split.port
    except ValueError:
        split, port = urlsplit(""), None
    if split.scheme not in _SCHEMES:
        raise _wrong(f"must begin with {'://, '.join(_SCHEMES)}://, such as {EXAMPLE}")
    if (
        not split.hostname
        or split.path not in ("", "/")
        or split.fragment
        or not re.fullmatch(r"[\w.:-]+", split.hostname)
    ):
        raise _wrong(f"cannot be read; write # / ? @ : in a name or password as %23 %2F %3F %40 %3A, as in {EXAMPLE}")
    return split, port


def _sender(text: str) -> str:
    if not is_address(text):
        raise _wrong("must say from=ADDRESS, the address that mails come from, such as from=approvals@example.com")
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", text, re.ASCII) or not 0.1 <= float(text) <= 600:
        raise _wrong("has a timeout that is not a number of seconds from 0.1 to 600")
    return float(text)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
