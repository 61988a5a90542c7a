"""The handler kit over every channel of this package."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from governor_agents.core.channels import Handler
from governor_agents.handlers.email import EmailHandler
from governor_agents.handlers.slack.handler import SlackHandler
from governor_agents.handlers.terminal import TerminalHandler
from governor_agents.handlers.webhook import WebhookHandler
from governor_agents.testing import Channel, HandlerConformance, Shown
from governor_agents.testing.memory_channel import Board, MemoryHandler
from governor_agents.testing.slack_server import SlackServer
from governor_agents.testing.smtp_server import SmtpServer
from tests.webhook_server import SECRET, WebhookServer

PASSWORD = "a password that nobody may see"


class Memory(Channel):
    """The channel in memory."""

    secrets = (PASSWORD,)

    def __init__(self) -> None:
        self.board = Board(PASSWORD)

    def handler(self) -> Handler:
        return MemoryHandler(self.board, PASSWORD)

    def shown(self) -> Sequence[Shown]:
        return [Shown(note.text, note.asks) for note in self.board.notes]

    def down(self) -> None:
        self.board.away = True

    def up(self) -> None:
        self.board.away = False

    def unusable(self) -> Handler | None:
        return MemoryHandler(self.board, "another one")


class TestMemory(HandlerConformance):
    @pytest.fixture
    def channel(self) -> Channel:
        return Memory()


class Terminal(Channel):
    """A terminal: it prints, and keeps nothing."""

    name = "terminal"
    edits, repeats = False, True

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def handler(self) -> Handler:
        return TerminalHandler(self.stream)

    def shown(self) -> Sequence[Shown]:
        return [Shown(part, "\ndecide:\n" in part) for part in _printed(self.stream.getvalue())]


def _printed(text: str) -> list[str]:
    """What was printed, one request or outcome each."""
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        begins = line.startswith("functions asks to run") or (line.startswith("run_") and " is " in line)
        if begins or not found:
            found.append("")
        found[-1] += line
    return [part.strip() for part in found if part.strip()]


class TestTerminal(HandlerConformance):
    @pytest.fixture
    def channel(self) -> Channel:
        return Terminal()


class Webhook(Channel):
    """A webhook to a real server: each telling is a request of its own."""

    name = "webhook:orders"
    edits, repeats = False, True
    secrets = (SECRET,)

    def __init__(self, server: WebhookServer) -> None:
        self.server = server

    def handler(self) -> Handler:
        return self.server.handler()

    def shown(self) -> Sequence[Shown]:
        return [Shown(post.said["text"], post.said["type"] == "approval.asked") for post in self.server.posts]

    def down(self) -> None:
        self.server.down()

    def up(self) -> None:
        self.server.up()

    def unusable(self) -> Handler | None:
        return WebhookHandler({})


class TestWebhook(HandlerConformance):
    @pytest.fixture
    def channel(self) -> Iterator[Channel]:
        with WebhookServer() as server:
            yield Webhook(server)


class Email(Channel):
    """Mails to a real server, as a mail client shows them: one per Message-ID."""

    name = "email"
    people = ("cfo@example.com", "boss@example.com")
    edits = False
    secrets = ("secret-of-mail",)

    def __init__(self, server: SmtpServer) -> None:
        self.server = server

    def handler(self) -> Handler:
        return EmailHandler(self.server.url())

    def shown(self) -> Sequence[Shown]:
        mails = {mail.message["Message-ID"]: mail for mail in self.server.mails}.values()
        return [Shown(mail.text(), "/confirm/" in mail.text()) for mail in mails]

    def down(self) -> None:
        self.server.down()

    def up(self) -> None:
        self.server.up()

    def unusable(self) -> Handler | None:
        return EmailHandler(self.server.url(password="wrong-secret-of-mail"))


class TestEmail(HandlerConformance):
    @pytest.fixture
    def channel(self) -> Iterator[Channel]:
        with SmtpServer(users={"governor": "secret-of-mail"}) as server:
            yield Email(server)


class Slack(Channel):
    """A channel of a local Slack, as its clients show the blocks of messages."""

    name = "slack:C1"
    people = ("slack:T01/U02", "slack:T01/U03")

    def __init__(self, server: SlackServer) -> None:
        self.server = server
        self.space = server.workspace("T01")
        for user in ("U02", "U03"):
            self.space.person(user, user.lower())
        self.space.channel("C1", "U02", "U03")
        self.secrets = (self.space.token,)

    def handler(self) -> Handler:
        return SlackHandler([self.space.token], url=self.server.url, timeout=5)

    def shown(self) -> Sequence[Shown]:
        messages = [message for message in self.space.messages("C1") if message.text and not message.thread_ts]
        return [Shown(_words(message.blocks), _decides(message.blocks)) for message in messages]

    def down(self) -> None:
        self.server.stop()

    def up(self) -> None:
        self.server.start()

    def unusable(self) -> Handler | None:
        return SlackHandler(["xoxb-wrong-token"], url=self.server.url, timeout=5)


def _words(block: Any) -> str:
    """Every text in blocks, in order."""
    if isinstance(block, dict):
        own = block["text"] if isinstance(block.get("text"), str) else ""
        rest = "".join(_words(value) for key, value in block.items() if key not in ("value", "action_id", "block_id"))
        return own + rest if own else rest
    return "".join(map(_words, block)) if isinstance(block, list) else ""


def _decides(blocks: Any) -> bool:
    """True when there is a button that approves."""
    return '"approve"' in json.dumps(blocks)


class TestSlack(HandlerConformance):
    @pytest.fixture
    def channel(self) -> Iterator[Channel]:
        with SlackServer() as server:
            yield Slack(server)
