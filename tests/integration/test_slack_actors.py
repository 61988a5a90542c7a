"""Fourteen people click on Approve: one of them is who was asked, and one is let in. On a real store, with a directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision
from governor_agents.core.records import CallState
from governor_agents.errors import CallDenied
from governor_agents.handlers.slack.payloads import Answer
from tests.slack_office import ALICE, BOB, TEAM, Office, Posted, office
from tests.stores import STORES

pytestmark = pytest.mark.anyio

PEOPLE = """
version: 1
people:
  alice: {name: Alex Kim, slack: T01/U02, email: alice@example.com}
  robert: {name: Robert, slack: T01/U03, email: bob@example.com}
  guest: {name: Guest, slack: T01/U10}
  robot: {name: Robot, slack: T01/U11}
  gone: {name: Gone, slack: T01/U12}
  outside: {name: Outside, slack: T01/U13}
  elsewhere: {name: Elsewhere, slack: T01/U14}
groups:
  approvers: [alice, robert, guest, robot, gone, outside, elsewhere]
  nobody: []
"""
ADDRESSES = ", ".join(f"slack:T01/U{number}" for number in ("02", "03", 10, 11, 12, 13, 14))

POLICIES = {
    "addresses": f"version: 1\napprovals: {{channels: [slack], approvers: [{ADDRESSES}]}}",
    "directory": "version: 1\napprovals: {channels: [slack], approvers: [group:approvers]}",
}
"""Everybody whom Slack's own word must keep out is on the list: only that word stands between them and the decision."""


@pytest.fixture(params=POLICIES)
async def here(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    settings: dict[str, Any] = {}
    if request.param == "directory":
        file = tmp_path / "people.yaml"
        file.write_text(PEOPLE)
        settings["people"] = file
    async with office(tmp_path / "a.db", POLICIES[request.param], **settings) as made:
        space = made.space
        space.person(ALICE, "alice", email="alice@example.com")
        space.person("U10", "guest", is_restricted=True)
        space.person("U11", "robot", is_bot=True)
        space.person("U12", "gone", deleted=True)
        space.person("U13", "outside", is_stranger=True, team_id="T99")
        space.person("U14", "elsewhere", team_id="T02")
        space.person("U15", "unlisted")
        space.person("U16", "alice", email="somebody@example.com")
        space.person("U17", "mallory", email="alice@example.com", confirmed=False)
        away = made.slack.workspace("T02")
        away.person(ALICE, "alice", email="alice@example.com")
        space.channel("C2", ALICE, BOB)
        yield made


Click = Callable[[Office, Posted], Awaitable[Answer]]


@dataclass(frozen=True)
class Actor:
    """Somebody who clicks, and why they do not count."""

    click: Click
    reason: str = ""
    requester: str = ""
    policy: str = ""


def by(user: str, **changes: Any) -> Click:
    async def click(here: Office, posted: Posted) -> Answer:
        made = here.slack.click(here.space, posted.message, "approve", by=user)
        return await here.send(made.changed(**changes) if changes else made)

    return click


async def in_the_wrong_channel(here: Office, posted: Posted) -> Answer:
    """A copy of the card in another channel, with the very same control."""
    return await by(ALICE, container__channel_id="C2", channel__id="C2")(here, posted)


async def on_a_stale_card(here: Office, posted: Posted) -> Answer:
    """The card as it was before somebody edited the arguments; two must approve, so it still waits."""
    await here.governor.decide(
        posted.approval.id, Decision.edit({"amount": 6, "to": "elsewhere"}), by=f"slack:{TEAM}/{BOB}"
    )
    return await by(ALICE)(here, posted)


ACTORS = {
    "listed": Actor(by(ALICE)),
    "unlisted": Actor(by("U15"), "not_an_approver"),
    "same display name": Actor(by("U16"), "not_an_approver"),
    "other team": Actor(by(ALICE, team__id="T02", user__team_id="T02"), "not_found"),
    "Slack Connect": Actor(by("U13"), "stranger"),
    "guest": Actor(by("U10"), "guest"),
    "bot": Actor(by("U11"), "bot"),
    "deleted": Actor(by("U12"), "deleted_user"),
    "e-mail changed": Actor(by("U17"), "not_an_approver"),
    "enterprise id": Actor(by(ALICE, team__id="E01", enterprise={"id": "E01", "name": "x"}), "other_workspace"),
    "requester": Actor(by(ALICE), "not_an_approver", requester=f"slack:{TEAM}/{ALICE}"),
    "wrong channel": Actor(in_the_wrong_channel, "wrong_place"),
    "stale card": Actor(on_a_stale_card, "stale_decision", policy="two"),
    "empty allowlist": Actor(by(ALICE), "not_an_approver", policy="nobody"),
}


def governed(here: Office, actor: Actor) -> None:
    """Ask for another function, under a rule of its own, where an actor needs one."""
    terms: dict[str, Any] = {"requester": actor.requester} if actor.requester else {}
    if actor.policy == "two":
        terms |= {"approvers": [f"slack:{TEAM}/{user}" for user in (ALICE, BOB)], "quorum": 2}

    async def pay(amount: int, to: str, note: str = "") -> str:
        return to

    if terms:
        here.wire = here.governor.govern(**terms)(pay)


async def knock(here: Office, actor: Actor) -> tuple[Answer, Posted]:
    """One actor clicks on a card of their own."""
    governed(here, actor)
    posted = await (here.ask_of() if actor.policy == "nobody" else here.ask(amount=5, to=f"x{id(actor)}"))
    return await actor.click(here, posted), posted


@pytest.mark.parametrize("name", ACTORS)
async def test_only_who_was_asked_and_is_who_slack_says_decides(here: Office, name: str) -> None:
    """Each actor alone: the listed person is let in, everybody else is refused for the reason that is meant, and noted."""
    actor = ACTORS[name]
    answer, posted = await knock(here, actor)
    assert answer.refused == actor.reason
    call = await here.call(posted)
    if name == "listed":
        assert call.state is CallState.APPROVED
        assert await here.refusals() == []
    else:
        assert call.state is CallState.PENDING
        assert [line["what"] for line in await here.refusals()] == [f"refused.{actor.reason}"]
        assert answer.status in (200, 403, 404)


async def test_an_empty_list_is_nobody(tmp_path: Path) -> None:
    """A policy that means nobody denies at once; a record that says so lets nobody decide, whoever clicks."""
    file = tmp_path / "people.yaml"
    file.write_text(PEOPLE)
    policy = "version: 1\napprovals: {channels: [slack], approvers: [group:nobody]}"
    async with office(tmp_path / "a.db", policy, people=file) as here:
        with pytest.raises(CallDenied, match="nobody"):
            await here.ask()
        posted = await here.ask_of()
        for user in (ALICE, BOB):
            assert (await here.click(posted, "approve", by=user)).refused == "not_an_approver"
        assert (await here.call(posted)).votes == ()


@pytest.mark.parametrize("store", STORES)
async def test_of_all_actors_exactly_one_is_accepted(tmp_path: Path, store: str) -> None:
    """All fourteen, each on a card that waits: one vote in all, whatever keeps cards, votes and the stream of refusals."""
    file = tmp_path / "people.yaml"
    file.write_text(PEOPLE)
    accepted = []
    for name, actor in ACTORS.items():
        url = await asyncio.to_thread(STORES[store], tmp_path)
        async with office(url, POLICIES["directory"], people=file) as here:
            _people(here)
            answer, posted = await knock(here, actor)
            mine = [vote for vote in (await here.call(posted)).votes if vote.kind == "approve"]
            accepted += [name] if mine else []
            assert (answer.refused == "") == bool(mine)
            noted = [f"refused.{answer.refused}"] if answer.refused else []
            assert [line["what"] for line in await here.refusals()] == noted
    assert len(ACTORS) == 14
    assert accepted == ["listed"]


def _people(here: Office) -> None:
    space = here.space
    for user, flags in (
        ("U10", {"is_restricted": True}),
        ("U11", {"is_bot": True}),
        ("U12", {"deleted": True}),
        ("U13", {"is_stranger": True, "team_id": "T99"}),
        ("U15", {}),
        ("U16", {}),
        ("U17", {}),
    ):
        space.person(user, "alice", email="alice@example.com", **flags)
    here.slack.workspace("T02").person(ALICE, "alice", email="alice@example.com")
    space.channel("C2", ALICE, BOB)


async def test_without_slacks_word_more_would_be_let_in(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with the checks of users.info taken out, guest, bot, stranger and former member decide."""
    monkeypatch.setattr("governor_agents.handlers.slack.actors._unfit", lambda *_: "")
    for name in ("guest", "bot", "Slack Connect", "deleted"):
        answer, posted = await knock(here, ACTORS[name])
        assert answer.refused == ""
        assert (await here.call(posted)).state is CallState.APPROVED


async def test_without_the_place_a_copied_card_would_count(here: Office) -> None:
    """Negative control: the same control on the message that was posted is good, so it was the place that was refused."""
    answer, posted = await knock(here, ACTORS["wrong channel"])
    assert answer.refused == "wrong_place"
    assert (await by(ALICE)(here, posted)).refused == ""
    assert (await here.call(posted)).state is CallState.APPROVED


async def test_without_the_tag_a_stale_card_would_count(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it is the tag alone that tells the card of before an edit from the one of after it."""
    monkeypatch.setattr("governor_agents.handlers.slack.behind.tag", lambda _: _carried(here))
    answer, posted = await knock(here, ACTORS["stale card"])
    assert answer.refused == ""
    assert len((await here.call(posted)).votes) == 2


def _carried(here: Office) -> str:
    message = here.space.messages("C1")[-1]
    return str(message.blocks[0]["elements"][0]["value"].partition(".")[2])


async def test_what_slack_says_of_somebody_is_believed_for_a_minute_alone(
    here: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the minute Slack is not asked again; after it, somebody who left decides no more."""
    now = [0.0]
    monkeypatch.setattr(here.inbound._actors, "_clock", lambda: now[0])
    first, second, third = await here.ask(), await here.ask(), await here.ask()
    await here.click(first, "approve", by=ALICE)
    count = here.slack.count("users.info")
    await here.click(second, "approve", by=ALICE)
    assert here.slack.count("users.info") == count
    here.space.users[ALICE]["deleted"] = True
    now[0] = 61.0
    assert (await here.click(third, "approve", by=ALICE)).refused == "deleted_user"


async def test_a_member_of_two_workspaces_of_one_company_is_met_in_each(here: Office) -> None:
    """On Enterprise Grid a person's home may be another workspace; what counts is membership of this one."""
    here.space.person(
        ALICE, "alice", team_id="T02", enterprise_user={"id": ALICE, "enterprise_id": "E1", "teams": ["T02", TEAM]}
    )
    posted = await here.ask()
    made = here.slack.click(here.space, posted.message, "approve", by=ALICE)
    assert (await here.send(made.changed(user__team_id="T02"))).refused == ""
    assert (await here.call(posted)).state is CallState.APPROVED


async def test_somebody_of_another_company_in_a_shared_channel_decides_nothing(here: Office) -> None:
    """Slack calls such a person no stranger, and lets them click; that their home is another workspace is what counts."""
    here.space.conversations["C1"].members.add("U14")
    posted = await here.ask()
    for home in ("T02", "T01", None):
        made = here.slack.click(here.space, posted.message, "approve", by="U14").changed(user__team_id=home)
        assert (await here.send(made)).refused == "other_workspace"
    away = here.slack.click(here.space, posted.message, "approve", by=ALICE).changed(user__team_id="T02")
    assert (await here.send(away)).refused == "other_workspace"  # a member, but Slack says that the click is another's
    assert (await here.call(posted)).state is CallState.PENDING
