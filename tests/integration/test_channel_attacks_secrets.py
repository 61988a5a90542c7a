"""Attacks on what channels write down: links that open something, in logs of our libraries too."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from governor_agents import Governor, PolicySet
from governor_agents.handlers.slack.handler import SlackHandler
from governor_agents.handlers.slack.socket import SlackSocket
from governor_agents.handlers.webhook import WebhookHandler, webhook
from governor_agents.testing.slack_server import SlackServer
from governor_agents.testing.smtp_server import SmtpServer
from tests.mailing import mailing, tokens
from tests.slack_office import office
from tests.webhook_server import SECRET, WebhookServer, authority, here

pytestmark = pytest.mark.anyio

POLICY = "version: 1\napprovals: {approvers: [local:alice], channels: [webhook]}"


def said(caplog: pytest.LogCaptureFixture) -> str:
    """Everything that was logged, but for what the local servers of the test log of their own side."""
    own = [record for record in caplog.records if record.name != "aiohttp.access"]
    return "\n".join(f"{record.name} {record.getMessage()}" for record in own)


async def test_no_log_holds_the_path_of_a_webhook(caplog: pytest.LogCaptureFixture) -> None:
    """Receivers put keys into paths and queries; at any level nothing of them is logged."""
    caplog.set_level(logging.DEBUG)
    with WebhookServer() as server:
        url = f"https://localhost:{server.port}/services/B00/path-key?k=query-key"
        receiver = webhook(url, SECRET, hosts=[f"localhost:{server.port}"])
        tls = ssl.create_default_context(cafile=str(authority()[0]))
        handler = WebhookHandler({"orders": receiver}, loopback=True, tls=tls, resolve=here)
        governor = Governor(PolicySet.from_text(POLICY), store="memory://", handlers={"webhook": handler})

        @governor.govern(name="pay")
        async def pay(to: str) -> str:
            return "paid"

        asked = await governor.approval((await pay.ask(to="x")).approval)
        await handler.start(governor.desk)
        await handler.notify(asked)
        await governor.close()
        assert len(server.posts) == 1
    assert "path-key" not in said(caplog) and "query-key" not in said(caplog) and SECRET not in said(caplog)


async def test_no_log_holds_what_opens_a_slack_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens, the signing secret and the one-time link of Socket Mode, at any level of any logger."""
    caplog.set_level(logging.DEBUG)
    async with office(tmp_path / "a.db") as now:
        handler = SlackHandler([now.space.token], url=now.slack.url)
        await handler.start(now.desk)
        posted = await now.ask()
        await handler.notify(posted.approval)
        socket = SlackSocket(now.slack.app_token, now.inbound, url=now.slack.url, ping=1.0)
        await socket.start()
        await now.slack.until(lambda: now.slack.connections == 1)
        await now.slack.emit(now.slack.click(now.space, posted.message, "approve", by="U02")).answer()
        await socket.close()
        secrets = (now.space.token, now.slack.app_token, now.slack.secret, "ticket=", "/response/")
    lines = said(caplog)
    assert [line[:200] for line in lines.splitlines() if any(secret in line for secret in secrets)] == []


async def test_no_log_holds_the_link_of_a_mail(caplog: pytest.LogCaptureFixture) -> None:
    """Nor the login of the mail server."""
    caplog.set_level(logging.DEBUG)
    with SmtpServer() as server:
        async with mailing(server) as office:
            await office.handler.notify(await office.asked())
            (mail,) = server.wait(1)
            link = tokens(mail.text())[0]
    assert link not in said(caplog)


async def test_tokens_may_be_asked_at_the_same_time() -> None:
    """Slack was away at the start, and two requests ask for the workspace at once: both find it."""
    with SlackServer() as slack:
        space = slack.workspace("T01")
        handler = SlackHandler([space.token], url=slack.url)
        await asyncio.gather(*(handler.workspaces.open() for _ in range(4)))
        assert handler.workspaces.teams == ("T01",)
