"""The link that logs somebody in comes by a real mail, over TLS and with a login; a channel that cannot be used is said."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import httpx
import pytest

from governor_agents import Governor, PolicySet
from governor_agents.handlers.email import EmailHandler
from governor_agents.server import create_app
from governor_agents.testing.smtp_server import SmtpServer
from tests.pages import CFO, EVE, Office, client, form_in

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


def office_with(server_url: str, folder: Path) -> Office:
    """Pages of a governor whose e-mail channel uses this server."""
    governor = Governor(
        PolicySet([]), store=f"sqlite:///{folder}/governor.db", handlers={"email": EmailHandler(server_url)}
    )
    app = create_app(governor, public_url="http://127.0.0.1", hosts=("testserver",), patience=100.0)
    return Office(governor, app, "http://testserver")


async def ask_for_link(office: Office, email: str) -> httpx.Response:
    async with client(office) as web:
        answer = await web.post("/login", data=form_in((await web.get("/login")).text, email=email))
    await behind(office)
    return answer


async def behind(office: Office) -> None:
    """Everything that runs beside the answers is done."""
    await asyncio.gather(*office.app.state.behind)


async def test_the_link_arrives_by_mail_and_logs_in_once(tmp_path: Path) -> None:
    """Sent to whoever is known and to nobody else; in another browser than the one that asked, it works, once."""
    with SmtpServer(users={"governor": "secret"}) as server:
        office = office_with(server.url(), tmp_path)
        async with office.app.router.lifespan_context(office.app):
            asked = await office.ask()
            await behind(office)
            assert office.app.state.site.channels == {"email": "ok"}
            answers = [await ask_for_link(office, email) for email in (EVE, CFO)]
            assert answers[0].text == answers[1].text
            [mail] = server.wait(1)
            assert mail.recipients == (CFO,) and mail.secure
            found = re.search(r"http://127\.0\.0\.1(/login/[\w-]{43})", mail.text())
            assert found is not None
            async with client(office) as elsewhere:
                page = await elsewhere.get(found[1])
                entered = await elsewhere.post(found[1], data=form_in(page.text))
                assert entered.status_code == 303
                assert "4711" in (await elsewhere.get(f"/requests/{asked.id}")).text
                assert (await elsewhere.post(found[1], data=form_in(page.text))).status_code == 410
        await office.governor.close()


async def test_a_mail_login_that_is_wrong_is_one_line_and_the_pages_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found when the server starts; ready all the same, and the form answers what it always answers."""
    caplog.set_level(logging.ERROR, "governor_agents.server")
    with SmtpServer(users={"governor": "secret"}) as server:
        office = office_with(server.url(password="guessed"), tmp_path)
        async with office.app.router.lifespan_context(office.app):
            await office.ask()
            await behind(office)
            lines = [record.getMessage() for record in caplog.records if record.name == "governor_agents.server"]
            assert len(lines) == 1 and "guessed" not in lines[0] and "\n" not in lines[0]
            async with client(office) as web:
                ready = await web.get("/readyz")
                assert (ready.status_code, ready.json()["channels"]) == (200, {"email": "unusable"})
            assert (await ask_for_link(office, CFO)).status_code == 200
            assert not server.mails
        await office.governor.close()
