"""Slack, e-mail and a webhook at once, each a real server on loopback, and a governor that asks through all three.

``python -m tests.three_channels`` is a worker in a process of its own: what it is told stands in its environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from governor_agents import Governor, PolicySet, Worker
from governor_agents.core.channels import Handler
from governor_agents.core.ports import Store
from governor_agents.handlers.email import EmailHandler
from governor_agents.handlers.slack.handler import SlackHandler
from governor_agents.stores import open_store
from governor_agents.testing.slack_server import Message, SlackServer, Workspace
from governor_agents.testing.smtp_server import SmtpServer, authority
from tests.webhook_server import WebhookServer, handler_of

ALICE, CFO = "slack:T01/U02", "cfo@example.com"
CHANNELS = ("slack", "email", "webhook:orders")
PUBLIC = "https://approvals.example.com"
POLICY = f"""
version: 1
approvals: {{channels: [slack, email, "webhook:orders"], approvers: ["{ALICE}", "{CFO}"], deadline: 30d}}
rules:
  - {{name: ask, tool: "*", then: require_approval}}
"""


@dataclass
class Three:
    """The three servers."""

    slack: SlackServer
    space: Workspace
    mail: SmtpServer
    hook: WebhookServer

    def settings(self) -> dict[str, str]:
        """What a worker in another process must be told."""
        return {
            "SLACK_BOT_TOKEN": self.space.token,
            "SLACK_API_URL": self.slack.url,
            "GOVERNOR_SMTP_URL": self.mail.url(),
            "TEST_WEBHOOK": str(self.hook.port),
            "TEST_CA": str(authority()[0]),
        }

    def handlers(self) -> dict[str, Handler]:
        """The channels, as a process makes them."""
        return handlers(self.settings())

    def cards(self) -> list[Message]:
        """The cards in Slack."""
        return [message for message in self.space.messages() if message.text and not message.thread_ts]

    def asked(self) -> dict[str, list[str]]:
        """By channel, the amounts that people were asked about, each as often as it was posted."""
        events = {post.said["id"]: post.said for post in self.hook.posts}.values()  # a receiver knows them so
        posts = [said for said in events if said["type"] == "approval.asked"]
        mails = {mail.message["Message-ID"]: mail for mail in self.mail.mails}.values()  # mail clients know them so
        asks = [mail for mail in mails if not mail.message["In-Reply-To"]]
        return {
            "slack": sorted(_amount(json.dumps(message.blocks)) for message in self.cards()),
            "email": sorted(_amount(mail.text()) for mail in asks),
            "webhook:orders": sorted(str(said["arguments"]["amount"]) for said in posts),
        }


def _amount(text: str) -> str:
    """The amount that a card or mail shows, which is like no other number."""
    return next(str(amount) for amount in range(70_001, 70_100) if str(amount) in text)


@contextmanager
def three() -> Iterator[Three]:
    """All of them, started and stopped."""
    with SlackServer() as slack, SmtpServer(users={"governor": "secret-of-mail"}) as mail, WebhookServer() as hook:
        space = slack.workspace("T01")
        space.person("U02", "alice")
        yield Three(slack, space, mail, hook)


def handlers(settings: dict[str, str]) -> dict[str, Handler]:
    """The channels by what a process is told."""
    return {
        "slack": SlackHandler([settings["SLACK_BOT_TOKEN"]], url=settings["SLACK_API_URL"], timeout=5),
        "email": EmailHandler(settings["GOVERNOR_SMTP_URL"]),
        "webhook": handler_of(int(settings["TEST_WEBHOOK"]), ca=settings["TEST_CA"]),
    }


def governed(store: str | Store, channels: dict[str, Handler], policy: str = POLICY) -> Governor:
    """A governor with one tool that always asks: ``governor.pay``."""
    governor = Governor(PolicySet.from_text(policy, name="p"), store=store, handlers=channels, public_url=PUBLIC)

    @governor.govern(name="pay")
    async def pay(amount: int) -> str:
        return "paid"

    governor.pay = pay  # type: ignore[attr-defined]
    return governor


async def ask(governor: Governor, amount: int) -> str:
    """Ask; the approval's id."""
    return str((await governor.pay.ask(amount)).approval)  # type: ignore[attr-defined]


def at(ahead: float) -> Callable[[], float]:
    """This machine's clock, so many seconds ahead."""
    return lambda: time.time() + ahead


async def work(store: str, ahead: float) -> None:
    """What a worker in a process of its own does: tell people whatever is due."""
    governor = governed(open_store(store, clock=at(ahead)), handlers(dict(os.environ)))
    await Worker(governor).run(once=True)
    await governor.close()


async def worker(servers: Three, store: Path, *, ahead: float = 0.0, crash: str = "") -> int:
    """Run such a process to its end; what it ended with: 0, or -9 where it was killed."""
    paths = os.pathsep.join(filter(None, sys.path))
    known: dict[str, Any] = {**os.environ, **servers.settings(), "GOVERNOR_CRASH": crash, "PYTHONPATH": paths}
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.three_channels", f"sqlite:///{store}", str(ahead), env=known
    )
    return await done.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2])))
