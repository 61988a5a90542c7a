"""Mails that come back, processes that die between two writes, and words that try to be headers or links."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from governor_agents import Decision
from governor_agents.core.ports import KINDS
from governor_agents.errors import DeliveryFailed, NotFound, TokenExpired, TokenUsed
from governor_agents.handlers.email import handler as handling
from governor_agents.handlers.email import mime
from governor_agents.handlers.email.letter import Letter
from governor_agents.handlers.message import when
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock
from governor_agents.testing.smtp_server import Mail, SmtpServer
from tests.mailing import BOSS, CFO, Mailing, Read, mailing, tokens

ROOT = Path(__file__).resolve().parents[2]
BOUNCE = (ROOT / "tests" / "fixtures" / "bounce.eml").read_bytes()


def bounce(mail: Mail, address: str = CFO) -> bytes:
    """The report of a server that could not deliver this mail."""
    report = BOUNCE.replace(b"<cabc.0123456789abcdef01234567@example.com>", mail.message["Message-ID"].encode())
    return report.replace(b"cfo@example.com", address.encode())


# -- mails that come back -----------------------------------------------------------------------------------------------


async def test_a_mail_that_came_back_is_flagged_and_sent_again_twice() -> None:
    """The audit names the address each time; the third report is flagged and mails no more; the request waits on."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS))
            await post.notify(approval)
            for count in (2, 3, 3):
                found = await post.handler.bounced(bounce(server.to(CFO)[-1]))
                assert found is not None and found.address == CFO
                assert len(server.to(CFO)) == count
            assert len(server.to(BOSS)) == 1
            flagged = [line for line in await post.refused() if line["what"] == "refused.bounced"]
            assert [(line["by"], line["id"]) for line in flagged] == [(CFO, approval.id)] * 3
            again = server.to(CFO)[-1]
            assert "You are asked to decide." in again.text() and tokens(again.text())
            assert (await post.now(approval)).call.state.value == "pending"
            await post.governor.decide(approval.id, Decision.reject("no"), by=BOSS)
            await post.update(approval)
            assert len(server.to(BOSS)) == 2


async def test_a_report_that_somebody_made_up_flags_nobody() -> None:
    """Another card, another address, another Message-ID, no report at all: nothing is flagged, nothing is sent."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS))
            await post.notify(approval)
            card = (await post.card(approval)).id.encode()
            real = bounce(server.to(CFO)[0])
            made_up = [
                BOUNCE,
                bounce(server.to(CFO)[0], BOSS),
                bounce(server.to(CFO)[0], "eve@example.com"),
                real.replace(card, b"c" * 27),
                re.sub(rb"(<" + card + rb"\.)[0-9a-f]{24}", rb"\g<1>" + b"0" * 24, real),
                real.replace(b"Action: failed", b"Action: delayed"),
                b"",
            ]
            for raw in made_up:
                assert await post.handler.bounced(raw) is None
            assert not await post.refused() and len(server.mails) == 2
            assert await post.handler.bounced(real) is not None, "control: the real one counts"


# -- processes that die -------------------------------------------------------------------------------------------------

DIES = """
import asyncio, sys
from governor_agents import Governor, PolicySet
from governor_agents.handlers.email import EmailHandler

async def main(store, url, id):
    handler = EmailHandler(url)
    governor = Governor(PolicySet([]), store=store, handlers={"email": handler}, public_url="https://approvals.example.com")
    await handler.start(governor.desk)
    await handler.notify(await governor.approval(id))
    print("told")
    await governor.close()

asyncio.run(main(*sys.argv[1:]))
"""


class DeadlyServer(SmtpServer):
    """Kills the process that mails, once it has a mail and before it says so."""

    victim: subprocess.Popen[str] | None = None
    left = 0

    def keep(self, session: object, envelope: object, secure: bool) -> None:
        super().keep(session, envelope, secure)  # type: ignore[arg-type]
        if self.victim is not None and self.left:
            self.left -= 1
            os.kill(self.victim.pid, signal.SIGKILL)
            self.victim.wait()


@pytest.mark.timeout(300)
async def test_a_process_killed_behind_the_mail_leaves_one_duplicate_that_is_the_same_mail(tmp_path: Path) -> None:
    """``kill -9`` between the server's taking a mail and the note of it, twice; then everyone has been told."""
    store = f"sqlite:///{tmp_path / 'governor.db'}"
    with DeadlyServer() as server:
        async with mailing(server, store=store) as post:
            approval = await post.asked(people=(CFO, BOSS))

            async def tell() -> tuple[int, str]:
                command = [sys.executable, "-c", DIES, store, server.url(), approval.id]
                path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
                server.victim = subprocess.Popen(  # noqa: ASYNC220
                    command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
                )
                said, _ = await asyncio.to_thread(server.victim.communicate)
                return server.victim.returncode, said

            for mails in (1, 2):  # killed behind the same mail twice: nothing of it was noted
                server.left = 1
                assert (await tell())[0] == -signal.SIGKILL
                assert len(server.mails) == mails
            assert await tell() == (0, "told\n")
            sent = {person: server.to(person) for person in (CFO, BOSS)}
            assert sorted(len(mails) for mails in sent.values()) == [1, 3]
            for mails in sent.values():
                assert len({mail.message["Message-ID"] for mail in mails}) == 1
                for mail in mails:
                    assert await post.governor.desk.tokens.look(tokens(mail.text())[0], "decide")
            await post.notify(approval)
            assert len(server.mails) == 4


# -- words that try to be more ------------------------------------------------------------------------------------------

INJECTIONS = [
    "x\r\nBcc: eve@example.com",
    "x\nSubject: other\n\nbody",
    "x\u2028Bcc: eve@example.com\u2029",
    "x\x0b\x0c\x1c\x1d\x1e\x85Bcc: eve@example.com",
    "=?utf-8?q?=0D=0ABcc:_eve=40example.com?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=",
    "Größe " * 60,
    "\u202e" * 30 + "x" * 300,
    "a" * 2000,
]


@pytest.mark.parametrize("word", INJECTIONS, ids=range(len(INJECTIONS)))
async def test_no_word_adds_a_header_or_a_recipient(word: str) -> None:
    """Tool, agent and conversation names with line ends of every kind: the mail has our headers, each once."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked({"n": 1}, tool=word, agent=word, conversation=word)
            await post.notify(approval)
            [mail] = server.mails
            names = [name.lower() for name in mail.message.keys()]  # noqa: SIM118
            assert sorted(names) == sorted({*names}), "a header came twice"
            ours = "from to subject date message-id auto-submitted x-auto-response-suppress list-id"
            assert {*names} == {
                *ours.split(),
                "x-governor-approval",
                "x-governor-digest",
                "mime-version",
                "content-type",
            }
            assert mail.recipients == (CFO,) and mail.message["To"] == CFO
            assert mail.message["Subject"].startswith("Approval run_")
            assert max(map(len, mail.raw.split(b"\r\n"))) <= 998


async def test_what_a_server_says_is_shown_on_one_line_and_without_our_login(caplog: pytest.LogCaptureFixture) -> None:
    """A reply of several lines, with controls and with our password in it, in the log and in what is raised."""
    password = "p4ss-w0rd-of-the-server"
    with SmtpServer(users={"governor": password}) as server:
        server.replies[CFO] = f"550-5.7.1 \x1b[2J rejected\r\n550 5.7.1 governor:{password} and {'x' * 900}"
        async with mailing(server) as post:
            with pytest.raises(DeliveryFailed) as failed:
                await post.notify(await post.asked())
            said = [
                str(failed.value),
                *(record.getMessage() for record in caplog.records if "refused" in record.getMessage()),
            ]
            assert len(said) == 2
            for line in said:
                assert "550" in line and "rejected" in line and len(line) < 400
                assert password not in line and not {"\n", "\r", "\x1b"} & set(line)


def test_a_mail_with_a_header_that_is_not_ours_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the library does decode such a word and writes a header; then the mail is refused, not sent."""
    monkeypatch.setattr(mime, "_plain", lambda text: text)
    for word in INJECTIONS[4:6]:
        with pytest.raises(DeliveryFailed, match="headers that are not ours"):
            mime.mail(Letter(f"Approval {word}", "x", "x"), mime.Envelope("a@b", "c@d", "<c.1@b>"))


async def test_approvers_who_are_no_addresses_get_no_mail() -> None:
    """A name in the policy that is two addresses, or a header, is mailed to nobody."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            people = (CFO, "a@b.c,eve@example.com", "a@b.c\r\nBcc: eve@example.com", "<eve@example.com>")
            await post.notify(await post.asked(people=people))
            assert [mail.recipients for mail in server.mails] == [(CFO,)]


# -- links --------------------------------------------------------------------------------------------------------------


async def _everywhere(post: Mailing) -> bytes:
    """All that is stored: bodies, events, indexes, ids."""
    governor, found = post.governor, b""

    async def read() -> bytes:
        kept = b""
        for kind in sorted(KINDS):
            for held in await governor.store.scan(kind, limit=1000):
                record = held.record
                kept += record.body + record.id.encode() + json.dumps(dict(record.index)).encode()
                kept += b"".join(event.body for event in await governor.store.events(kind, record.tenant, record.id))
        return kept

    await post.refused()  # written out by now
    found = await governor.loop.bridge(read())
    assert found
    return found


async def test_a_links_secret_stands_in_the_mail_alone(caplog: pytest.LogCaptureFixture) -> None:
    """256 random bits each, in no record, event, index, log or repr; what is stored is the hash. Password likewise."""
    password = "p4ss-w0rd-of-the-server"
    with SmtpServer(users={"governor": password}) as server, caplog.at_level(logging.DEBUG):
        server.replies[BOSS] = "550 5.1.1 no such user"
        async with mailing(server) as post:
            approvals = [await post.asked({"n": n}, people=(CFO, BOSS)) for n in range(20)]
            for approval in approvals:
                await post.notify(approval)
            await post.governor.decide(approvals[0].id, Decision.reject("no"), by=CFO)
            await post.update(approvals[0])
            secrets = {token for mail in server.mails for token in tokens(mail.text())}
            assert len(secrets) == 20 and all(len(secret) == 43 for secret in secrets)
            stored = await _everywhere(post)
            told = f"{caplog.text} {post.handler!r} {post.handler.settings!r} {server.mails!r}"
            assert BOSS in told, "control: what was logged is looked at"
            for secret in (*secrets, password):
                assert secret.encode() not in stored and secret not in told
            for secret in secrets:
                assert sha256(secret.encode()).hexdigest().encode() in stored, "control: the hash is found"
            look = post.governor.desk.tokens.look
            assert all([(await look(secret, "decide")).person == CFO for secret in secrets])
            assert "secret" not in repr(Read(server.mails[0].text("html")))


async def test_a_link_counts_once_for_one_purpose_until_its_time() -> None:
    """Another purpose, another answer, a time that is over, a text that nobody issued: none of them counts."""
    clock = MovableClock()
    with SmtpServer() as server:
        async with mailing(server, store=open_store("memory://", clock=clock)) as post:
            long = await post.asked({"n": 1}, deadline=10 * 86_400.0)
            await post.notify(long)
            desk = post.governor.desk
            [secret] = set(tokens(server.mails[0].text()))
            assert f"works once, and until {when(clock() + handling.LINK_LIVES)}." in server.mails[0].text()
            with pytest.raises(NotFound):
                await desk.tokens.look(secret, "login")
            with pytest.raises(NotFound):
                await desk.tokens.look(secret[:-1] + ("A" if secret[-1] != "A" else "B"), "decide")
            await desk.tokens.use(secret, "decide", "approve")
            await desk.tokens.use(secret, "decide", "approve")
            with pytest.raises(TokenUsed):
                await desk.tokens.use(secret, "decide", "reject")
            clock.move(handling.LINK_LIVES - 10)
            assert await desk.tokens.look(secret, "decide")
            clock.move(20)
            with pytest.raises(TokenExpired):
                await desk.tokens.look(secret, "decide")
            assert (await post.now(long)).call.state.value == "pending", "control: the request itself still waits"
