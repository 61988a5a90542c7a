"""Cards in Slack: posted once, where people are; kept as the record is, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet
from governor_agents.adapters.functions import Governed
from governor_agents.core.channels import Place
from governor_agents.core.records import Approval, Change, Event, Run
from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.slack import workspaces
from governor_agents.handlers.slack.blocks import parse
from governor_agents.handlers.slack.card import EVENT
from governor_agents.handlers.slack.controls import Spot
from governor_agents.handlers.slack.handler import SlackHandler
from governor_agents.testing.slack_server import Message, SlackServer, Workspace

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL, DAVE = (f"slack:T01/U0{at}" for at in range(2, 6))
POLICY = f"""
version: 1
approvals: {{channels: [slack], deadline: 4h, approvers: ["{ALICE}", "{BOB}"]}}
rules:
  - {{name: two, tool: staged, then: require_approval, stages: [{{approvers: ["{ALICE}"]}}, {{approvers: ["{CAROL}"]}}]}}
  - {{name: channel, tool: public, then: require_approval, channels: ["slack:C1"]}}
"""


@dataclass
class Here:
    """A local Slack with one workspace, a governor, and the handler."""

    slack: SlackServer
    space: Workspace
    governor: Governor
    handler: SlackHandler
    tools: dict[str, Governed]

    async def ask(self, tool: str = "wire", **arguments: Any) -> Approval:
        asked = await self.tools[tool].ask(**(arguments or {"amount": 120, "to": "ACME"}))
        return await self.governor.approval(asked.approval)

    async def fresh(self, approval: Approval) -> Approval:
        return await self.governor.approval(approval.id)

    async def decide(self, approval: Approval, decision: Decision, by: str = ALICE) -> Approval:
        await self.governor.decide(approval.id, decision, by=by)
        return await self.fresh(approval)

    async def change(self, approval: Approval, **changes: Any) -> Approval:
        """What another room will have written into the record."""
        n = approval.call.n

        def step(run: Run, now: float) -> Change:
            call = run.call(n)
            assert call is not None
            return Change(run.with_call(replace(call, **changes)), (Event("call.changed", n),))

        await self.governor.loop.bridge(self.governor.runs.change(approval.run.id, step))
        return await self.fresh(approval)

    def cards(self, of: str = "") -> list[Message]:
        """The messages with blocks that are no telling in a thread, of one conversation or of all."""
        return [message for message in self.space.messages(of) if message.text and not message.thread_ts]

    def direct(self, address: str) -> list[Message]:
        return self.space.direct(address.rpartition("/")[2]).messages


@asynccontextmanager
async def office(folder: Path, policy: str = POLICY, **more: Any) -> AsyncIterator[Here]:
    """Everything, started and stopped."""
    with SlackServer() as slack:
        space = slack.workspace("T01")
        for id, name in (("U02", "alice"), ("U03", "bob"), ("U04", "carol"), ("U05", "dave")):
            space.person(id, name)
        space.channel("C1", "U02", "U03")
        handler = SlackHandler([space.token], url=slack.url)
        settings = {"handlers": {"slack": handler}, "public_url": "https://approve.example.com", **more}
        governor = Governor(PolicySet.from_text(policy), store=f"sqlite:///{folder}/a.db", **settings)

        def tool(name: str) -> Governed:
            @governor.govern(name=name)
            async def call(amount: int, to: str) -> str:
                return f"{amount} to {to}"

            return call

        tools = {name: tool(name) for name in ("wire", "staged", "public")}
        await governor.open()
        await handler.start(governor.desk)
        try:
            yield Here(slack, space, governor, handler, tools)
        finally:
            slack.calm()
            await governor.close()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with office(tmp_path) as made:
        yield made


def shown(message: Message) -> str:
    """Every text on a card."""
    return json.dumps(message.blocks, ensure_ascii=False)


def actions(message: Message) -> set[str]:
    return {each["action_id"] for block in message.blocks if block["type"] == "actions" for each in block["elements"]}


async def test_everyone_asked_gets_the_card_in_direct_messages(here: Here) -> None:
    """With the arguments that will run, controls that carry the card, and nothing that Slack would unfold."""
    approval = await here.ask()
    card = await here.handler.notify(approval)
    assert [len(here.direct(who)) for who in (ALICE, BOB, CAROL)] == [1, 1, 0]
    for who in (ALICE, BOB):
        (message,) = here.direct(who)
        assert parse(message.blocks) == approval.call.args
        assert {"approve", "reject", "edit", "respond", "claim", "comment"} == actions(message)
        assert (
            here.slack.click(here.space, message, "approve", by=who[-3:])
            .payload["actions"][0]["value"]
            .startswith(card)
        )
        quiet = {name: message.sent[name] for name in ("unfurl_links", "unfurl_media", "link_names", "parse")}
        assert quiet == {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none"}
    assert here.slack.refusals() == []


async def test_told_again_nothing_is_posted_again(here: Here) -> None:
    """The same record any number of times, in any order: one card for each person, no update without a change."""
    approval = await here.ask()
    cards = {await here.handler.notify(approval) for _ in range(3)}
    await here.handler.update(approval, cards.copy().pop())
    assert len(cards) == 1 and len(here.cards()) == 2
    assert here.slack.count("chat.update") == 0


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision.approve("paid"), f"Approved by {ALICE} at 20"),
        (Decision.reject("no invoice"), f"Rejected by {ALICE} at 20"),
        (Decision.respond("done by hand"), f"Answered by {ALICE} at 20"),
    ],
)
async def test_everyone_sees_who_decided_what_and_when(here: Here, decision: Decision, words: str) -> None:
    """In every place, with the reason; and no controls any more."""
    approval = await here.ask()
    card = await here.handler.notify(approval)
    decided = await here.decide(approval, decision)
    await here.handler.update(decided, card)
    for who in (ALICE, BOB):
        (message,) = here.direct(who)
        assert words in shown(message) and (decision.reason or decision.answer) in shown(message)
        assert actions(message) == set() and parse(message.blocks) == approval.call.args
    assert here.slack.refusals() == []


async def test_an_outcome_before_any_card_posts_nothing(here: Here) -> None:
    """Decided elsewhere before anybody was asked here: there is nothing to show it on."""
    approval = await here.ask()
    decided = await here.decide(approval, Decision.approve())
    await here.handler.update(decided, "")
    await here.handler.notify(decided)
    assert here.cards() == []


async def test_the_next_stage_is_asked_and_the_first_only_told(here: Here) -> None:
    """Whoever decided their stage keeps the card and loses its controls; the next get one with them."""
    approval = await here.ask("staged", amount=5, to="x")
    await here.handler.notify(approval)
    assert [len(here.direct(who)) for who in (ALICE, CAROL)] == [1, 0]
    later = await here.decide(approval, Decision.approve())
    await here.handler.notify(later)
    assert [len(here.direct(who)) for who in (ALICE, CAROL)] == [1, 1]
    assert actions(here.direct(ALICE)[0]) == set() and "waits for more votes" in shown(here.direct(ALICE)[0])
    assert "approve" in actions(here.direct(CAROL)[0])
    assert parse(here.direct(CAROL)[0].blocks) == approval.call.args


PEOPLE = """
version: 1
people:
  alice: {slack: [T01/U02, T09/U11], away: {from: 2020-01-01, until: 2090-01-01, substitute: dave}}
  bob: {slack: T01/U03}
  carol: {email: carol@example.com}
  dave: {slack: T01/U05}
"""


async def test_people_are_met_where_the_directory_says_and_substitutes_are_asked(tmp_path: Path) -> None:
    """Whoever stands for somebody away gets a card with controls too, and is shown in whose place they decided."""
    (tmp_path / "people.yaml").write_text(PEOPLE)
    rule = "{name: two, tool: wire, then: require_approval, approvers: [alice, bob, carol], quorum: 2}"
    policy = f"version: 1\napprovals: {{channels: [slack]}}\nrules:\n  - {rule}\n"
    async with office(tmp_path, policy, people=tmp_path / "people.yaml") as here:
        approval = await here.ask()
        await here.handler.notify(approval)
        assert [len(here.direct(who)) for who in (ALICE, BOB, CAROL, DAVE)] == [1, 1, 0, 1]
        assert "approve" in actions(here.direct(DAVE)[0])
        await here.handler.notify(await here.decide(approval, Decision.approve(), by=BOB))
        assert "waits for more votes" in shown(here.direct(DAVE)[0]) and "approve" in actions(here.direct(DAVE)[0])
        await here.handler.update(await here.decide(approval, Decision.approve(), by=DAVE), "")
        assert "Approved by dave in the place of alice (substitute) at 20" in shown(here.direct(ALICE)[0])
        assert here.slack.refusals() == []


async def test_a_channel_gets_one_card_that_names_whoever_is_asked(here: Here) -> None:
    """A mention is made of an id, never of a text; the thread of a message works as well."""
    approval = await here.ask("public", amount=5, to="<!channel> @here <@U05>")
    await here.handler.notify(approval, "C1")
    (message,) = here.cards("C1")
    users = [part["user_id"] for block in message.blocks for part in _parts(block) if part["type"] == "user"]
    assert users == ["U02", "U03"]
    assert {part["type"] for block in message.blocks for part in _parts(block)} <= {"text", "user", "date"}
    assert "<!channel>" not in message.text and "<@" not in message.text
    await here.handler.notify(await here.ask(), f"T01/C1/{message.ts}")
    assert [one.thread_ts for one in here.space.messages("C1")] == ["", message.ts]


def _parts(block: Any) -> list[Any]:
    return [part for element in block.get("elements", []) for part in element.get("elements", [])]


async def test_claims_comments_and_hand_overs_are_shown(here: Here) -> None:
    """From the record, by an update; whoever a seat was handed to gets a card."""
    from governor_agents.core.records import Comment, HandOver, TakenUp

    approval = await here.ask()
    await here.handler.notify(approval)
    changed = await here.change(
        approval,
        delegates=(DAVE,),
        taken_up=TakenUp(BOB, 1_795_000_000.0),
        comments=(Comment(BOB, 1_795_000_000.0, "who is *ACME*? <!here>"),),
        handed=(HandOver(ALICE, DAVE, ALICE, 1_795_000_000.0),),
    )
    await here.handler.notify(changed)
    for who in (ALICE, BOB, DAVE):
        (message,) = here.direct(who)
        assert "who is *ACME*? <!here>" in shown(message) and f"{DAVE} may decide too" in shown(message)
        assert {"release", "delegate"} <= actions(message) and "claim" not in actions(message)
    assert "mrkdwn" not in shown(here.direct(BOB)[0])


async def test_a_reminder_comes_once_in_the_thread(here: Here) -> None:
    """With a mention, which rings; told again with the same record, nothing more is said."""
    approval = await here.change(await here.ask(), reminders=(1.0, 2.0))
    await here.handler.notify(approval)
    reminded = await here.change(approval, reminders=(2.0,))
    for _ in range(2):
        await here.handler.notify(reminded)
    card, telling = here.direct(ALICE)
    assert telling.thread_ts == card.ts and "still waits" in shown(telling)
    assert _parts(telling.blocks[0])[0] == {"type": "user", "user_id": "U02"}
    await here.handler.notify(await here.change(approval, reminders=()))
    assert len(here.direct(ALICE)) == 3


async def test_whoever_is_asked_again_is_told(here: Here) -> None:
    """A stricter policy, or an edit, asks the same people about another digest: an update alone would ring no bell."""
    approval = await here.ask()
    await here.handler.notify(approval)
    again = await here.change(approval, digest="f" * 64)
    for _ in range(2):
        await here.handler.notify(again)
    card, telling = here.direct(ALICE)
    assert telling.thread_ts == card.ts and "waits for your decision now" in shown(telling)
    await here.handler.notify(await here.ask())
    assert len(here.direct(ALICE)) == 2  # one more identical call is told to nobody


async def test_identical_calls_share_one_card(here: Here) -> None:
    """Which states the count, and what became of each when they are decided apart."""
    first, second = await here.ask(), await here.ask()
    card = await here.handler.notify(first)
    assert await here.handler.notify(second) == card
    (message,) = here.direct(ALICE)
    assert "2 identical calls wait" in shown(message) and "Approve all 2" in shown(message)
    await here.handler.update(await here.decide(first, Decision.reject("once is enough")), card)
    assert "Approve all" not in shown(message) and "once is enough" in shown(message)
    await here.handler.update(await here.decide(second, Decision.approve("paid")), card)
    assert "once is enough" in shown(message) and "paid" in shown(message) and actions(message) == set()


async def test_identical_calls_of_high_risk_have_a_card_each(here: Here) -> None:
    """So that no click decides more than one of them."""
    first, second = [await here.change(await here.ask(), risk="high") for _ in range(2)]
    assert await here.handler.notify(first) != await here.handler.notify(second)
    assert len(here.direct(ALICE)) == 2
    assert all("Approve all" not in shown(message) for message in here.direct(ALICE))


# -- trouble ------------------------------------------------------------------------------------------------------------


async def test_a_card_that_was_posted_before_a_crash_is_found_again(here: Here) -> None:
    """Slack took the message and the answer was lost: the next try finds it by its metadata and posts no other."""
    approval = await here.ask()
    here.slack.trouble("chat.postMessage", "reset", times=1, applied=True)
    with pytest.raises(DeliveryFailed):
        await here.handler.notify(approval)
    assert len(here.cards()) == 1
    await here.handler.notify(approval)
    assert [len(here.direct(who)) for who in (ALICE, BOB)] == [1, 1]
    assert here.direct(ALICE)[0].metadata["event_type"] == EVENT
    card = await here.handler.notify(approval)
    await here.handler.update(await here.decide(approval, Decision.approve()), card)
    assert all("Approved by" in shown(message) for message in here.cards())


async def test_without_the_metadata_the_card_comes_twice(here: Here) -> None:
    """Negative control: a message that carries no op is not found, and a second one is posted."""
    approval = await here.ask()
    here.slack.trouble("chat.postMessage", "reset", times=1, applied=True)
    with pytest.raises(DeliveryFailed):
        await here.handler.notify(approval)
    here.cards()[0].metadata = None
    await here.handler.notify(approval)
    assert len(here.direct(ALICE)) == 2


async def test_a_copy_by_another_app_is_not_taken_for_the_card(here: Here) -> None:
    """Whatever a message says, another app can say too: only what the app itself posted is found again."""
    approval = await here.ask()
    here.slack.trouble("chat.postMessage", "reset", times=1, applied=True)
    with pytest.raises(DeliveryFailed):
        await here.handler.notify(approval)
    here.cards()[0].bot_id = "B0OTHER"
    await here.handler.notify(approval)
    assert len(here.direct(ALICE)) == 2
    card = await here.handler.notify(approval)
    await here.handler.update(await here.decide(approval, Decision.approve()), card)
    assert ["Approved by" in shown(message) for message in here.direct(ALICE)] == [False, True]


async def test_of_two_posted_at_once_one_stays(here: Here) -> None:
    """Two workers find the same place without a message: the second one's is taken away."""
    approval = await here.ask()
    card = await here.governor.desk.cards.enter(approval, "slack")
    await here.governor.desk.cards.change(card.id, lambda card: card.placed(Place(ALICE, "op")))
    other = SlackHandler([here.space.token], url=here.slack.url)
    await other.start(here.governor.desk)
    await asyncio.gather(here.handler.notify(approval), other.notify(approval))
    assert [len(here.direct(who)) for who in (ALICE, BOB)] == [1, 1]


async def test_an_older_drawing_never_stays_on_top(here: Here) -> None:
    """A worker that was slow with what it had read sees that somebody drew meanwhile, and draws anew."""
    approval = await here.ask()
    card = await here.handler.notify(approval)
    slow = await here.change(approval, risk="high")
    here.slack.trouble("chat.update", "reset", times=1, applied=True)
    with pytest.raises(DeliveryFailed):  # it drew, and died before it wrote so
        await here.handler.update(slow, card)
    decided = await here.decide(approval, Decision.approve())
    await here.handler.update(decided, card)
    await here.handler.update(slow, card)  # an old record, delivered late
    await here.handler.update(await here.fresh(approval), card)
    assert all("Approved by" in shown(message) and not actions(message) for message in here.cards())


async def test_rate_limits_are_obeyed(here: Here) -> None:
    """The seconds that Slack wants are given to the worker whole, and nothing else is asked of that workspace."""
    approval = await here.ask()
    here.slack.trouble("chat.postMessage", "ratelimited", retry_after=37)
    with pytest.raises(DeliveryFailed, match="37 s") as limited:
        await here.handler.notify(approval)
    assert limited.value.retry_after == 37.0
    assert here.slack.count("chat.postMessage") == 1
    here.slack.calm()
    await here.handler.notify(approval)
    assert [len(here.direct(who)) for who in (ALICE, BOB)] == [1, 1]


@pytest.mark.parametrize("kind", ["http", "garbage", "reset", "error"])
async def test_trouble_is_told_to_the_worker(here: Here, kind: Any) -> None:
    """One line, with no word of a request or a token; well again, the card comes."""
    approval = await here.ask()
    here.slack.trouble("*", kind)
    with pytest.raises(DeliveryFailed) as failed:
        await here.handler.notify(approval)
    assert "xoxb" not in str(failed.value) and "ACME" not in str(failed.value)
    here.slack.calm()
    await here.handler.notify(approval)
    assert [len(here.direct(who)) for who in (ALICE, BOB)] == [1, 1]


async def test_a_slack_that_hangs_is_left(here: Here) -> None:
    """After the time-out it is tried again."""
    handler = SlackHandler([here.space.token], url=here.slack.url, timeout=1)
    await handler.start(here.governor.desk)
    here.slack.trouble("chat.postMessage", "hang")
    with pytest.raises(DeliveryFailed, match="did not answer"):
        await handler.notify(await here.ask())


async def test_whoever_cannot_be_reached_does_not_stop_the_others(here: Here) -> None:
    """A deactivated account is passed over; when nobody is left, that is said."""
    here.space.users["U02"]["deleted"] = True
    approval = await here.ask()
    await here.handler.notify(approval)
    assert len(here.direct(BOB)) == 1
    here.space.users["U03"]["deleted"] = True
    with pytest.raises(DeliveryFailed, match=r"nobody who may decide can be reached in Slack: .*user_disabled"):
        await here.handler.notify(await here.ask(amount=1, to="other"))


async def test_what_slack_says_is_too_large_is_posted_without_approve(here: Here) -> None:
    """Should its limit be another than we know, people get the card that points to the full request."""
    approval = await here.ask()
    here.slack.trouble("chat.postMessage", "error", error="msg_blocks_too_long", times=1)
    await here.handler.notify(approval)
    alice, bob = here.direct(ALICE)[0], here.direct(BOB)[0]
    assert "approve" not in actions(alice) and {"open", "reject"} <= actions(alice)
    assert "approve" in actions(bob)


async def test_a_card_that_somebody_deleted_is_let_go(here: Here) -> None:
    """The outcome cannot be shown there; the other places get it."""
    approval = await here.ask()
    card = await here.handler.notify(approval)
    here.direct(ALICE).clear()
    await here.handler.update(await here.decide(approval, Decision.approve()), card)
    assert "Approved by" in shown(here.direct(BOB)[0])


async def test_a_card_that_was_deleted_while_it_waits_comes_again(here: Here) -> None:
    """With the next reminder: its place is empty, and nothing of it is found."""
    approval = await here.change(await here.ask(), reminders=(1.0,))
    await here.handler.notify(approval)
    here.direct(ALICE).clear()
    await here.handler.update(await here.change(approval, risk="high"), "")
    assert here.direct(ALICE) == []
    await here.handler.notify(await here.change(approval, reminders=()))
    assert [parse(message.blocks) for message in here.direct(ALICE)] == [approval.call.args]


@pytest.mark.parametrize("seed", range(4))
async def test_cards_over_a_slack_that_fails_at_random(here: Here, seed: int) -> None:
    """Three workers at once, answers lost, limits, cut connections: in the end one card each, as the record is."""
    random = Random(seed)
    workers = [here.handler, *(SlackHandler([here.space.token], url=here.slack.url) for _ in range(2))]
    for worker in workers[1:]:
        await worker.start(here.governor.desk)
    approvals = [await here.ask(amount=at, to="ACME") for at in range(4)]
    troubles = []

    async def work(worker: SlackHandler, approval: Approval) -> None:
        with suppress(DeliveryFailed):
            fresh = await here.fresh(approval)
            await random.choice((worker.notify, lambda it: worker.update(it, "")))(fresh)

    for turn in range(12):
        if random.random() < 0.7:
            kind = random.choice(("reset", "http", "ratelimited", "garbage"))
            method = random.choice(("chat.postMessage", "chat.update", "chat.*", "conversations.*"))
            applied = random.random() < 0.6
            troubles.append(here.slack.trouble(method, kind, times=random.randrange(1, 4), applied=applied))
        await asyncio.gather(*(work(worker, random.choice(approvals)) for worker in workers))
        if turn % 4 == 3:
            await here.decide(approvals[turn // 4], random.choice((Decision.approve("yes"), Decision.reject("no"))))
    here.slack.calm()
    for approval in approvals:
        await here.handler.notify(await here.fresh(approval))
    for approval in approvals:
        fresh = await here.fresh(approval)
        card = await here.governor.desk.cards.enter(approval, "slack")
        for place in card.places:
            if place.to not in (ALICE, BOB):
                continue
            spot = Spot.of(place.ref)
            if spot is None:  # decided before anybody was asked there
                assert fresh.call.state.value != "pending"
                continue
            (message,) = [each for each in here.direct(place.to) if each.ts == spot.ts]
            assert ("approve" in actions(message)) is (fresh.call.state.value == "pending")
            assert fresh.call.state.value == "pending" or f"{ALICE} at 20" in shown(message)
    spots = {place.ref for each in approvals for place in (await here.governor.desk.cards.enter(each, "slack")).places}
    known = {spot.ts for ref in spots if (spot := Spot.of(ref)) is not None}
    assert len([message for message in here.cards() if message.ts not in known]) <= sum(one.met for one in troubles)


# -- workspaces ---------------------------------------------------------------------------------------------------------


async def test_several_workspaces_by_team_id(here: Here) -> None:
    """Each person is met in their own; a channel needs its workspace named."""
    other = here.slack.workspace("T02")
    other.person("U99", "erin")
    other.channel("C1")
    handler = SlackHandler([here.space.token, other.token], url=here.slack.url)
    await handler.start(here.governor.desk)
    approval = await here.ask()
    stage = replace(approval.call.stages[0], people=(ALICE, "slack:T02/U99"))
    approval = await here.change(approval, stages=(stage,))
    await handler.notify(approval)
    assert len(here.direct(ALICE)) == 1 and len(other.direct("U99").messages) == 1
    with pytest.raises(DeliveryFailed, match="names no workspace, and there are 2; write slack:T0123/C1"):
        await handler.notify(approval, "C1")
    await handler.notify(approval, "T02/C1")
    assert len(other.messages("C1")) == 1
    with pytest.raises(DeliveryFailed, match="names no channel"):
        await handler.notify(approval, "#general")


async def test_one_workspace_that_is_lost_holds_up_no_other(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its token is one line; people elsewhere are asked, and its own when it is good again, each once."""
    monkeypatch.setattr(workspaces, "AGAIN", 0.0)
    other = here.slack.workspace("T02")
    other.person("U99", "erin")
    other.revoked = "token_revoked"
    handler = SlackHandler([other.token, here.space.token], url=here.slack.url)
    await handler.start(here.governor.desk)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1 and "bot token 1 (token_revoked)" in lines[0] and other.token not in lines[0]
    approval = await here.ask()
    stage = replace(approval.call.stages[0], people=(ALICE, "slack:T02/U99"))
    approval = await here.change(approval, stages=(stage,))
    for _ in range(2):
        with pytest.raises(DeliveryFailed, match="no bot token for workspace T02 is good now"):
            await handler.notify(approval)
    with pytest.raises(DeliveryFailed, match="names no workspace, and there are 2"):
        await handler.notify(approval, "C1")
    other.revoked = ""
    await handler.notify(approval)
    assert len(here.direct(ALICE)) == 1 and len(other.direct("U99").messages) == 1


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda space: setattr(space, "token", "xoxb-another"), "invalid_auth.*SLACK_BOT_TOKEN"),
        (lambda space: setattr(space, "revoked", "token_revoked"), "token_revoked.*install the app"),
        (lambda space: space.scopes.discard("im:write"), "workspace T01 lacks im:write.*reinstall"),
    ],
)
async def test_wrong_settings_are_found_at_the_start(here: Here, spoil: Any, why: str) -> None:
    """One line that names the mend, without the token."""
    token = here.space.token
    handler = SlackHandler([token], url=here.slack.url)
    spoil(here.space)
    with pytest.raises(ChannelUnusable, match=why) as unusable:
        await handler.start(here.governor.desk)
    assert token not in str(unusable.value) and "\n" not in str(unusable.value)


def test_no_token_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming the variable."""
    monkeypatch.delenv("SLACK_BOT_TOKEN", raising=False)
    with pytest.raises(ChannelUnusable, match="SLACK_BOT_TOKEN=xoxb-"):
        SlackHandler()


async def test_a_slack_that_is_away_at_the_start_is_asked_later(here: Here) -> None:
    """No answer proves nothing about the settings."""
    handler = SlackHandler([here.space.token], url=here.slack.url)
    here.slack.stop()
    await handler.start(here.governor.desk)
    here.slack.start()
    await handler.notify(await here.ask())
    assert len(here.direct(ALICE)) == 1


async def test_the_home_tab_lists_what_waits_for_its_person(here: Here) -> None:
    """With the way to the card; after the decision it is gone."""
    approval = await here.ask(amount=7, to="<!channel>")
    await here.handler.notify(approval)
    await here.handler.show_home("T01", "U02")
    await here.handler.show_home("T01", "U04")
    home, empty = here.space.homes["U02"], here.space.homes["U04"]
    assert "1 request waits for you" in json.dumps(home) and "Nothing waits for you" in json.dumps(empty)
    ts = here.direct(ALICE)[0].ts.replace(".", "")
    (url,) = [each["url"] for block in home["blocks"] if block["type"] == "actions" for each in block["elements"]]
    assert url == f"https://t01.slack.com/archives/{here.space.direct('U02').id}/p{ts}"
    await here.decide(approval, Decision.approve())
    await here.handler.show_home("T01", "U02")
    assert "Nothing waits for you" in json.dumps(here.space.homes["U02"])
    assert here.slack.refusals() == []


async def test_the_home_tab_makes_no_card(here: Here) -> None:
    """Whoever looks there before a worker asked them would be asked beyond the limit of requests for them."""
    approval = await here.ask(amount=7, to="x")
    await here.handler.show_home("T01", "U02")
    assert await here.governor.desk.cards.of(approval, "slack") is None
    assert "1 request waits for you" in json.dumps(here.space.homes["U02"])
