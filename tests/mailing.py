"""A governor that asks by e-mail, for tests: requests made by hand, and mails read as a client reads them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from governor_agents import Governor, PolicySet
from governor_agents.core.channels import Card
from governor_agents.core.ports import Directory, Store
from governor_agents.core.records import Approval
from governor_agents.handlers.email import EmailHandler
from governor_agents.testing.smtp_server import SmtpServer
from tests.asking import ARGS, ask, refused

CFO, BOSS, AUDIT = "cfo@example.com", "boss@example.com", "audit@example.com"
PUBLIC = "https://approvals.example.com"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass
class Mailing:
    """A governor and its channel, started."""

    governor: Governor
    handler: EmailHandler
    server: SmtpServer

    async def asked(self, args: dict[str, Any] | bytes = ARGS, **asked: Any) -> Approval:
        """A request that waits for people: see `ask`."""
        return await ask(self.governor, args, **{"channels": ("email",), **asked})

    async def now(self, approval: Approval) -> Approval:
        """The approval as it stands now."""
        return await self.governor.approval(approval.id)

    async def notify(self, approval: Approval) -> None:
        """What a worker does for a notice that asks."""
        await self.handler.notify(await self.now(approval))

    async def update(self, approval: Approval) -> None:
        """What a worker does for a notice that tells."""
        await self.handler.update(await self.now(approval), "")

    async def card(self, approval: Approval) -> Card:
        """The card of an approval."""
        return await self.governor.desk.cards.enter(approval, "email")

    async def refused(self) -> list[dict[str, Any]]:
        """See `refused`."""
        return await refused(self.governor)


@asynccontextmanager
async def mailing(
    server: SmtpServer,
    *,
    public_url: str = PUBLIC,
    store: Store | str = "memory://",
    people: Directory | None = None,
    policies: PolicySet | None = None,
    **options: str,
) -> AsyncIterator[Mailing]:
    """A governor whose channel mails through this server; ``options`` go into the URL."""
    handler = EmailHandler(server.url(**options))
    governor = Governor(
        policies or PolicySet([]), store=store, handlers={"email": handler}, people=people, public_url=public_url
    )
    await handler.start(governor.desk)
    try:
        yield Mailing(governor, handler, server)
    finally:
        await governor.close()


class Read(HTMLParser):
    """A mail's HTML as a reader has it: text by the ``id`` of what holds it, links, and the names of all elements."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: dict[str, str] = {}
        self.rows: list[tuple[str, str]] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._open: list[tuple[str, str]] = []
        self._cells: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes.update(given)
        if tag == "a":
            self.links.append(given.get("href", ""))
        if tag in ("th", "td"):
            self._cells.append("")
        if tag not in ("meta", "br", "wbr"):
            self._open.append((tag, given.get("id", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag == "tr" and len(self._cells) == 2:
            if any(id == "arguments" for _, id in self._open):
                self.rows.append((self._cells[0], self._cells[1]))
            self._cells = []

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.text += data
        for _, id in self._open:
            if id:
                self.ids[id] = self.ids.get(id, "") + data
        if self._cells and any(tag in ("th", "td") for tag, _ in self._open):
            self._cells[-1] += data


def shown_json(text: str) -> str:
    """The canonical JSON of a mail's text part, as it is shown; empty where there is none."""
    found = re.search(r"^ *arguments as canonical JSON:\n +(.*)$", text, re.M)
    return found[1] if found else ""


def tokens(text: str) -> list[str]:
    """The one-time texts of the links in a mail's part."""
    return re.findall(rf"{re.escape(PUBLIC)}/confirm/({TOKEN.pattern})\b", text)
