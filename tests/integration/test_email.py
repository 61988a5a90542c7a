"""Requests by e-mail: who gets which mail, in which thread, with whose link, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet, Verdict
from governor_agents.core.verdicts import Stage
from governor_agents.directory import open_people
from governor_agents.errors import ChannelUnusable, DeliveryFailed, NotFound
from governor_agents.handlers.email import EmailHandler
from governor_agents.handlers.message import when
from governor_agents.testing.smtp_server import SmtpServer
from tests.mailing import AUDIT, BOSS, CFO, PUBLIC, Read, mailing, tokens

LOGIN = {"governor": "pass word/#?@:%"}


async def test_each_approver_gets_a_mail_with_a_link_of_their_own() -> None:
    """One mail each, both parts with the same link; the link is that person's, for that card, and ends with the request."""
    with SmtpServer(users=LOGIN) as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS), deadline=600.0)
            await post.notify(approval)
            mails = server.wait(2)
            card = await post.card(approval)
            assert sorted(mail.recipients for mail in mails) == [(BOSS,), (CFO,)]
            assert all(
                mail.secure and mail.user == "governor" and mail.sender == "approvals@example.com" for mail in mails
            )
            for mail in mails:
                [token] = set(tokens(mail.text()))
                assert Read(mail.text("html")).links == [f"{PUBLIC}/confirm/{token}"]
                stands_for = await post.governor.desk.tokens.look(token, "decide")
                assert (stands_for.person, stands_for.subject, stands_for.digest) == (
                    mail.recipients[0],
                    card.id,
                    approval.call.digest,
                )
                assert approval.deadline is not None and stands_for.until <= approval.deadline
                assert f"works once, and until {when(approval.deadline)}." in mail.text()
            assert len({tokens(mail.text())[0] for mail in mails}) == 2


async def test_headers_keep_machines_from_answering_and_readers_in_one_thread() -> None:
    """Outcome and request share subject and thread; every mail says that it is automatic."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS))
            await post.notify(approval)
            await post.governor.decide(approval.id, Decision.reject("no invoice"), by=CFO)
            await post.update(approval)
            server.wait(4)
            first, last = (mail.message for mail in server.to(BOSS))
            assert last["Subject"] == first["Subject"] == f"Approval {approval.id}: support asks to run refund"
            assert last["In-Reply-To"].strip() == last["References"].strip() == first["Message-ID"]
            assert last["Message-ID"] != first["Message-ID"]
            assert first["In-Reply-To"] is None
            for mail in (first, last):
                assert mail["Auto-Submitted"] == "auto-generated" and mail["X-Auto-Response-Suppress"] == "All"
                assert mail["List-Id"] == "Approvals <governor-agents.example.com>"
                assert mail["X-Governor-Approval"] == approval.id
                assert mail["From"] == "approvals@example.com" and mail["To"] == BOSS
            outcome = server.to(BOSS)[1]
            for part in ("plain", "html"):
                said = outcome.text(part) if part == "plain" else Read(outcome.text("html")).text
                assert "Closed: rejected by cfo@example.com at " in said and "(no invoice)" in said
            assert not tokens(outcome.text()) and not Read(outcome.text("html")).links


async def test_asking_again_mails_nobody_twice() -> None:
    """Notices come at least once; mails go out once. A place that was lost is what makes it mail again."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS))
            for _ in range(3):
                await post.notify(approval)
                await post.update(approval)
            assert len(server.mails) == 2
            card = await post.card(approval)
            await post.governor.desk.cards.change(card.id, lambda card: replace(card, places=()))
            await post.notify(approval)
            assert len(server.mails) == 4
            assert len({mail.message["Message-ID"] for mail in server.mails}) == 2


async def test_a_mail_whose_taking_was_not_heard_is_sent_again_as_the_same_mail() -> None:
    """The connection breaks behind the last byte: one duplicate, under the same Message-ID, and a link that works too."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked()
            server.trouble = "forgets"
            with pytest.raises(DeliveryFailed):
                await post.notify(approval)
            server.trouble = ""
            await post.notify(approval)
            await post.notify(approval)
            one, two = server.mails
            assert one.message["Message-ID"] == two.message["Message-ID"]
            for mail in (one, two):
                assert (await post.governor.desk.tokens.look(tokens(mail.text())[0], "decide")).person == CFO


async def test_a_stage_mails_those_it_asks_and_tells_the_others() -> None:
    """The second stage's people hear when it is their turn; the first stage's hear who voted, and how it ended."""
    stages = (Stage(("finance",), (CFO, AUDIT), quorum=1), Stage(("boss",), (BOSS,)))
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(stages=stages)
            await post.notify(approval)
            assert not server.to(BOSS)
            await post.governor.decide(approval.id, Decision.approve(), by=CFO)
            await post.notify(approval)
            [asked] = server.to(BOSS)
            assert "You are asked to decide." in asked.text() and tokens(asked.text())
            told = server.to(AUDIT)[-1]
            assert "cfo@example.com approved it at " in told.text() and "You are no longer asked" in told.text()
            assert not tokens(told.text())
            assert len(server.to(CFO)) == 1, "nobody is told of their own vote"
            await post.governor.decide(approval.id, Decision.approve(), by=BOSS)
            await post.update(approval)
            for person in (CFO, AUDIT, BOSS):
                assert "Closed: approved by boss@example.com at " in server.to(person)[-1].text()
                assert "not run yet" not in server.to(person)[-1].text()  # that would stand there for ever


async def test_a_quorum_tells_the_rest_who_voted() -> None:
    """Two of three: the first vote is told to the other two, with a link each, and not to the voter."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS, AUDIT), quorum=2)
            await post.notify(approval)
            await post.governor.decide(approval.id, Decision.approve("fine"), by=CFO)
            await post.update(approval)
            assert [len(server.to(person)) for person in (CFO, BOSS, AUDIT)] == [1, 2, 2]
            told = server.to(BOSS)[-1].text()
            assert "cfo@example.com approved it at " in told and "approved by cfo@example.com" in told and tokens(told)


async def test_an_edit_asks_the_others_anew() -> None:
    """New arguments, a new mail in the thread with both versions and a new link; the old link names the old digest."""
    again = Verdict("require_approval", "p#refunds", "1", stages=(Stage(("finance",), (CFO, BOSS), quorum=2),))
    with SmtpServer() as server:
        async with mailing(server, policies=PolicySet([lambda call: again])) as post:
            approval = await post.asked(people=(CFO, BOSS), quorum=2)
            await post.notify(approval)
            await post.governor.decide(approval.id, Decision.edit({"order": "4711", "amount": 60}), by=CFO)
            await post.notify(approval)
            first, second = server.to(BOSS)
            assert "look at it again" in second.text() and "amount: 120 -> 60" in second.text()
            assert '{"amount":60,"order":"4711"}' in second.text() and '"amount":120' in second.text()
            look = post.governor.desk.tokens.look
            old, new = [await look(tokens(mail.text())[0], "decide") for mail in (first, second)]
            now = await post.now(approval)
            assert old.digest == approval.call.digest != new.digest == now.call.digest


async def test_identical_calls_share_a_thread_and_its_links() -> None:
    """A second identical call mails nobody anew; the outcome of both comes as one mail."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            one, two = await post.asked(), await post.asked()
            await post.notify(one)
            await post.notify(two)
            assert len(server.mails) == 1
            for approval in (one, two):
                await post.governor.decide(approval.id, Decision.approve(), by=CFO)
            await post.update(one)
            await post.update(two)
            assert len(server.mails) == 2
            three = await post.asked()
            await post.notify(three)
            assert len(server.mails) == 3, "what was decided takes no further call"
            assert server.mails[2].message["In-Reply-To"] is None


async def test_without_pages_a_mail_says_how_to_decide_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    """No public URL, no link; and the start says so."""
    with SmtpServer() as server, caplog.at_level(logging.WARNING):
        async with mailing(server, public_url="") as post:
            approval = await post.asked()
            await post.notify(approval)
            text = server.wait(1)[0].text()
            assert f"governor-agents inbox approve {approval.id}" in text
            assert "http" not in text and not Read(server.mails[0].text("html")).links
    assert "GOVERNOR_PUBLIC_URL" in caplog.text


async def test_a_request_too_large_for_a_mail_links_to_no_decision() -> None:
    """The mail shows none of the arguments, has no token, and points to the full request."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked({"text": "x" * 100_000})
            await post.notify(approval)
            [mail] = server.mails
            stored = sha256(approval.call.args).hexdigest()
            for said in (mail.text(), Read(mail.text("html")).text):
                assert f"{len(approval.call.args)} bytes of canonical JSON, SHA-256 {stored}" in said
                assert "xxxx" not in said and "/confirm/" not in said
            assert Read(mail.text("html")).links == [f"{PUBLIC}/requests/{approval.id}"]
            assert f"{PUBLIC}/requests/{approval.id}" in mail.text()
        async with mailing(server, public_url="") as post:
            await post.notify(await post.asked({"text": "x" * 100_000}))
            assert "inbox show" in server.mails[-1].text() and "inbox approve" not in server.mails[-1].text()


async def test_one_refused_address_stops_no_other_and_is_flagged() -> None:
    """550 for one of three: the others have their mail, the audit has the address, and later news tries it again."""
    with SmtpServer() as server:
        server.replies[BOSS] = "550 5.1.1 no such user"
        async with mailing(server) as post:
            approval = await post.asked(people=(BOSS, CFO, AUDIT))
            await post.notify(approval)
            assert [len(server.to(person)) for person in (BOSS, CFO, AUDIT)] == [0, 1, 1]
            flagged = [line for line in await post.refused() if line["what"] == "refused.address_refused"]
            assert [(line["by"], line["id"], line["channel"]) for line in flagged] == [(BOSS, approval.id, "email")]
            del server.replies[BOSS]
            await post.notify(approval)
            assert [len(server.to(person)) for person in (BOSS, CFO, AUDIT)] == [1, 1, 1]


async def test_one_address_that_is_put_off_is_tried_again_alone() -> None:
    """451 for one of three: the notice fails, and when it is tried again the other two get nothing more."""
    with SmtpServer() as server:
        server.replies[BOSS] = "451 4.7.1 greylisted, come back"
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS, AUDIT))
            for _ in range(2):
                with pytest.raises(DeliveryFailed, match=r"boss@example\.com: 451 4\.7\.1 greylisted"):
                    await post.notify(approval)
                assert [len(server.to(person)) for person in (CFO, BOSS, AUDIT)] == [1, 0, 1]
            assert not await post.refused(), "what may pass is not flagged"
            del server.replies[BOSS]
            await post.notify(approval)
            assert [len(server.to(person)) for person in (CFO, BOSS, AUDIT)] == [1, 1, 1]


async def test_an_address_that_is_gone_does_not_keep_an_outcome_from_being_told() -> None:
    """Refused for good, for who is alone with the news: flagged, and the notice is done, so that what follows is told."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS), quorum=2)
            await post.notify(approval)
            server.replies[BOSS] = "550 5.1.1 gone"
            await post.governor.decide(approval.id, Decision.approve(), by=CFO)
            await post.update(approval)
            await post.governor.decide(approval.id, Decision.approve(), by=BOSS)
            await post.update(approval)
            assert [len(server.to(person)) for person in (CFO, BOSS)] == [2, 1]
            assert [line["by"] for line in await post.refused()] == [BOSS, BOSS]


async def test_two_workers_at_once_send_the_same_mail_if_they_send_two() -> None:
    """Without the turns that workers take: at most one mail each, all the same, and one place."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked(people=(CFO, BOSS))
            await asyncio.gather(*(post.notify(approval) for _ in range(4)))
            for person in (CFO, BOSS):
                sent = server.to(person)
                assert 1 <= len(sent) <= 4 and len({mail.message["Message-ID"] for mail in sent}) == 1
            assert sorted(place.to for place in (await post.card(approval)).places) == [BOSS, CFO]
            before = len(server.mails)
            await post.notify(approval)
            assert len(server.mails) == before


async def test_nobody_reached_is_trouble() -> None:
    """Every address refused, or none known: the outbox must keep trying, not take it for told."""
    with SmtpServer() as server:
        server.replies[CFO] = "550 5.1.1 no such user"
        async with mailing(server) as post:
            with pytest.raises(DeliveryFailed, match=r"cfo@example\.com: 550 5\.1\.1 no such user"):
                await post.notify(await post.asked())
            with pytest.raises(DeliveryFailed, match="none of those who are asked has an e-mail address: local:alice"):
                await post.notify(await post.asked({"n": 2}, people=("local:alice",)))
            await post.notify(await post.asked({"n": 3}, people=("local:alice",), channels=("email", "slack")))


@pytest.mark.parametrize("trouble", ["busy", "full", "hangs", "hangs-at-data", "resets", "down"])
async def test_trouble_with_the_server_is_never_a_decision_and_is_over_when_it_is(trouble: str) -> None:
    """Each trouble raises `DeliveryFailed`; the request waits on, and one mail goes out when the server is back."""
    with SmtpServer() as server:
        async with mailing(server, timeout="30" if trouble not in ("hangs", "hangs-at-data") else "0.5") as post:
            approval = await post.asked(people=(CFO, BOSS))
            if trouble == "down":
                server.down()
            else:
                server.trouble = trouble  # type: ignore[assignment]
            with pytest.raises(DeliveryFailed) as failed:
                await post.notify(approval)
            assert (
                ("\n" not in str(failed.value) and "127.0.0.1" in str(failed.value))
                or "452" in str(failed.value)
                or "451" in str(failed.value)
            )
            assert (await post.now(approval)).call.state.value == "pending"
            assert not server.mails
            server.trouble = ""
            if trouble == "down":
                server.up()
            post.handler.settings = replace(post.handler.settings, timeout=60.0)
            await post.notify(approval)
            assert [len(server.to(person)) for person in (CFO, BOSS)] == [1, 1]


async def test_a_link_that_never_left_is_revoked() -> None:
    """A refused mail's token counts no more; one whose mail was taken does."""
    issued: list[str] = []
    with SmtpServer() as server:
        server.replies[BOSS] = "550 5.1.1 no such user"
        async with mailing(server) as post:
            tokens_of = post.governor.desk.tokens
            issue = tokens_of.issue

            async def watched(*stands_for: str, **limits: Any) -> str:
                issued.append(await issue(*stands_for, **limits))
                return issued[-1]

            tokens_of.issue = watched  # type: ignore[method-assign]
            await post.notify(await post.asked(people=(BOSS, CFO)))
            refused, taken = issued
            with pytest.raises(NotFound):
                await tokens_of.look(refused, "decide")
            assert (await tokens_of.look(taken, "decide")).person == CFO


async def test_somebody_with_a_new_address_is_asked_there() -> None:
    """Nothing goes to an address that is no longer theirs; the new one starts a thread of its own."""
    where = {"cfo": CFO}
    with SmtpServer() as server:
        async with mailing(server) as post:
            post.governor.desk.reach = lambda person, kind: (where[person],)  # type: ignore[method-assign]
            approval = await post.asked(people=("cfo",))
            await post.notify(approval)
            where["cfo"] = BOSS
            await post.notify(approval)
            [old], [new] = server.to(CFO), server.to(BOSS)
            assert tokens(new.text()) and new.message["In-Reply-To"] is None
            assert old.message["Message-ID"] != new.message["Message-ID"]


START = [
    ({"user": "governor", "password": "wrong"}, "refuses the login: 535"),
    ({"from": "intruder@example.com"}, "takes no mail from intruder@example.com: 553"),
    ({"ca": ""}, "certificate of 127.0.0.1:"),
]


@pytest.mark.parametrize(("options", "said"), START, ids=[said for _, said in START])
async def test_wrong_settings_are_found_at_the_start(
    options: dict[str, str],
    said: str,
) -> None:
    """One line with the mend, no password, before anybody is asked; the right settings start."""
    with SmtpServer(users=LOGIN) as server:
        server.senders = {"approvals@example.com"}
        governor = Governor(PolicySet([]), store="memory://", public_url=PUBLIC)
        try:
            with pytest.raises(ChannelUnusable) as unusable:
                await EmailHandler(server.url(**options)).start(governor.desk)
            assert said in str(unusable.value) and "\n" not in str(unusable.value)
            assert ("wrong" not in str(unusable.value) and "GOVERNOR_SMTP_URL" in str(unusable.value)) or "553" in said
            await EmailHandler(server.url()).start(governor.desk)
        finally:
            await governor.close()


async def test_a_server_without_starttls_or_login_is_found_at_the_start() -> None:
    """No password goes over a connection that is not encrypted, and none is swallowed where there is no login."""
    with SmtpServer("plain") as server:
        url = server.url("governor", "secret").replace("smtp://", "smtp+starttls://")
        governor = Governor(PolicySet([]), store="memory://", public_url=PUBLIC)
        try:
            for wrong in (url, server.url("governor", "secret"), url.replace("smtp+starttls", "smtps")):
                with pytest.raises(ChannelUnusable) as unusable:
                    await EmailHandler(wrong).start(governor.desk)
                assert "secret" not in str(unusable.value) and "\n" not in str(unusable.value)
            assert not any("secret" in command for command in server.commands)
        finally:
            await governor.close()


async def test_a_server_that_is_away_does_not_stop_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """The channel starts, says what it met, and mails when the server is back."""
    with SmtpServer() as server:
        server.down()
        async with mailing(server) as post:
            assert "cannot be used now" in caplog.text
            server.up()
            await post.notify(await post.asked())
            server.wait(1)


async def test_a_channel_with_a_target_or_not_started_is_told() -> None:
    """``email:somewhere`` names nothing; a handler that nobody started has no desk."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            approval = await post.asked()
            with pytest.raises(ChannelUnusable, match="takes no target"):
                await post.handler.notify(approval, "list@example.com")
            with pytest.raises(ChannelUnusable, match="start the handler"):
                await EmailHandler(server.url()).notify(approval)


async def test_a_login_link_is_mailed() -> None:
    """What the pages send: one link, in both parts, and nothing else that opens."""
    with SmtpServer() as server:
        async with mailing(server) as post:
            await post.handler.send_login(CFO, f"{PUBLIC}/login/abc", 900.0)
            [mail] = server.mails
            assert f"{PUBLIC}/login/abc" in mail.text() and "15 minutes" in mail.text()
            assert Read(mail.text("html")).links == [f"{PUBLIC}/login/abc"]
            with pytest.raises(DeliveryFailed, match="no e-mail address"):
                await post.handler.send_login("x\r\nBcc: y@example.com", f"{PUBLIC}/login/abc", 900.0)


async def test_the_substitute_of_somebody_away_is_mailed_too(tmp_path: Path) -> None:
    """With a link of their own; both are told the outcome, and in whose place it was decided."""
    away = "away: {from: 2020-01-01, until: 2090-01-01, substitute: dave}"
    people = f"version: 1\npeople:\n  cfo: {{email: {CFO}, {away}}}\n  dave: {{email: dave@example.com}}\n"
    (tmp_path / "people.yaml").write_text(people)
    with SmtpServer() as server:
        async with mailing(server, people=open_people(tmp_path / "people.yaml")) as post:
            approval = await post.asked(people=("cfo",))
            await post.notify(approval)
            assert len(server.to(CFO)) == 1 and tokens(server.to("dave@example.com")[0].text())
            await post.governor.decide(approval.id, Decision.reject("no invoice"), by="dave@example.com")
            await post.update(approval)
            assert "rejected by dave in the place of cfo (substitute) at" in server.to(CFO)[-1].text()
