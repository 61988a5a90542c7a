"""The whole way by e-mail: a call waits, a mail comes, its link decides on the page, the tool runs, the mail says so."""

from __future__ import annotations

from pathlib import Path

import httpx

from governor_agents import Governor, PolicySet, Worker
from governor_agents.handlers.email import EmailHandler
from governor_agents.server import create_app
from governor_agents.testing.smtp_server import SmtpServer
from tests.mailing import BOSS, CFO, PUBLIC, tokens
from tests.pages import form_in

POLICY = f"""
version: 1
approvals: {{channels: [email], deadline: 4h, approvers: [group:finance]}}
groups: {{finance: [{CFO}, {BOSS}]}}
rules:
  - {{name: refunds, tool: refund, then: require_approval, reason_required: true, headline: "Refund {{args.amount}}"}}
"""


async def test_a_call_is_approved_by_the_link_of_a_mail(tmp_path: Path) -> None:
    """Two processes' worth of governors over one store: one asks and works, the other serves the page that decides."""
    (tmp_path / "governor.yaml").write_text(POLICY)
    store, ran = f"sqlite:///{tmp_path / 'governor.db'}", []
    policies = PolicySet.from_file(tmp_path / "governor.yaml")
    with SmtpServer(users={"governor": "secret"}) as server:
        channel = EmailHandler(server.url())
        asking = Governor(policies, store=store, handlers={"email": channel}, public_url=PUBLIC)
        await channel.start(asking.desk)

        @asking.govern()
        async def refund(order: str, amount: int) -> str:
            ran.append((order, amount))
            return "refunded"

        await refund.ask("4711", 120)
        await Worker(asking).run(once=True)
        mails = server.wait(2)
        assert {mail.recipients for mail in mails} == {(CFO,), (BOSS,)} and not ran
        [secret] = set(tokens(server.to(CFO)[0].text()))

        serving = Governor(policies, store=store, public_url=PUBLIC)
        app = create_app(serving, public_url=PUBLIC)
        headers = {"Origin": PUBLIC}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC, headers=headers) as browser:
            page = await browser.get(f"/confirm/{secret}")
            assert page.status_code == 200 and "Refund 120" in page.text and "4711" in page.text
            await Worker(asking).run(once=True)
            assert not ran, "opening the link decides nothing"
            form = form_in(page.text, "decide", decision="approve", reason="invoice checked")
            assert (await browser.post(f"/confirm/{secret}", data=form)).status_code == 200
            again = {**form, "decision": "reject", "reason": "no"}
            assert (await browser.post(f"/confirm/{secret}", data=again)).status_code in (409, 410)
        await Worker(asking).run(once=True)
        await Worker(asking).run(once=True)
        assert ran == [("4711", 120)]
        for person in (CFO, BOSS):
            asked, told = server.to(person)
            assert told.message["References"].strip() == asked.message["Message-ID"]
            assert "Closed: approved by cfo@example.com at " in told.text() and "(invoice checked)" in told.text()
            assert told.message["Subject"] == asked.message["Subject"] and not tokens(told.text())
        await serving.close()
        await asking.close()
