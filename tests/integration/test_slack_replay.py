"""A click that was good once, or somewhere else, is good nowhere else and never again: refused, noted, without effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor, PolicySet, Run, Verdict
from governor_agents.core.records import CallState, evolve
from governor_agents.core.verdicts import Stage
from governor_agents.testing.slack_server import SlackServer
from tests.asking import Silent
from tests.integration.desk import Desk
from tests.slack_office import ADDRESS, ALICE, BOB, CAROL, Office, Posted, office_of
from tests.stores import STORES, Time

pytestmark = pytest.mark.anyio

ASK = Verdict(
    "require_approval", "p#ask", "1",
    stages=(Stage(("people",), (ADDRESS[ALICE], ADDRESS[BOB])),), deadline=3600.0, channels=("slack",),
)  # fmt: skip
MORE = evolve(ASK, version="2", stages=(*ASK.stages, Stage(("chief",), (ADDRESS[CAROL],), source="chief")))
DENY = Verdict("deny", "p#deny", "2", reason="not any more")
BOTH = ("deploy", "erase")


@dataclass
class Scene:
    """An agent's run that waits, its cards, and everything that may be moved around it."""

    agent: Desk
    here: Office
    slack: SlackServer
    time: Time

    async def ask(self) -> list[Posted]:
        """A fresh run; a card for each of its calls."""
        return await self.cards(await self.agent.ask())

    async def cards(self, run: Run) -> list[Posted]:
        return [await self.here.post(approval) for approval in run.approvals]

    async def approve(self, *cards: Posted) -> None:
        for posted in cards:
            assert (await self.here.click(posted, "approve", by=ALICE)).refused == ""

    async def state(self, posted: Posted) -> CallState:
        return (await self.here.call(posted)).state


@pytest.fixture(params=STORES)
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    time = await asyncio.to_thread(lambda: Time(STORES[request.param](tmp_path)))
    agent = Desk("openai-agents", time.store(), say=ASK, tools=BOTH, turns=9, handlers={"slack": Silent()}, env="prod")
    with SlackServer() as slack:
        async with office_of(agent.governor, slack) as here:
            yield Scene(agent, here, slack, time)


def control(posted: Posted) -> str:
    found: str = posted.message.blocks[0]["elements"][0]["value"]
    return found


async def other_run(scene: Scene) -> tuple[str, list[Posted]]:
    """The control of one run's card on the card of another run."""
    first, second = (await scene.ask())[0], await scene.here.ask(amount=5, to="x")
    answer = await scene.here.click(second, "approve", by=ALICE, value=control(first))
    return answer.refused, [first, second]


async def other_generation(scene: Scene) -> tuple[str, list[Posted]]:
    """A click on the card of the run's first pause, sent while it stands in its second."""
    cards = await scene.ask()
    old = scene.slack.click(scene.here.space, cards[0].message, "approve", by=BOB)
    await scene.approve(*cards)
    again = await scene.agent.go_on(await scene.here.run(cards[0]))
    assert again.generation == cards[0].approval.run.generation + 1
    fresh = await scene.cards(again)
    return (await scene.here.send(old)).refused, fresh


async def other_gate(scene: Scene) -> tuple[str, list[Posted]]:
    """The control of one call on the card of another call of the same run."""
    deploy, erase = await scene.ask()
    answer = await scene.here.click(erase, "approve", by=ALICE, value=control(deploy))
    return answer.refused, [deploy, erase]


async def _elsewhere(scene: Scene, **settings: Any) -> tuple[str, list[Posted]]:
    posted = (await scene.ask())[0]
    store = scene.time.store()
    governor = Governor(PolicySet([lambda call: ASK]), store=store, handlers={"slack": Silent()}, **settings)
    async with office_of(governor, scene.slack) as there:
        answer = await there.send(scene.slack.click(there.space, posted.message, "approve", by=ALICE))
        assert (answer.status, len(await there.refusals())) == (404, 1)
    return answer.refused, [posted]


async def other_tenant(scene: Scene) -> tuple[str, list[Posted]]:
    """The click sent to the server of another tenant on the same store."""
    return await _elsewhere(scene, tenant="other", env="prod")


async def other_environment(scene: Scene) -> tuple[str, list[Posted]]:
    """The click sent to the server of another environment on the same store."""
    return await _elsewhere(scene, env="staging")


async def after_done(scene: Scene) -> tuple[str, list[Posted]]:
    """A click sent after the call has run."""
    cards = await scene.ask()
    old = scene.slack.click(scene.here.space, cards[0].message, "approve", by=BOB)
    await scene.approve(*cards)
    run = await scene.agent.go_on(await scene.here.run(cards[0]))
    await scene.here.governor.cancel(run.id, by="local:ops")
    assert await scene.state(cards[0]) is CallState.SUCCEEDED
    ran = len(scene.agent.ran)
    refused = (await scene.here.send(old)).refused
    assert len(scene.agent.ran) == ran
    return refused, []


async def after_expiry(scene: Scene) -> tuple[str, list[Posted]]:
    """A click sent a second after the deadline, before anything else has looked at the run."""
    cards = await scene.ask()
    scene.time.move(3601.0)
    refused = (await scene.here.click(cards[0], "approve", by=ALICE)).refused
    assert await scene.state(cards[0]) is CallState.EXPIRED
    return refused, []


async def after_a_policy_that_denies(scene: Scene) -> tuple[str, list[Posted]]:
    """A click sent after a new policy has cancelled what was approved."""
    cards = await scene.ask()
    old = scene.slack.click(scene.here.space, cards[0].message, "approve", by=BOB)
    await scene.approve(*cards)
    scene.agent.say = DENY
    await scene.agent.go_on(await scene.here.run(cards[0]))
    assert await scene.state(cards[0]) is CallState.CANCELLED
    return (await scene.here.send(old)).refused, []


async def after_a_policy_that_demands_more(scene: Scene) -> tuple[str, list[Posted]]:
    """A click on the old card, sent after a new policy asked again with one more stage."""
    cards = await scene.ask()
    old = scene.slack.click(scene.here.space, cards[0].message, "approve", by=CAROL)
    await scene.approve(*cards)
    scene.agent.say = MORE
    run = await scene.agent.go_on(await scene.here.run(cards[0]))
    assert await scene.state(cards[0]) is CallState.PENDING, run
    return (await scene.here.send(old)).refused, cards


Replay = Callable[[Scene], Awaitable[tuple[str, list[Posted]]]]

REPLAYS: dict[Replay, str] = {
    other_run: "wrong_place",
    other_generation: "already_decided",
    other_gate: "wrong_place",
    other_tenant: "not_found",
    other_environment: "not_found",
    after_done: "already_decided",
    after_expiry: "deadline_passed",
    after_a_policy_that_denies: "already_decided",
    after_a_policy_that_demands_more: "stale_decision",
}


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.__name__)
async def test_a_click_out_of_its_place_or_time_is_refused_and_noted(scene: Scene, replay: Replay) -> None:
    """Nine replays: each is refused with its reason, is one line in the stream, and moves nothing that waits."""
    before = len(await scene.here.refusals())
    refused, waiting = await replay(scene)
    assert refused == REPLAYS[replay]
    if replay not in (other_tenant, other_environment):  # they are noted where they were sent
        lines = (await scene.here.refusals())[before:]
        assert [line["what"] for line in lines] == [f"refused.{refused}"]
    for posted in waiting:
        assert await scene.state(posted) is CallState.PENDING


async def test_the_same_clicks_in_their_place_and_time_count(scene: Scene) -> None:
    """Negative control: nothing but place and time kept them out."""
    deploy, erase = await scene.ask()
    for posted in (deploy, erase):
        assert (await scene.here.click(posted, "approve", by=ALICE)).refused == ""
        assert await scene.state(posted) is CallState.APPROVED
    assert await scene.here.refusals() == []
