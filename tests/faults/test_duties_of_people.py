"""[20] Separation of duties where people have many names: generated directories, whoever asked and whoever votes under any
of their addresses, substitutes, services, people who leave in the middle. What must hold is said again here, of humans.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from governor_agents import Decision, Governor, ToolCall, Verdict
from governor_agents.core.identity import Away, Person, Voter
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage
from governor_agents.directory import People
from governor_agents.errors import CallDenied, DecisionRefused
from governor_agents.identities import Identities
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

CHARTS = 1000 if os.environ.get("GOVERNOR_NIGHTLY") else 120
"""How many organisations."""

NOW = 1_800_000_000.0


@dataclass
class Office:
    """A directory that changes, as a list of persons; the directory that the governor is given looks into it."""

    persons: list[Person]

    def now(self) -> People:
        return People(self.persons)

    def person(self, address: str) -> Person | None:
        return self.now().person(address)

    def members(self, name: str) -> tuple[str, ...] | None:
        return self.now().members(name)

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        return self.now().stands_for(id, now)

    def coordinator(self, id: str) -> bool:
        return False


@dataclass
class Chart:
    """An organisation, what is asked of it, and who tries under which name."""

    dice: random.Random
    office: Office
    requester: str
    stages: list[tuple[list[str], int]]
    accepted: list[tuple[str, int, frozenset[str]]] = field(default_factory=list)

    @classmethod
    def generated(cls, seed: int) -> Chart:
        dice = random.Random(seed)
        ids = [f"h{n}" for n in range(dice.randint(4, 7))]
        persons = [_person(dice, id, ids) for id in ids]
        office = Office(persons)
        names = [name for person in persons for name in person.names]
        stages = [
            (dice.sample(names, dice.randint(1, min(5, len(names)))), dice.randint(1, 2))
            for _ in range(dice.randint(1, 3))
        ]
        return cls(dice, office, dice.choice(names), stages)

    def human(self, name: str) -> str:
        """Whose name it is now, by a look at every person; empty for nobody."""
        return next((person.id for person in self.office.persons if name in (person.id, *person.addresses)), "")

    def tries(self) -> Iterator[str]:
        """Names in any order, several times; now and then somebody leaves."""
        names = [name for person in self.office.persons for name in (person.id, *person.addresses)] * 2
        self.dice.shuffle(names)
        for at, name in enumerate((*names, "eve@example.com", "h99", "")):
            if at and at % 9 == 0 and len(self.office.persons) > 3:
                self.office.persons.pop(self.dice.randrange(len(self.office.persons)))
            yield name


def _person(dice: random.Random, id: str, ids: list[str]) -> Person:
    kinds = (f"{id}@example.com", f"slack:T01/U{id[1:]}", f"slack:T02/U{id[1:]}", f"oidc:{id}")
    away = ()
    if dice.random() < 0.35:
        since = NOW + dice.choice([-7200.0, -3600.0, 3600.0])
        away = (Away(since, since + 5400.0, dice.choice([other for other in ids if other != id])),)
    service = dice.random() < 0.12
    return Person(id, addresses=tuple(dice.sample(kinds, dice.randint(0, 4))), service=service, away=away)


def substitutes_for(chart: Chart, human: str) -> set[str]:
    """For whom this human stands now."""
    return {
        person.id
        for person in chart.office.persons
        for away in person.away
        if away.substitute == human and away.since <= NOW < away.until
    }


async def violations(seed: int) -> list[str]:
    """Everybody tries; what a human must not have been able to do, or must have been."""
    chart = Chart.generated(seed)

    def say(call: ToolCall) -> Verdict:
        stages = tuple(Stage(tuple(names), quorum=quorum) for names, quorum in chart.stages)
        return Verdict("require_approval", stages=stages, reason="a chart")

    async with Governor([say], store=MemoryStore(clock=MovableClock(NOW)), people=chart.office) as governor:
        asker = chart.human(chart.requester)
        services = {person.id for person in chart.office.persons if person.service}
        members = [{chart.human(name) for name in names} - services for names, _ in chart.stages]
        try:
            id = (await governor.govern(name="act", requester=chart.requester)(_never).ask()).approval
        except CallDenied:
            short = any(len(people) < quorum for people, (_, quorum) in zip(members, chart.stages, strict=True))
            return [] if short else [f"{seed}: denied, though enough people are named"]
        found = []
        for name in chart.tries():
            stage = (await governor.approval(id)).call.stage
            human = chart.human(name)
            may = members[stage] & ({human} | substitutes_for(chart, human)) - {asker}
            plain = human in may and human != asker and human not in {who for who, _, _ in chart.accepted}
            taken = any(human in seats and at == stage and who != human for who, at, seats in chart.accepted)
            try:
                await governor.decide(id, Decision.approve("fine"), by=name)
            except DecisionRefused as error:
                if plain and not taken:
                    found.append(f"{seed}: {name} ({human}) was refused: {error}")
                continue
            if not human or human in services or human == asker or not may:
                found.append(f"{seed}: {name} ({human or 'nobody'}) was counted")
            chart.accepted.append((human, stage, frozenset(may)))
            if (await governor.approval(id)).call.state is CallState.APPROVED:
                break
        done = (await governor.approval(id)).call.state is CallState.APPROVED
        return found + ([f"{seed}: approved by too few: {chart.accepted}"] if done and not enough(chart) else [])


def enough(chart: Chart) -> bool:
    """Whether distinct humans on distinct seats fill every place of every stage, by trying all ways."""
    voters = {(who, at): seats for who, at, seats in chart.accepted}
    if len({who for who, _ in voters}) < len(voters):
        return False  # one human in two stages
    for at, (_, quorum) in enumerate(chart.stages):
        here = [seats for (_, stage), seats in voters.items() if stage == at]
        ways = itertools.product(*map(sorted, here))
        if not any(len(set(way)) >= quorum for way in ways):
            return False
    return True


def _never() -> None:
    raise AssertionError("no worker runs here")


async def test_no_human_decides_what_they_must_not() -> None:
    """Whoever asked, services, strangers, people who left, and one human under two names never make a decision."""
    found = [line for seed in range(CHARTS) for line in await violations(seed)]
    assert not found, found[:5]


_voter = Identities.voter


def one_name(self: Identities, address: str, now: float) -> Voter:
    """A fault: each address is somebody of its own."""
    found = _voter(self, address, now)
    return Voter(address, (address, found.id), found.stands_for, found.service)


def any_time(self: Identities, address: str, now: float) -> Voter:
    """A fault: absences never end."""
    found = _voter(self, address, now)
    later = _voter(self, address, NOW + 3600.0 + 1800.0)
    return Voter(found.id, found.names, (*found.stands_for, *later.stands_for), found.service)


def service_too(self: Identities, address: str, now: float) -> Voter:
    """A fault: what stands for a person may be a service."""
    found = _voter(self, address, now)
    return Voter(found.id, found.names, found.stands_for, False)


@pytest.mark.parametrize("fault", [one_name, any_time, service_too])
async def test_the_charts_notice_a_fault(fault: Callable[..., Voter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seeded fault is found within as many organisations."""
    monkeypatch.setattr(Identities, "voter", fault)
    for seed in range(CHARTS):
        if await violations(seed):
            return
    pytest.fail("the fault was not found")
