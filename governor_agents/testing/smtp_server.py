"""A real SMTP server on loopback, for tests and the demo: STARTTLS, TLS or neither, login, and switches for trouble.

::

    with SmtpServer(users={"governor": "secret"}) as server:
        EmailHandler(server.url())
        server.trouble = "busy"          # see `Trouble`
        server.replies["cfo@example.com"] = "550 5.1.1 no such user"
        [mail] = server.wait(1)
        mail.message.get_body(("plain",)).get_content()

It is aiosmtpd on a thread of its own. Its certificate comes from an authority that is made with it; ``url`` names the
authority's file, so clients verify it as they do anywhere else.
"""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import shutil
import ssl
import tempfile
import threading
import warnings
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from governor_agents.background import Background

PATIENCE = 60.0
"""Seconds after which a mail that does not come is given up."""

Mode = Literal["starttls", "tls", "plain"]
Trouble = Literal["", "busy", "full", "refuses", "hangs", "hangs-at-data", "resets", "forgets"]
"""What a server does wrong.

``busy``: 451 to every mail. ``full``: 452 to every recipient. ``refuses``: 554 to every mail's text. ``hangs``: accepts
connections and says nothing; ``hangs-at-data``: takes the text and says nothing. ``resets``: cuts every connection.
``forgets``: takes a mail, and cuts the connection before it says so.
"""


@dataclass(frozen=True)
class Mail:
    """One mail as the server took it. ``number`` counts them from 1."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    raw: bytes = field(repr=False)
    secure: bool
    user: str

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return message_from_bytes(self.raw, policy=policy.default)

    def text(self, kind: Literal["plain", "html"] = "plain") -> str:
        """One of its parts, decoded, with the line ends of a text."""
        body = self.message.get_body((kind,))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


class SmtpServer:
    """See the module. A context manager.

    ``users`` are names and passwords (empty: nobody logs in), ``most`` the bytes of its largest mail.
    ``replies`` are answers to recipients, by address; ``senders``, where set, those who may send.
    """

    def __init__(self, mode: Mode = "starttls", users: dict[str, str] | None = None, *, most: int = 50_000_000) -> None:
        self.mode = mode
        self.users = users or {}
        self.most = most
        self.trouble: Trouble = ""
        self.replies: dict[str, str] = {}
        self.senders: set[str] | None = None
        self.mails: list[Mail] = []
        self.commands: list[str] = []
        self.connections = 0
        self.port = 0
        self._changed = threading.Condition()
        self._loop = Background("smtp-server")
        self._listener: asyncio.Server | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    def url(self, user: str | None = None, password: str | None = None, **more: str) -> str:
        """For ``GOVERNOR_SMTP_URL``: with the first user's login unless told otherwise; ``more`` is for the query."""
        scheme = {"starttls": "smtp+starttls", "tls": "smtps", "plain": "smtp"}[self.mode]
        name = user if user is not None else next(iter(self.users), "")
        word = password if password is not None else self.users.get(name, "")
        login = f"{quote(name, safe='')}:{quote(word, safe='')}@" if name else ""
        query = {"from": "approvals@example.com", **more}
        if self.mode != "plain":
            query.setdefault("ca", str(authority()[0]))
        asked = "&".join(f"{key}={quote(value)}" for key, value in query.items())
        return f"{scheme}://{login}127.0.0.1:{self.port}?{asked}"

    def __enter__(self) -> Self:
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of what it does itself
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()
        self._loop.stop()

    def up(self) -> None:
        """Listen (again, at the same port)."""
        self._loop.call(self._up())

    def down(self) -> None:
        """Cut every connection and listen no more; clients are refused."""
        self._loop.call(self._down())

    def wait(self, count: int) -> list[Mail]:
        """The mails so far, once there are this many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.mails) >= count, PATIENCE):
                raise AssertionError(f"{len(self.mails)} of {count} mails came within {PATIENCE:.0f} s")
            return list(self.mails)

    def to(self, address: str) -> list[Mail]:
        """The mails that this address got."""
        return [mail for mail in self.mails if address in mail.recipients]

    async def _up(self) -> None:
        context = authority()[1] if self.mode == "tls" else None
        self._listener = await asyncio.get_running_loop().create_server(
            self._connection, "127.0.0.1", self.port, ssl=context, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _down(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for transport in list(self._transports):
            transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0)  # what was cut is told so before the loop may stop

    def _connection(self) -> asyncio.Protocol:
        self.connections += 1
        if self.trouble in ("hangs", "resets"):
            return _Silent(self, cut=self.trouble == "resets")
        starttls = self.mode == "starttls"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it does not know that TLS is around it already
            return _Conversation(
                self,
                _Post(self),
                hostname="mail.example.com",
                loop=asyncio.get_running_loop(),
                timeout=2 * PATIENCE,
                enable_SMTPUTF8=True,
                data_size_limit=self.most,
                tls_context=authority()[1] if starttls else None,
                require_starttls=starttls,
                auth_required=bool(self.users),
                auth_require_tls=starttls,
                authenticator=self._knows,
            )

    def _knows(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        name, word = data.login.decode(), data.password.decode()
        good = self.users.get(name) == word
        return AuthResult(success=good, handled=False, auth_data=name)

    def keep(self, session: Session, envelope: Envelope, secure: bool) -> None:
        """Note a mail that was taken, and wake whoever waits for it."""
        raw = envelope.original_content
        assert isinstance(raw, bytes)
        with self._changed:
            number, user = len(self.mails) + 1, str(getattr(session, "auth_data", None) or "")
            sender, recipients = str(envelope.mail_from), tuple(envelope.rcpt_tos)
            self.mails.append(Mail(number, sender, recipients, raw, secure, user))
            self._changed.notify_all()

    def enter(self, transport: asyncio.BaseTransport) -> None:
        """A connection that ``down`` is to cut."""
        self._transports.add(transport)

    def leave(self, transport: asyncio.BaseTransport | None) -> None:
        """A connection that is over."""
        if transport is not None:
            self._transports.discard(transport)


class _Conversation(SMTP):
    """aiosmtpd's protocol; tells its server of connections and commands."""

    def __init__(self, owner: SmtpServer, handler: Any, **options: Any) -> None:
        super().__init__(handler, **options)
        self._owner = owner

    def connection_made(self, transport: Any) -> None:
        self._owner.enter(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.leave(self.transport)
        super().connection_lost(error)


class _Silent(asyncio.Protocol):
    """A server that accepts and says nothing, or cuts at once."""

    def __init__(self, owner: SmtpServer, *, cut: bool) -> None:
        self._owner = owner
        self._cut = cut
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.enter(transport)
        if self._cut:
            transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.leave(self._transport)


class _Post:
    """What aiosmtpd asks at each command."""

    def __init__(self, owner: SmtpServer) -> None:
        self._owner = owner

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._owner.commands.append(f"MAIL {address}")
        if self._owner.trouble == "busy":
            return "451 4.3.2 try again later"
        if self._owner.senders is not None and address not in self._owner.senders:
            return "553 5.7.1 not your address"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 go on"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._owner.commands.append(f"RCPT {address}")
        reply = self._owner.replies.get(address, "")
        if self._owner.trouble == "full":
            reply = "452 4.2.2 mailbox full"
        if reply:
            return reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 go on"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self._owner.commands.append("DATA")
        trouble = self._owner.trouble
        if trouble == "refuses":
            return "554 5.6.0 this is not wanted here"
        if trouble == "hangs-at-data":
            await asyncio.Event().wait()  # until the connection is cut
        self._owner.keep(session, envelope, session.ssl is not None or self._owner.mode == "tls")
        if trouble == "forgets" and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return "250 2.0.0 taken"


@lru_cache(maxsize=1)
def authority() -> tuple[Path, ssl.SSLContext]:
    """The file of a certificate authority, and a server's context with a certificate of it for loopback."""
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-smtp-"))
    try:
        own, key = _certificate("governor-agents test authority", None, None)
        signed, server_key = _certificate("localhost", own, key)
        (folder / "ca.pem").write_bytes(own.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        kept = server_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (folder / "server.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM) + kept)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        (folder / "server.pem").unlink()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "ca.pem", context


def _certificate(
    name: str, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signing = issuer_key or key
    by = issuer.subject if issuer else subject
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .add_extension(_usage(authority=issuer is None), critical=True)
    )
    if issuer is not None:
        made = made.add_extension(names, critical=False)
    return made.sign(signing, hashes.SHA256()), key


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
