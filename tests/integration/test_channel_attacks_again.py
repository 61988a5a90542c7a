"""Attacks on how far a proof of identity reaches: one link is one request, one answer, and one human's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from governor_agents import Decision
from governor_agents.core.calls import freeze
from governor_agents.core.records import Approval
from governor_agents.core.verdicts import Stage
from governor_agents.directory import open_people
from governor_agents.handlers import message
from governor_agents.server.words import form_token, word_for
from governor_agents.testing.smtp_server import SmtpServer
from tests.integration.test_channel_attacks import of, slack, two
from tests.mailing import mailing
from tests.pages import BOSS, CFO, Office, client, form_in, make_office
from tests.slack_office import ADDRESS, ALICE, BOB

pytestmark = pytest.mark.anyio

CAROL = "carol@example.com"


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    made = make_office(f"sqlite:///{tmp_path}/governor.db")
    yield made
    await made.governor.close()


async def fresh(office: Office, approval: Approval) -> Approval:
    return await office.governor.approval(approval.id)


def made_up(secret: str, place: str, *about: tuple[str, str], **fields: str) -> dict[str, str]:
    """A form that no page showed, made by somebody who has the page's secret: about whatever they like."""
    seen = freeze([list(each) for each in about]).decode()
    return {"form": form_token(secret, place, seen), "seen": seen, "word": word_for(secret, seen), **fields}


def shown(approval: Approval) -> tuple[str, str]:
    return approval.id, approval.call.digest


async def send(office: Office, place: str, form: dict[str, str], **cookies: str) -> httpx.Response:
    async with client(office, cookies=cookies) as web:
        return await web.post(place, data=form)


@pytest.mark.parametrize("do", ("decide", "edit", "comment", "hand-over", "take-up"))
async def test_a_link_is_good_for_its_own_request_alone(office: Office, do: str) -> None:
    """The forwarded mail of a small request is no key to a large one that waits for the same person."""
    small, large = [await office.ask({"amount": amount}, delegates=(CAROL,)) for amount in (1, 99_999)]
    link = await office.link(small)
    fields = {"do": do, "decision": "approve", "comment": "fine", "to": CAROL, "f0": "5"}
    about: tuple[tuple[tuple[str, str], ...], ...] = ((shown(large),), (shown(small), shown(large)))
    for each in about:
        answer = await send(office, link, made_up(link.rpartition("/")[2], link, *each, **fields))
        assert answer.status_code == 403
    for approval in (small, large):
        call = (await fresh(office, approval)).call
        assert (call.votes, call.comments, call.handed, call.taken_up) == ((), (), (), None)
    assert {line["what"] for line in await office.refused()} == {"refused.other_request"}
    fields["do"] = "decide"
    assert (await send(office, link, made_up(link.rpartition("/")[2], link, shown(small), **fields))).status_code == 200


async def test_a_form_names_each_request_once(office: Office) -> None:
    """Not a hundred thousand times: each would be one more transition."""
    asked = await office.ask()
    link = await office.link(asked)
    form = made_up(link.rpartition("/")[2], link, *[shown(asked)] * 50, do="take-up")
    assert (await send(office, link, form)).status_code == 403


async def test_a_session_learns_nothing_of_other_peoples_requests(office: Office) -> None:
    """What there is, who was asked and who decided what: a form on one's own page says the same of it as of nothing."""
    mine, other = await office.ask(), await office.ask(people=(BOSS,))
    await office.governor.decide(other.id, Decision.reject(), by=BOSS)
    cookies = await office.session(CFO)
    place = f"/requests/{mine.id}"
    said: set[Any] = set()
    for id in (other.id, "run_nothing.1"):
        form = made_up(cookies["governor"], place, (id, "0"), do="decide", decision="approve")
        answer = await send(office, place, form, **cookies)
        said.add((answer.status_code, answer.text))
    assert len(said) == 1 and BOSS not in str(said)


async def test_a_used_link_does_nothing_else(office: Office) -> None:
    """It decided, and an edit made that vote void: whoever finds the old mail neither writes nor hands the seat over."""
    asked = await office.ask(people=(CFO, BOSS), quorum=2, delegates=(CAROL,))
    link = await office.link(asked)
    async with client(office) as web:
        form = form_in((await web.get(link)).text, "decide", decision="approve")
        assert (await web.post(link, data=form)).status_code == 200
        await office.governor.decide(asked.id, Decision.edit({"amount": 5}), by=BOSS)
        assert "Hand over" not in (await web.get(link)).text
    now = await fresh(office, asked)
    for do in ("comment", "hand-over", "take-up", "release"):
        fields = {"do": do, "comment": "by an old mail", "to": CAROL}
        answer = await send(office, link, made_up(link.rpartition("/")[2], link, shown(now), **fields))
        assert answer.status_code == 410 and not re.search("recorded|told|stands", answer.text)
    call = (await fresh(office, asked)).call
    assert (call.comments, call.handed, call.taken_up) == ((), (), None)


MOVED = """
version: 1
people:
  alice: {email: [%s, alice@example.com]}
  bob: {email: [%s, bob@example.com]}
"""


async def test_an_address_that_goes_to_somebody_else_takes_no_link_or_session_along(tmp_path: Path) -> None:
    """The CFO's mailbox goes from Alice to Bob: what Alice has open or in her old mails does not count as Bob's word."""
    file = tmp_path / "people.yaml"
    file.write_text(MOVED % (CFO, "b@example.com"))
    office = make_office(f"sqlite:///{tmp_path}/governor.db", people=open_people(file))
    asked = await office.ask(people=("alice", "bob"), quorum=2)
    cookies, link = await office.session(CFO), await office.link(asked)
    await office.governor.decide(asked.id, Decision.approve(), by="alice@example.com")
    async with client(office, cookies=cookies) as web:
        assert "4711" in (await web.get(f"/requests/{asked.id}")).text
        assert "4711" in (await web.get(link)).text
        file.write_text(MOVED % ("a@example.com", CFO))
        page = await web.get(f"/requests/{asked.id}")
        assert page.status_code == 401 and "4711" not in page.text
        opened = await web.get(link)
        assert opened.status_code == 404 and "4711" not in opened.text
    forms = ((link, link.rpartition("/")[2]), (f"/requests/{asked.id}", cookies["governor"]))
    for place, secret in forms:
        form = made_up(secret, place, shown(asked), do="decide", decision="approve")
        assert (await send(office, place, form, **cookies)).status_code in (401, 404)
    assert [vote.by for vote in (await fresh(office, asked)).call.votes] == ["alice"]
    cookies = await office.session(CFO)  # Bob logs in himself
    async with client(office, cookies=cookies) as web:
        form = form_in((await web.get(f"/requests/{asked.id}")).text, "decide", decision="approve")
        assert (await web.post(f"/requests/{asked.id}", data=form)).status_code == 200
    assert [vote.by for vote in (await fresh(office, asked)).call.votes] == ["alice", "bob"]
    await office.governor.close()


async def test_calls_on_one_card_that_got_out_of_step_are_each_decided_by_whom_they_ask(office: Office) -> None:
    """Of two identical calls one went on to its next stage: the link of whoever is asked about the other still works,
    and is about that one alone.
    """
    stages = (Stage(("a",), (CFO,)), Stage(("b",), (BOSS,)))
    asked = [await office.ask(stages=stages) for _ in range(2)]
    cards = [await office.governor.desk.cards.enter(each, "silent") for each in asked]
    assert cards[0].id == cards[1].id
    await office.governor.decide(asked[0].id, Decision.approve(), by=CFO)
    link, other = await office.link(cards[0].id, CFO), await office.link(cards[0].id, BOSS)
    async with client(office) as web:
        for path, calls in ((link, "pending pending"), (other, "approved approved")):
            html = (await web.get(path)).text
            answer = await web.post(path, data=form_in(html, "decide", decision="approve"))
            assert answer.status_code == 200 and "may not decide" not in answer.text
            assert " ".join([(await fresh(office, each)).call.state for each in asked]) == calls
    assert [(await fresh(office, each)).call.stage for each in asked] == [1, 1]


IN_TURN = f"""
version: 1
approvals: {{channels: [slack]}}
rules:
  - name: in turn
    tool: "*"
    then: require_approval
    stages: [{{approvers: [{ADDRESS[ALICE]}]}}, {{approvers: [{ADDRESS[BOB]}]}}]
"""


async def test_a_card_whose_calls_got_out_of_step_asks_all_whom_they_ask(tmp_path: Path) -> None:
    """The same in Slack: whoever is asked about the second call keeps the buttons, and is not refused for the first."""
    async with slack(tmp_path, IN_TURN) as (here, handler):
        asked = await two(here, lambda: here.wire.ask(amount=5, to="shop"))
        for each in asked:
            await handler.notify(each)
        ahead = min(asked, key=lambda each: each.id)  # the one that the card shows
        await here.governor.decide(ahead.id, Decision.approve(), by=ADDRESS[ALICE])
        await handler.notify(await here.governor.approval(ahead.id))
        assert "approve" in {
            part["action_id"] for block in of(here).blocks for part in block.get("elements", ()) if "value" in part
        }
        for user, stages in ((ALICE, {1}), (BOB, {1})):
            answer = await here.send(here.slack.click(here.space, of(here, user), "approve", by=user))
            assert (answer.status, answer.refused) == (200, "")
            calls = [(await here.governor.approval(each.id)).call for each in asked]
            assert {call.stage for call in calls} == stages
            await handler.update(await here.governor.approval(ahead.id), "")
        assert [call.state for call in calls] == ["approved", "approved"]


async def test_a_call_that_joined_a_card_rings_when_its_turn_comes(tmp_path: Path) -> None:
    """Alice had approved the first when the second came, and Bob's click was for both: now the second waits for her
    alone, and an updated card rings nobody's bell.
    """
    async with slack(tmp_path) as (here, handler):
        first, second = await two(here, lambda: here.wire.ask(amount=5, to="shop"))
        await handler.notify(first)
        await here.send(here.slack.click(here.space, of(here), "approve", by=ALICE))
        await handler.notify(second)
        for _ in range(2):
            await handler.update(await here.governor.approval(second.id), "")
        assert [len(here.space.direct(user).messages) for user in (ALICE, BOB)] == [1, 1]
        await here.send(here.slack.click(here.space, of(here, BOB), "approve", by=BOB))
        assert [vote.by for vote in (await here.governor.approval(second.id)).call.votes] == [ADDRESS[BOB]]
        for _ in range(2):
            await handler.update(await here.governor.approval(first.id), "")
        assert [len(here.space.direct(user).messages) for user in (ALICE, BOB)] == [2, 1]
        assert "waits for your decision now" in str(here.space.direct(ALICE).messages[1].blocks)


async def test_a_list_of_requests_takes_no_arguments_apart(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent floods people with large requests: whoever looks at what waits keeps nobody else waiting for that."""
    taken: list[str] = []
    monkeypatch.setattr(message, "flatten", lambda args: taken.append(args) or ())
    large = {"rows": ["x"] * 50_000}
    await office.ask(large, call={"asked_args": b"{}"})
    async with client(office, cookies=await office.session()) as web:
        assert "refund" in (await web.get("/")).text and taken == []
        await web.get(f"/requests/{(await office.governor.inbox(person=CFO))[0].id}")
        assert taken, "control: the page of a request does"
    taken.clear()
    async with slack(tmp_path) as (here, handler):
        await handler.notify(await here.governor.approval((await here.wire.ask(amount=5, to="x" * 50_000)).approval))
        await handler.show_home(here.space.team, ALICE)
        assert "Nothing" not in str(here.space.homes[ALICE])
    with SmtpServer() as server:
        async with mailing(server) as post:
            await post.notify(await post.asked(large))
            assert "too large" in server.wait(1)[0].text()
    assert taken == []
