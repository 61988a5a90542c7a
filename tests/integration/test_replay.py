"""A decision counts for one call, in one run, generation, tenant and environment, once; whatever else it is given for
is refused, changes nothing, starts nothing, and is noted in the stream of refused requests."""

from dataclasses import replace
from typing import Any

import pytest

from governor_agents import Decision, Run, Worker
from governor_agents.core.records import Approval, CallState
from governor_agents.errors import AlreadyDecided, DeadlinePassed, NotFound, StaleDecision
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock
from tests import asking
from tests.integration.desk import AGENTS, ASK, BOSS, CHIEF, DENY, FRAMEWORKS, Desk, desk
from tests.integration.test_what_was_approved import TWO

pytestmark = pytest.mark.anyio

KINDS = [Decision.approve(), Decision.reject("no"), Decision.respond("42"), Decision.edit({"path": "x", "amount": 1})]


async def refused(
    here: Desk, error: type[Exception], id: str, *, digest: str | None, decision: Decision | None = None
) -> None:
    """The boss's decision under this digest is refused with this error: record and trail stay as they are."""
    before = await _stored(here, id)
    with pytest.raises(error):
        await here.governor.decide(id, decision or Decision.approve(), by=BOSS, digest=digest, channel="test")
    assert await _stored(here, id) == before
    noted = await asking.refused(here.governor)
    code = error.code  # type: ignore[attr-defined]
    assert {"what": f"refused.{code}", "id": id, "by": BOSS, "channel": "test"}.items() <= noted[-1].items()


async def _stored(here: Desk, id: str) -> Any:
    return await here.governor.loop.bridge(here.governor.store.load("run", here.governor.tenant, id.rpartition(".")[0]))


async def nothing_runs(here: Desk, times: int = 0) -> None:
    """A worker does all that is due, and the tool has run this often."""
    await Worker(here.governor).run(once=True)
    assert len(here.ran) == times


def first(run: Run) -> Approval:
    return run.approvals[0]


@pytest.mark.parametrize("decision", KINDS, ids=[kind.kind for kind in KINDS])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_of_another_run(url: str, framework: str, decision: Decision) -> None:
    """Two runs ask for exactly the same; what was said of one does not count for the other."""
    async with desk(framework, url) as here:
        one, other = await here.ask(), await here.ask()
        assert first(one).call.args == first(other).call.args
        await refused(here, StaleDecision, first(other).id, digest=first(one).call.digest, decision=decision)
        await nothing_runs(here)


@pytest.mark.parametrize("framework", AGENTS)
async def test_of_another_call_of_the_same_run(url: str, framework: str) -> None:
    """Two tools in one pause: each digest opens its own call only (the control: it does)."""
    async with desk(framework, url, tools=("deploy", "deploy2")) as here:
        run = await here.ask()
        one, two = run.approvals
        await refused(here, StaleDecision, two.id, digest=one.call.digest)
        await here.governor.decide(one.id, Decision.approve(), by=BOSS, digest=one.call.digest)
        await here.governor.decide(two.id, Decision.approve(), by=BOSS, digest=two.call.digest)
        await nothing_runs(here, 2)


@pytest.mark.parametrize("framework", AGENTS)
async def test_of_another_generation(url: str, framework: str) -> None:
    """The next pause asks for the same again: yesterday's digest does not open it, nor is yesterday's call open."""
    async with desk(framework, url, turns=2) as here:
        run = await here.ask()
        old = first(run)
        run = await here.go_on(await here.approve(run))
        assert run.status == "waiting" and len(here.ran) == 1
        assert first(run).call.args == old.call.args
        await refused(here, StaleDecision, first(run).id, digest=old.call.digest)
        await refused(here, AlreadyDecided, old.id, digest=old.call.digest, decision=Decision.reject("no"))
        await refused(here, AlreadyDecided, old.id, digest=first(run).call.digest, decision=Decision.reject("no"))
        await nothing_runs(here, 1)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_of_another_tenant(url: str, framework: str) -> None:
    """Under another tenant the approval is not there at all; the same answer as for an id that never was."""
    async with desk(framework, url) as here, desk(framework, url, tenant="other") as other:
        mine, theirs = await here.ask(), await other.ask()
        await refused(other, NotFound, first(mine).id, digest=first(mine).call.digest)
        await refused(other, StaleDecision, first(theirs).id, digest=first(mine).call.digest)
        await nothing_runs(other)
        await nothing_runs(here)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_of_another_environment(url: str, framework: str) -> None:
    """What was approved in staging is not approved in production, and production leaves staging's run alone."""
    async with desk(framework, url, env="staging") as here, desk(framework, url, env="prod") as prod:
        staged, real = await here.ask(), await prod.ask()
        await refused(prod, StaleDecision, first(real).id, digest=first(staged).call.digest)
        await here.approve(staged)
        await nothing_runs(prod)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_after_it_is_done(url: str, framework: str) -> None:
    """It ran: nothing that is said of it again runs it again. The very same decision is answered as before."""
    async with desk(framework, url) as here:
        run = await here.ask()
        seen = first(run)
        await here.go_on(await here.approve(run))
        for decision in KINDS[1:]:
            await refused(here, AlreadyDecided, seen.id, digest=seen.call.digest, decision=decision)
        before = await _stored(here, seen.id)
        await here.governor.decide(seen.id, Decision.approve(), by=BOSS, digest=seen.call.digest)
        assert await _stored(here, seen.id) == before
        await nothing_runs(here, 1)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_after_its_deadline(framework: str) -> None:
    """Too late by a second; the call never runs."""
    clock = MovableClock()
    async with desk(framework, MemoryStore(clock=clock)) as here:
        run = await here.ask()
        seen = first(run)
        clock.move(3601.0)
        await Worker(here.governor).run(once=True)
        await refused(here, DeadlinePassed, seen.id, digest=seen.call.digest)
        await nothing_runs(here)
        assert (await here.calls(run))["deploy"].state is CallState.EXPIRED


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_after_the_policy_came_to_deny(url: str, framework: str) -> None:
    """Approved, then denied by a new policy: cancelled in the trail, and no word opens it again."""
    async with desk(framework, url) as here:
        run = await here.ask()
        seen = first(run)
        await here.approve(run)
        here.say = DENY
        await nothing_runs(here)
        trail = await here.governor.timeline(run.id)
        assert [line["code"] for line in trail if line["what"] == "call.cancelled"] == ["policy_denies"]
        await refused(here, AlreadyDecided, seen.id, digest=seen.call.digest)
        here.say = ASK
        await nothing_runs(here)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_after_the_policy_came_to_demand_more(url: str, framework: str) -> None:
    """The old digest opens nothing any more; with the new one, and both people, it runs once."""
    async with desk(framework, url) as here:
        run = await here.ask()
        seen = first(run)
        await here.approve(run)
        here.say = TWO
        await nothing_runs(here)
        again = first(await here.governor.get(run.id))
        trail = await here.governor.timeline(run.id)
        assert "call.asked_again" in [line["what"] for line in trail] and again.call.digest != seen.call.digest
        await refused(here, StaleDecision, seen.id, digest=seen.call.digest)
        await here.governor.decide(again.id, Decision.approve(), by=CHIEF, digest=again.call.digest)
        await nothing_runs(here, 1)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_after_an_edit(url: str, framework: str) -> None:
    """Two must agree; one edits: the other's approval of the bytes before the edit does not count for those after."""
    people = replace(ASK, stages=(replace(ASK.stages[0], people=(BOSS, CHIEF), quorum=2),))
    async with desk(framework, url, say=people) as here:
        run = await here.ask()
        seen = first(run)
        await here.governor.decide(seen.id, Decision.edit({"path": "x", "amount": 99}), by=CHIEF)
        await refused(here, StaleDecision, seen.id, digest=seen.call.digest)
        await nothing_runs(here)
