"""Attacks on cards that several calls share, and on cards whose fate Slack kept to itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet
from governor_agents.core.records import Approval
from governor_agents.errors import DeliveryFailed
from governor_agents.handlers.slack.blocks import parse
from governor_agents.handlers.slack.handler import SlackHandler
from governor_agents.testing.slack_server import Message
from tests.slack_office import ADDRESS, ALICE, BOB, Office, office, office_of

pytestmark = pytest.mark.anyio

TWO = f"""
version: 1
approvals: {{channels: [slack]}}
rules:
  - name: two
    tool: "*"
    then: require_approval
    stages: [{{approvers: [{", ".join(ADDRESS.values())}], quorum: 2}}]
"""


@asynccontextmanager
async def slack(folder: Path, policy: str = TWO) -> AsyncIterator[tuple[Office, SlackHandler]]:
    """An office whose cards the real handler draws."""
    async with office(folder / "a.db", policy) as here:
        handler = SlackHandler([here.space.token], url=here.slack.url)
        await handler.start(here.desk)
        yield here, handler


def of(here: Office, user: str = ALICE) -> Message:
    """The card in somebody's direct messages."""
    return here.space.direct(user).messages[0]


def shown(message: Message) -> str:
    return json.dumps(message.blocks, ensure_ascii=False)


async def two(here: Office, ask: Callable[[], Awaitable[Any]]) -> tuple[Approval, Approval]:
    first, second = [await here.governor.approval((await ask()).approval) for _ in range(2)]
    return first, second


@pytest.mark.parametrize("at", (0, 1))
async def test_what_was_edited_is_not_identical_any_more(tmp_path: Path, at: int) -> None:
    """Of two calls on a card one is edited: a click decides the one whose bytes stand there, and the other is next."""
    async with slack(tmp_path) as (here, handler):
        asked = await two(here, lambda: here.wire.ask(amount=5, to="shop"))
        for each in asked:
            await handler.notify(each)
        assert "Approve all 2" in shown(of(here))
        await here.governor.decide(asked[at].id, Decision.edit({"amount": 9999, "to": "mallory"}), by=ADDRESS[BOB])
        await handler.notify(await here.governor.approval(asked[at].id))
        assert "Approve all" not in shown(of(here)) and "other arguments" in shown(of(here))
        seen = parse(of(here).blocks)
        await here.send(here.slack.click(here.space, of(here), "approve", by=ALICE))
        calls = [(await here.governor.approval(each.id)).call for each in asked]
        voted = [call for call in calls if any(vote.by == ADDRESS[ALICE] for vote in call.votes)]
        assert [call.args for call in voted] == [seen]


async def test_a_card_that_slack_kept_to_itself_is_closed_with_its_request(tmp_path: Path) -> None:
    """Slack took the card, its answer was lost, and somebody decided elsewhere before anybody tried again."""
    async with slack(tmp_path) as (here, handler):
        asked = await here.governor.approval((await here.wire.ask(amount=5, to="shop")).approval)
        here.slack.trouble("chat.postMessage", "reset", times=1, applied=True)
        with pytest.raises(DeliveryFailed):
            await handler.notify(asked)
        for user in (ALICE, BOB):
            await here.governor.decide(asked.id, Decision.approve(), by=ADDRESS[user])
        card = await here.governor.desk.cards.of(asked, "slack")
        await handler.update(await here.governor.approval(asked.id), card.id)
        messages = [message for user in ADDRESS for message in here.space.direct(user).messages]
        assert messages and all("actions" not in {block["type"] for block in each.blocks} for each in messages)


async def test_a_modal_that_nests_its_place_too_deep_is_malformed(tmp_path: Path) -> None:
    """Signed with a stolen secret: refused like whatever is no modal of ours, not a fault of the server's."""
    async with slack(tmp_path) as (here, _):
        posted = await here.ask()
        await here.click(posted, "reject", by=ALICE)
        deep = json.dumps({"value": f"{posted.card.id}.{'0' * 32}", "spot": "[" * 100_000, "args": ""})
        made = here.slack.submit(here.space, here.view(), {"reason": "no"}, by=ALICE)
        answer = await here.send(made.changed(view__private_metadata=deep))
        assert (answer.status, answer.refused) == (422, "malformed")


async def test_what_waits_elsewhere_is_listed_nowhere_else(tmp_path: Path) -> None:
    """Two environments share a store and an approver: home tab and inbox of one show nothing of the other's."""
    async with office(tmp_path / "a.db", env="prod") as prod:
        asked = await prod.ask(amount=5, to="shop")
        async with office_of(Governor(PolicySet([]), store=prod.governor.store.url, env="test"), prod.slack) as test:
            assert await test.desk.inbox(ADDRESS[ALICE]) == []
        assert [each.id for each in await prod.desk.inbox(ADDRESS[ALICE])] == [asked.approval.id]
