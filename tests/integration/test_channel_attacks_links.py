"""Attacks on the pages: on what one decision counts for, and on links after their time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from governor_agents import Decision
from governor_agents.core.calls import Operand
from governor_agents.core.records import Approval
from governor_agents.directory import open_people
from tests.pages import BOSS, CFO, Office, client, form_in, make_office

pytestmark = pytest.mark.anyio

PEOPLE = """
version: 1
people:
  cfo: {email: cfo@example.com}
  boss: {email: boss@example.com}
"""


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    (tmp_path / "people.yaml").write_text(PEOPLE)
    people = open_people(tmp_path / "people.yaml")
    made = make_office(f"sqlite:///{tmp_path}/governor.db", people=people)
    yield made
    await made.governor.close()


async def fresh(office: Office, approval: Approval) -> Approval:
    return await office.governor.approval(approval.id)


async def two_on_a_card(office: Office) -> tuple[list[Approval], str]:
    asked = [await office.ask(people=("cfo", "boss"), quorum=2) for _ in range(2)]
    cards = [await office.governor.desk.cards.enter(each, "silent") for each in asked]
    assert cards[0].id == cards[1].id
    return asked, cards[0].id


async def approve(office: Office, link: str, html: str) -> int:
    async with client(office) as web:
        return (await web.post(link, data=form_in(html, "decide", decision="approve"))).status_code


async def get(office: Office, path: str) -> str:
    async with client(office) as web:
        return (await web.get(path)).text


@pytest.mark.parametrize("at", (0, 1))
async def test_a_page_decides_what_it_shows(office: Office, at: int) -> None:
    """Of two calls on a card one is edited: the page shows one of them, and the form is about that one alone."""
    asked, card = await two_on_a_card(office)
    link = await office.link(card, "cfo")
    await office.governor.decide(asked[at].id, Decision.edit({"order": "1", "amount": 99_999}), by=BOSS)
    html = await get(office, link)
    assert "identical calls" not in html
    assert await approve(office, link, html) == 200
    now = [await fresh(office, each) for each in asked]
    voted = [each.call for each in now if any(vote.by == "cfo" for vote in each.call.votes)]
    assert len(voted) == 1 and (b"99999" in voted[0].args) is ("99999" in html)


async def test_calls_on_other_files_share_no_card(office: Office) -> None:
    """The same arguments name a file whose content changed between two calls: one approval is not for both."""
    first, second = [await office.ask() for _ in range(2)]
    bad = replace(second, call=replace(second.call, operands=(Operand("path", 9, "ab" * 32),)))
    cards = office.governor.desk.cards
    assert (await cards.enter(first, "silent")).id != (await cards.enter(bad, "silent")).id


async def test_nobody_joins_a_card_that_was_edited(office: Office) -> None:
    """A call like the one before the edit has a card of its own: what stands on the first is another request now."""
    first, again = [await office.ask(people=("cfo", "boss"), quorum=2) for _ in range(2)]
    cards = office.governor.desk.cards
    card = await cards.enter(first, "silent")
    await office.governor.decide(first.id, Decision.edit({"order": "1", "amount": 99_999}), by=BOSS)
    assert (await cards.enter(again, "silent")).id != card.id


async def test_a_used_link_decides_no_later_call(office: Office) -> None:
    """An identical call joins the card after the link was used: whoever finds the old mail cannot approve it."""
    first = await office.ask(people=("cfo", "boss"), quorum=2)
    cards = office.governor.desk.cards
    card = await cards.enter(first, "silent")
    link = await office.link(card.id, "cfo")
    assert await approve(office, link, await get(office, link)) == 200
    later = await office.ask(people=("cfo", "boss"), quorum=2)
    assert (await cards.enter(later, "silent")).id == card.id
    await office.governor.decide(first.id, Decision.approve(), by=BOSS)
    assert await approve(office, link, await get(office, link)) == 410
    assert (await fresh(office, later)).call.votes == ()


async def test_a_link_to_an_address_that_was_taken_away_is_over(office: Office, tmp_path: Path) -> None:
    """A mailbox is in strange hands and the directory names another one: the links that lie in the old one are dead."""
    asked = await office.ask(people=("cfo",))
    link = await office.link(asked, CFO)
    assert "4711" in await get(office, link)
    (tmp_path / "people.yaml").write_text(PEOPLE.replace(CFO, "new@example.com"))
    html = await get(office, link)
    assert "4711" not in html and "decision" not in html


async def test_a_flood_for_others_hides_nothing(office: Office) -> None:
    """However much waits for others: what waits for somebody is listed for them, and lets them log in."""
    for _ in range(120):
        await office.ask(people=(BOSS,))
    asked = [await office.ask(people=("auditor@example.com",)) for _ in range(20)]
    found = await office.governor.desk.inbox("auditor@example.com")
    assert [each.id for each in found] == [each.id for each in asked]
