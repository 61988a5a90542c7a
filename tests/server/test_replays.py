"""[23] A form that was good once, or somewhere else, is good nowhere else and never again: refused, noted, without effect.

Each row takes a page as somebody saw it and sends its form where, or when, it must not count: by a mail's link, and with
a login.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from governor_agents import Decision, Governor, PolicySet, Run, Verdict
from governor_agents.core.records import Approval, CallState, evolve
from governor_agents.core.verdicts import Stage
from tests.integration.desk import Desk
from tests.pages import BOSS, CFO, Office, client, form_in, office_of
from tests.stores import STORES, Time

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

CHIEF = "chief@example.com"
ASK = Verdict("require_approval", "p#ask", "1", stages=(Stage(("people",), (CFO, BOSS)),), deadline=3600.0)
MORE = evolve(ASK, version="2", stages=(*ASK.stages, Stage(("chief",), (CHIEF,), source="chief")))
DENY = Verdict("deny", "p#deny", "2", reason="not any more")
BOTH = ("deploy", "erase")
WAYS = ("link", "login")


@dataclass
class Scene:
    """An agent's run that waits, its pages, and everything that may be moved around it."""

    way: str
    agent: Desk
    office: Office
    time: Time
    logins: dict[str, dict[str, str]] = field(default_factory=dict)

    async def path(self, approval: Approval, by: str = CFO) -> str:
        return await self.office.link(approval, by) if self.way == "link" else f"/requests/{approval.id}"

    async def web(self, by: str = CFO, office: Office | None = None) -> httpx.AsyncClient:
        if by not in self.logins:
            self.logins[by] = await self.office.session(by)
        return client(office or self.office, cookies=self.logins[by])

    async def shown(self, approval: Approval, by: str = CFO) -> tuple[str, dict[str, str]]:
        """A page's path, and the form on it, filled in for an approval."""
        path = await self.path(approval, by)
        async with await self.web(by) as web:
            return path, form_in((await web.get(path)).text, "decide", decision="approve")

    async def send(self, path: str, form: dict[str, str], by: str = CFO, office: Office | None = None) -> int:
        async with await self.web(by, office) as web:
            return (await web.post(path, data=form)).status_code

    async def state(self, approval: Approval) -> CallState:
        return (await self.office.governor.approval(approval.id)).call.state

    async def approve(self, run: Run) -> None:
        for each in run.approvals:
            await self.agent.governor.decide(each.id, Decision.approve(), by=BOSS)


@pytest.fixture(params=STORES)
async def time(request: pytest.FixtureRequest, tmp_path: Path) -> Time:
    return await asyncio.to_thread(lambda: Time(STORES[request.param](tmp_path)))


@pytest.fixture(params=WAYS)
async def scene(request: pytest.FixtureRequest, time: Time) -> AsyncIterator[Scene]:
    agent = Desk("openai-agents", time.store(), say=ASK, tools=BOTH, turns=9, env="prod")
    async with agent.governor:
        yield Scene(request.param, agent, office_of(agent.governor), time)


Row = tuple[int, list[Approval]]


async def other_run(scene: Scene) -> Row:
    """The form of one run's page, sent to the page of another run."""
    first, second = (await scene.agent.ask()).approvals[0], (await scene.agent.ask()).approvals[0]
    _, form = await scene.shown(first)
    return await scene.send(await scene.path(second), form), [first, second]


async def other_generation(scene: Scene) -> Row:
    """The form of the run's first pause, sent while it stands in its second."""
    run = await scene.agent.ask()
    path, form = await scene.shown(run.approvals[0])
    await scene.approve(run)
    again = await scene.agent.go_on(run)
    assert again.generation == run.generation + 1
    return await scene.send(path, form), list(again.approvals)


async def other_gate(scene: Scene) -> Row:
    """The form of one call's page, sent to the page of another call of the same run."""
    deploy, erase = (await scene.agent.ask()).approvals
    _, form = await scene.shown(deploy)
    return await scene.send(await scene.path(erase), form), [deploy, erase]


async def _elsewhere(scene: Scene, **settings: Any) -> Row:
    asked = (await scene.agent.ask()).approvals[0]
    path, form = await scene.shown(asked)
    async with Governor(PolicySet([lambda call: ASK]), store=scene.time.store(), **settings) as governor:
        there = office_of(governor)
        status = await scene.send(path, form, office=there)
        assert len(await there.refused()) == 1
    return status, [asked]


async def other_tenant(scene: Scene) -> Row:
    """The form sent to the server of another tenant on the same store, where nobody has this login or link."""
    return await _elsewhere(scene, tenant="other", env="prod")


async def other_environment(scene: Scene) -> Row:
    """The form sent to the server of another environment on the same store."""
    status, asked = await _elsewhere(scene, env="staging")
    return status, asked


async def after_done(scene: Scene) -> Row:
    """A form sent after the call has run."""
    run = await scene.agent.ask()
    path, form = await scene.shown(run.approvals[0])
    await scene.approve(run)
    ran = await scene.agent.go_on(run)
    await scene.agent.governor.cancel(ran.id, by="local:ops")
    assert await scene.state(run.approvals[0]) is CallState.SUCCEEDED
    before = len(scene.agent.ran)
    status = await scene.send(path, form)
    assert len(scene.agent.ran) == before
    return status, []


async def after_expiry(scene: Scene) -> Row:
    """A form sent a second after the deadline, before anything else has looked at the run."""
    asked = (await scene.agent.ask()).approvals[0]
    path = await scene.path(asked)
    if scene.way == "link":  # a link may outlive what it asks about
        path = "/confirm/" + await scene.office.governor.desk.tokens.issue("decide", CFO, asked.id, within=9999.0)
    cookies = await scene.office.governor.desk.tokens.issue("session", CFO, "", within=9999.0)
    async with client(scene.office, cookies={"governor": cookies}) as web:
        form = form_in((await web.get(path)).text, "decide", decision="approve")
        scene.time.move(3601.0)
        status = (await web.post(path, data=form)).status_code
    assert await scene.state(asked) is CallState.EXPIRED
    return status, []


async def after_a_policy_that_denies(scene: Scene) -> Row:
    """A form sent after a new policy has cancelled what was approved."""
    run = await scene.agent.ask()
    path, form = await scene.shown(run.approvals[0])
    await scene.approve(run)
    scene.agent.say = DENY
    await scene.agent.go_on(run)
    assert await scene.state(run.approvals[0]) is CallState.CANCELLED
    return await scene.send(path, form), []


async def after_a_policy_that_demands_more(scene: Scene) -> Row:
    """The form of the old page, sent after a new policy asked again with one more stage."""
    run = await scene.agent.ask()
    path, form = await scene.shown(run.approvals[0])
    await scene.approve(run)
    scene.agent.say = MORE
    await scene.agent.go_on(run)
    assert await scene.state(run.approvals[0]) is CallState.PENDING
    return await scene.send(path, form), [run.approvals[0]]


Replay = Callable[[Scene], Awaitable[Row]]

REPLAYS: dict[Replay, tuple[int, str]] = {
    other_run: (403, "no_form_token"),
    other_generation: (409, "already_decided"),
    other_gate: (403, "no_form_token"),
    other_tenant: (404, ""),
    other_environment: (404, ""),
    after_done: (409, "already_decided"),
    after_expiry: (410, "deadline_passed"),
    after_a_policy_that_denies: (409, "already_decided"),
    after_a_policy_that_demands_more: (409, "stale_decision"),
}


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.__name__)
async def test_a_form_out_of_its_place_or_time_is_refused_and_noted(scene: Scene, replay: Replay) -> None:
    """Nine replays by two ways: each is refused with its reason, is one line in the stream, and moves nothing."""
    before = len(await scene.office.refused())
    status, waiting = await replay(scene)
    expected, reason = REPLAYS[replay]
    if replay is other_tenant and scene.way == "login":
        expected = 401  # the login itself is nobody's there
    assert status == expected
    if reason:  # the others are noted where they were sent
        lines = (await scene.office.refused())[before:]
        assert [line["what"] for line in lines] == [f"refused.{reason}"]
    for approval in waiting:
        assert await scene.state(approval) is CallState.PENDING


async def test_the_same_forms_in_their_place_and_time_count(scene: Scene) -> None:
    """Negative control: nothing but place and time kept them out."""
    for approval in (await scene.agent.ask()).approvals:
        path, form = await scene.shown(approval)
        assert await scene.send(path, form) == 200
        assert await scene.state(approval) is CallState.APPROVED
    assert await scene.office.refused() == []


async def test_a_link_that_was_used_does_not_come_free_again(scene: Scene) -> None:
    """Its answer sent again when more is demanded is stale, and leaves the link used: it decides nothing new."""
    if scene.way == "login":
        return
    run = await scene.agent.ask()
    (path, form), second = await scene.shown(run.approvals[0]), run.approvals[1]
    assert await scene.send(path, form) == 200
    await scene.agent.governor.decide(second.id, Decision.approve(), by=BOSS)
    scene.agent.say = MORE
    await scene.agent.go_on(run)
    assert await scene.state(run.approvals[0]) is CallState.PENDING
    assert await scene.send(path, form) == 409
    token = await scene.office.governor.desk.tokens.look(path.rpartition("/")[2], "decide")
    assert token.answer.startswith("approve:")
