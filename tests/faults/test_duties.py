"""[20] Separation of duties over generated organisations: whoever asked, the agent, services, strangers and one person for two
stages never make a decision, under no name and in nobody's place, nor people who left; by the pure functions, and on every store.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from governor_agents import Decision, Governor, PolicySet, ToolCall, Verdict
from governor_agents.core import attending, decisions, driving, people
from governor_agents.core.calls import Tool
from governor_agents.core.identity import Person, Voter
from governor_agents.core.records import Call, CallState, Change, Run, RunState, Snapshot
from governor_agents.errors import CallDenied, DecisionRefused
from governor_agents.identities import Identities
from tests.asking import Silent
from tests.faults.organisations import AGENT, Chart, Company, Try, generated
from tests.stores import STORES

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

CHARTS = {"memory": 40, "sqlite": 20, "redis": 10, "redis-cluster": 5, "mongodb": 5}
"""How many organisations on each store; a thousand on each in the nightly size. The pure functions take a thousand always."""
NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
PURE = 1000


class Desk(Protocol):
    """Where the people of an organisation try what they try: each raises `DecisionRefused` when it does not count."""

    async def ask(self, chart: Chart) -> bool:
        """Ask for a call; False when nobody could ever approve it."""

    async def attempt(self, chart: Chart, this: Try) -> None:
        """One try."""

    async def call(self, chart: Chart) -> Call:
        """The call as it stands."""


class PureDesk:
    """Nothing but the policies, the directory and the transition functions."""

    def __init__(self, company: Company, charts: list[Chart]) -> None:
        self.identities = Identities(company)
        self.policies = PolicySet([_policy(charts)], directory=company)
        self.runs: dict[int, Run] = {}

    async def ask(self, chart: Chart) -> bool:
        n = chart.n
        call = ToolCall.of(f"act{n}", {}, "c1", agent="functions", run=f"r{n}", requester=chart.requester, tenant="t")
        verdict = self.policies.evaluate(call, Tool(call.tool))
        if verdict.outcome == "deny":
            return False
        run = Run("t", f"r{n}", "functions", "x", chart.requester, RunState.QUEUED, 0.0)
        run = driving.start(run, 0.0, owner="w", lease=30.0).run
        asks = (driving.Ask(call, Tool(call.tool), verdict, "nonce"),)
        self.runs[n] = driving.pause(run, 1.0, owner="w", fence=1, snapshot=Snapshot("b", "x"), asks=asks).run
        return True

    async def attempt(self, chart: Chart, this: Try) -> None:
        n, (what, by, seat, to) = chart.n, this
        run, voter, now = self.runs[n], self.identities.voter(by, 2.0), 2.0
        given: dict[str, Any] = {"by": voter, "now": now, "requester": self.identities.names(chart.requester)}
        if what == "approve":
            change = decisions.decide(run, 1, Decision.approve(), digest=run.calls[0].digest, **given)
        else:
            coordinator = chart.company.coordinator(voter.id)
            change = attending.hand_over(
                run,
                1,
                to=self.identities.voter(to, now),
                seat=self.identities.canonical(seat),
                moved=what == "reassign",
                coordinator=coordinator,
                **given,
            )
        self.runs[n] = change.run

    async def call(self, chart: Chart) -> Call:
        return self.runs[chart.n].calls[0]


class StoredDesk:
    """A governor on a store."""

    def __init__(self, governor: Governor) -> None:
        self.governor = governor
        self.ids: dict[int, str] = {}

    async def ask(self, chart: Chart) -> bool:
        n = chart.n
        try:
            asked = await self.governor.govern(name=f"act{n}", requester=chart.requester)(_never).ask()
        except CallDenied as error:
            assert "nobody could approve it" in str(error)
            return False
        self.ids[n] = asked.approval
        return True

    async def attempt(self, chart: Chart, this: Try) -> None:
        id, (what, by, seat, to) = self.ids[chart.n], this
        if what == "approve":
            await self.governor.decide(id, Decision.approve("fine"), by=by)
        elif what == "delegate":
            await self.governor.delegate(id, to=to, by=by, seat=seat)
        else:
            await self.governor.reassign(id, seat=seat, to=to, by=by)

    async def call(self, chart: Chart) -> Call:
        return (await self.governor.approval(self.ids[chart.n])).call


def _policy(charts: list[Chart]) -> Any:
    def say(call: ToolCall) -> Verdict:
        return charts[int(call.tool.removeprefix("act"))].verdict

    return say


def _never() -> None:
    raise AssertionError("no worker runs here")


def company_of(count: int) -> tuple[Company, list[Chart]]:
    """So many organisations, always the same."""
    dice, company = random.Random(20), Company()
    return company, [generated(dice, company, n) for n in range(count)]


@asynccontextmanager
async def office(url: str, company: Company, charts: list[Chart]) -> AsyncIterator[StoredDesk]:
    """A governor for all of them."""
    policies = PolicySet([_policy(charts)])
    async with Governor(policies, store=url, handlers={"silent": Silent()}, people=company) as governor:
        yield StoredDesk(governor)


async def violations(desk: Desk, charts: list[Chart]) -> list[str]:
    """Everybody tries everything; what differs from what must count, and what a record shows that must not be."""
    found: list[str] = []
    for n, chart in enumerate(charts):
        if await desk.ask(chart) is not chart.possible:
            found.append(f"{n}: asked although nobody could approve, or not asked although somebody could")
        elif chart.possible:
            for this in chart.tries:
                found += [f"{n}: {trouble}" for trouble in await tried(desk, chart, this)]
            found += [f"{n}: {trouble}" for trouble in wrong(chart, await desk.call(chart))]
    return found


async def tried(desk: Desk, chart: Chart, this: Try) -> list[str]:
    """One try, and what is wrong with the answer."""
    what, by, seat, to = this
    if chart.done:
        return []
    if what == "leave":
        if by in chart.company.staff:
            chart.company.remove(chart.company.staff[by])
        return []
    who, before = chart.who(by), await desk.call(chart)
    must = bool(chart.free(who)) if what == "approve" else chart.may_hand(what, who, chart.who(seat), chart.who(to))
    try:
        await desk.attempt(chart, this)
    except DecisionRefused as error:
        return [f"{this} was refused: {error}"] if must else []
    after = await desk.call(chart)
    if what == "approve":
        return counted(chart, this, who, before, after)
    return handed(chart, this, before, after, must)


def counted(chart: Chart, this: Try, who: str, before: Call, after: Call) -> list[str]:
    """What is wrong with an approval that was taken; one that repeats an earlier one changes nothing."""
    fresh = after.votes[len(before.votes) :]
    if not fresh:
        again = any(by == who and at == chart.at for by, at, _ in chart.votes)
        return [] if again else [f"{this} was taken and not counted"]
    seat = fresh[0].seat or fresh[0].by
    trouble = [] if fresh[0].by == who and seat in chart.free(who) else [f"{this} was counted for {seat}"]
    chart.count(who, seat)
    return trouble


def handed(chart: Chart, this: Try, before: Call, after: Call, must: bool) -> list[str]:
    """What is wrong with a hand-over that was taken; one that repeats what stands changes nothing."""
    what, _, seat, to = this
    if after.handed != before.handed:
        chart.hands.append((chart.who(seat), chart.who(to), what == "reassign"))
    return [] if must else [f"{this} was taken"]


def wrong(chart: Chart, call: Call) -> list[str]:
    """What the record shows that must not be."""
    voters = [vote.by for vote in call.votes]
    said = []
    if (call.state is CallState.APPROVED) != chart.done:
        said.append(f"it is {call.state} after {chart.at} of {len(chart.stages)} stages")
    if len(set(voters)) != len(voters) or chart.barred() & set(voters) or AGENT in voters:
        said.append(f"it was decided by {voters}, asked for by {chart.requester}")
    return said


def url_of(name: str, folder: Path) -> str:
    return "memory://" if name == "memory" else STORES[name](folder)


async def test_no_organisation_lets_the_wrong_people_decide() -> None:
    """A thousand organisations by the pure functions: 0 violations, and of all that may happen something did."""
    company, charts = company_of(PURE)
    assert await violations(PureDesk(company, charts), charts) == []
    asked = [chart for chart in charts if chart.possible]
    votes = [(chart, vote) for chart in asked for vote in chart.votes]
    assert 0 < sum(chart.done for chart in asked) < len(asked) < len(charts), "some can be met, some cannot"
    assert sum(by != seat for _, (by, _, seat) in votes) > 100, "people spoke in the place of others"
    assert sum(moved for chart in asked for _, _, moved in chart.hands) > 50, "and seats were moved"


@pytest.mark.parametrize("name", ["memory", *STORES])
async def test_no_store_lets_the_wrong_people_decide(name: str, tmp_path: Path) -> None:
    """The same through a governor, whose directory is asked at each try."""
    company, charts = company_of(PURE if NIGHTLY else CHARTS[name])
    async with office(url_of(name, tmp_path), company, charts) as desk:
        assert await violations(desk, charts) == []
    assert any(chart.done for chart in charts)


def _without(fault: str) -> tuple[str, Any]:
    """A function of `people`, and the same without one of its rules."""
    sound, standing, barred = people.authorise, people.standing, people.barred

    def authorise(call: Call, voter: Voter, **more: Any) -> str:
        return sound(replace(call, votes=()), voter, **more)

    def anybody(call: Call, name: str, voter: Voter) -> Any:
        return "substitute" if voter.stands_for else standing(call, name, voter)

    def by_address(call: Call, requester: Any = ()) -> frozenset[str]:
        return barred(replace(call, excluded=call.excluded[:1]), ())

    def services(call: Call, voter: Voter, **more: Any) -> None:
        return None

    return {
        "stages need others": ("authorise", authorise),
        "a substitute of whom": ("standing", anybody),
        "every name of who asked": ("barred", by_address),
        "who has a word": ("may_speak", services),
    }[fault]


@pytest.mark.parametrize(
    "fault", ["stages need others", "a substitute of whom", "every name of who asked", "who has a word"]
)
async def test_a_build_without_the_rule_is_found_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls: one rule of who may decide is taken out."""
    name, broken = _without(fault)
    monkeypatch.setattr(people, name, broken)
    company, charts = company_of(150)
    assert await violations(PureDesk(company, charts), charts)


async def test_a_directory_that_is_remembered_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of those who leave: who was there once still is."""
    sound, known = Company.person, dict[str, Person]()

    def remembered(self: Company, address: str) -> Person | None:
        person = sound(self, address)
        return known.get(address) if person is None else known.setdefault(address, person)

    monkeypatch.setattr(Company, "person", remembered)
    company, charts = company_of(60)
    assert await violations(PureDesk(company, charts), charts)


async def test_a_hand_over_to_anybody_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of hand-overs: the policy's list is not asked."""
    sound = attending.hand_over

    def to_anybody(run: Run, n: int, *, to: Voter, **more: Any) -> Change:
        call = run.calls[0]
        return sound(run.with_call(replace(call, delegates=(*call.delegates, to.id))), n, to=to, **more)

    monkeypatch.setattr(attending, "hand_over", to_anybody)
    company, charts = company_of(60)
    assert await violations(PureDesk(company, charts), charts)
