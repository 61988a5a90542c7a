"""[20] Separation of duties over generated organisations: whoever asked, the agent, strangers and one person for two stages
never make a decision, on any store. What must count is said again here, in a few lines that know nothing of the package.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet, ToolCall, Verdict
from governor_agents.core import decisions, people
from governor_agents.core.identity import Voter
from governor_agents.core.records import Call, CallState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import CallDenied, DecisionRefused
from tests.faults.app import Silent
from tests.stores import STORES

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

CHARTS = {"memory": 1000, "sqlite": 30, "redis": 20, "redis-cluster": 10, "mongodb": 10}
"""How many organisations on each store; a thousand on each in the nightly size."""
NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))

AGENT = "service:functions"
STAFF = (*(f"p{n}@example.com" for n in range(6)), AGENT)


@dataclass
class Chart:
    """Who asked, who may decide in which order, and who tries to, in which order."""

    requester: str
    stages: tuple[Stage, ...]
    tries: list[str]
    voted: dict[str, int] = field(default_factory=dict)
    at: int = 0

    @classmethod
    def generated(cls, dice: random.Random) -> Chart:
        """Small enough that the same people are wanted in several places."""
        stages = []
        for n in range(dice.randint(1, 3)):
            members = tuple(dice.sample(STAFF, dice.randint(1, 4)))
            stages.append(Stage((f"stage{n}",), members, quorum=dice.randint(1, 2)))
        tries = [*STAFF, "eve@example.com"] * 3
        dice.shuffle(tries)
        return cls(dice.choice(STAFF[:-1]), tuple(stages), tries)

    def counts(self, by: str) -> bool:
        """True when this person's approval must be taken now."""
        if self.at == len(self.stages):
            return False
        may = by in self.stages[self.at].people and by not in (self.requester, AGENT)
        return may and self.voted.get(by, self.at) == self.at

    def count(self, by: str) -> None:
        """Take it."""
        self.voted[by] = self.at
        if list(self.voted.values()).count(self.at) >= self.stages[self.at].quorum:
            self.at += 1


@asynccontextmanager
async def office(url: str, charts: list[Chart]) -> AsyncIterator[tuple[Governor, list[str | None]]]:
    """A governor, and the approvals of all charts, each asked for by its requester; none where nobody could give it."""

    def say(call: ToolCall) -> Verdict:
        stages = charts[int(call.tool.removeprefix("act"))].stages
        return Verdict("require_approval", stages=stages, reason="a chart", channels=("silent",))

    async with Governor(PolicySet([say]), store=url, handlers={"silent": Silent()}) as governor:
        asked: list[str | None] = []
        for n, chart in enumerate(charts):
            act = governor.govern(name=f"act{n}", requester=chart.requester)(_never)
            try:
                asked.append((await act.ask()).approval)
            except CallDenied as error:
                assert "nobody could approve it" in str(error)
                asked.append(None)
        yield governor, asked


def _never() -> None:
    raise AssertionError("no worker runs here")


async def violations(url: str, charts: list[Chart]) -> list[str]:
    """Everybody tries, several times; what differs from what must count, and what a record shows that must not be."""
    found: list[str] = []
    async with office(url, charts) as (governor, asked):
        for chart, approval in zip(charts, asked, strict=True):
            if approval is not None:
                for by in chart.tries:
                    found += await tried(governor, chart, approval, by)
                found += wrong(chart, (await governor.approval(approval)).call)
    return found


async def tried(governor: Governor, chart: Chart, approval: str, by: str) -> list[str]:
    """One person's approval, and what is wrong with the answer."""
    if chart.at == len(chart.stages):
        return []
    must = chart.counts(by)
    try:
        await governor.decide(approval, Decision.approve("fine"), by=by)
    except DecisionRefused as error:
        return [f"{approval}: {by} was refused: {error}"] if must else []
    if must and by not in chart.voted:
        chart.count(by)
    return [] if must else [f"{approval}: {by} was counted"]


def wrong(chart: Chart, call: Call) -> list[str]:
    """What the record shows that must not be."""
    voters = [(vote.by, vote.stage) for vote in call.votes]
    whole = chart.at == len(chart.stages)
    said = []
    if (call.state is CallState.APPROVED) != whole:
        said.append(f"{call.n} is {call.state} after {chart.at} of {len(chart.stages)} stages")
    if len({by for by, _ in voters}) != len(voters) or {chart.requester, AGENT} & {by for by, _ in voters}:
        said.append(f"{call.n} was decided by {voters}, asked for by {chart.requester}")
    return said


def url_of(name: str, folder: Path) -> str:
    return "memory://" if name == "memory" else STORES[name](folder)


@pytest.mark.parametrize("name", ["memory", *STORES])
async def test_no_organisation_lets_the_wrong_people_decide(name: str, tmp_path: Path) -> None:
    """Requester, agent, strangers, and the same person for two stages are refused; everybody else counts, once."""
    dice = random.Random(20)
    charts = [Chart.generated(dice) for _ in range(1000 if NIGHTLY else CHARTS[name])]
    assert await violations(url_of(name, tmp_path), charts) == []
    done = sum(chart.at == len(chart.stages) for chart in charts)
    assert 0 < done < len(charts), "some can be met, some cannot"


@pytest.mark.parametrize("fault", ["requester", "stages"])
async def test_a_build_without_the_rule_is_found_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls: whoever asked may decide; one person may stand for two stages."""
    sound = people.authorise

    def broken(call: Call, by: Voter, **more: Any) -> str:
        return sound(replace(call, excluded=()) if fault == "requester" else replace(call, votes=()), by, **more)

    monkeypatch.setattr(decisions.people, "authorise", broken)
    dice = random.Random(20)
    assert await violations("memory://", [Chart.generated(dice) for _ in range(60)])
