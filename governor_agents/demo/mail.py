"""The demo by e-mail: a local SMTP server and somebody who opens the link, or a real server and a real person."""

from __future__ import annotations

import asyncio
import re
import secrets
from html import escape
from typing import TYPE_CHECKING

from governor_agents.core.records import Decision
from governor_agents.demo.channel import Channel, Real, Shown, StandIn, need
from governor_agents.demo.visitor import answer
from governor_agents.errors import ConfigError, DeliveryFailed, GovernorError

if TYPE_CHECKING:
    from governor_agents.testing.smtp_server import Mail

ADDRESS = "you@example.com"
_LINK = re.compile(r"https?://\S+/confirm/\S+")

LIBRARIES = {"aiosmtplib": "email", "css_inline": "email", "jinja2": "email", "fastapi": "server", "uvicorn": "server"}


class StandInMail(StandIn):
    """A local server with STARTTLS and login, in which the demo reads what was mailed."""

    name = "email"

    def __enter__(self) -> Channel:
        """Start the server."""
        need({**LIBRARIES, "aiosmtpd": "demo", "cryptography": "keys"}, "the demo by e-mail")
        from governor_agents.testing.smtp_server import SmtpServer

        self._server = SmtpServer(users={"governor": secrets.token_urlsafe(16)})
        self._server.__enter__()
        self.env = {"GOVERNOR_SMTP_URL": self._server.url()}
        self.address = {"email": ADDRESS}
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._server.__exit__(None, None, None)

    def where(self) -> str:
        """See `Channel`."""
        return f"a mail to {ADDRESS}, taken by a stand-in SMTP server (STARTTLS, login) on port {self._server.port}"

    def request(self, approval: str) -> Shown | None:
        """See `StandIn`."""
        mails = self._about(approval)
        return _shown("the request, by e-mail", mails[0]) if mails else None

    def outcome(self, approval: str) -> Shown | None:
        """See `StandIn`."""
        mails = self._about(approval)
        return _shown("the outcome, in the same mail thread", mails[-1]) if len(mails) > 1 else None

    def link(self, approval: str) -> str:
        """The link by which the person decides."""
        found = _LINK.search(self._about(approval)[0].text())
        if found is None:
            raise GovernorError("the mail holds no link that decides")
        return found[0]

    def elsewhere(self, approval: str) -> str:
        """See `StandIn`."""
        return f"Open the link of the mail in a browser of this machine, and decide there: {self.link(approval)}"

    def decide(self, approval: str, decision: Decision, pages: str) -> list[Shown]:
        """See `StandIn`: open the link, choose, type the word, send."""
        answer(self.link(approval), decision)
        return []

    def _about(self, approval: str) -> list[Mail]:
        return [mail for mail in self._server.to(ADDRESS) if approval in str(mail.message["Subject"])]


class RealMail(Real):
    """A server of the user's own; the person opens the link in their own mail."""

    name = "email"

    def __init__(self, url: str, to: str) -> None:
        super().__init__()
        self._url = url
        self._to = to

    def __enter__(self) -> Channel:
        """Log in once. Raises `ConfigError`."""
        need(LIBRARIES, "the demo by e-mail")
        from governor_agents.handlers.email import post
        from governor_agents.handlers.email.settings import SmtpSettings, is_address

        settings = SmtpSettings.of(self._url)
        to = self._to or settings.sender
        if not is_address(to):
            raise ConfigError(f"--to {to} is no e-mail address")
        try:
            asyncio.run(post.try_out(settings))
        except DeliveryFailed as error:
            raise ConfigError(str(error)) from None
        self._to = to
        self.env = {"GOVERNOR_SMTP_URL": self._url}
        self.address = {"email": to}
        return self

    def __exit__(self, *_: object) -> None:
        """Sessions end with each mail."""

    def where(self) -> str:
        """See `Channel`."""
        return f"a mail to {self._to}; its link opens a page that this machine serves"


def _shown(title: str, mail: Mail) -> Shown:
    """A mail with the head that a reader shows above it."""
    head = {name: str(mail.message[name]) for name in ("From", "To", "Subject")}
    text = "\n".join(f"{name}: {value}" for name, value in head.items()) + "\n\n" + mail.text()
    rows = "".join(f"<div><b>{name}:</b> {escape(value)}</div>" for name, value in head.items())
    bar = f'<div style="font:14px/1.5 Arial;padding:12px 16px;border-bottom:1px solid #ccc">{rows}</div>'
    html = re.sub(r"(<body\b[^>]*>)", lambda body: body[1] + bar, mail.text("html"), count=1)
    return Shown(title, text, html)
