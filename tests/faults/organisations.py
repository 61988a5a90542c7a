"""Generated organisations for [20], and what must count in each, said in a few lines that know nothing of the package.

One big company: every organisation has people, groups and roles of its own in one directory. People have several addresses;
some are services, some away with a substitute; whoever asked is named by some address. Stages name people, addresses, groups
and roles. Then everybody tries everything, in any order, under any address; now and then somebody leaves.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from governor_agents.core.identity import Person
from governor_agents.core.verdicts import Stage, Verdict

AGENT = "service:functions"


@dataclass
class Company:
    """A directory of all organisations. ``away`` maps who is away to the substitute."""

    staff: dict[str, Person] = field(default_factory=dict)
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    coordinators: set[str] = field(default_factory=set)

    def person(self, address: str) -> Person | None:
        return self.staff.get(address)

    def members(self, name: str) -> tuple[str, ...] | None:
        return self.named.get(name)

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        return tuple(sorted(who for who, other in self.away.items() if other == id))

    def coordinator(self, id: str) -> bool:
        return id in self.coordinators

    def add(self, person: Person) -> None:
        """Somebody, under every address."""
        self.staff.update(dict.fromkeys(person.names, person))

    def remove(self, person: Person) -> None:
        """Somebody who leaves."""
        for name in person.names:
            del self.staff[name]
        self.away.pop(person.id, None)


Try = tuple[str, str, str, str]
"""What is tried (``approve``, ``delegate``, ``reassign``), by which address, for whose seat, and to whom; or who leaves."""


@dataclass(eq=False)
class Chart:
    """One organisation: who asked, who may decide in which order, and what has happened so far."""

    n: int
    company: Company
    people: list[Person]
    requester: str
    asker: str
    verdict: Verdict
    stages: list[list[str]]
    tries: list[Try]
    votes: list[tuple[str, int, str]] = field(default_factory=list)
    hands: list[tuple[str, str, bool]] = field(default_factory=list)
    at: int = 0

    @property
    def done(self) -> bool:
        """True when every stage has what it needs."""
        return self.at == len(self.stages)

    @property
    def possible(self) -> bool:
        """True when the policy asks somebody at all: each stage names enough people."""
        wanted = zip(self.stages, self.verdict.stages, strict=True)
        return all(len(named) >= stage.quorum for named, stage in wanted)

    def who(self, address: str) -> str:
        """The person with this address."""
        person = self.company.staff.get(address)
        return address if person is None else person.id

    def barred(self) -> set[str]:
        """Who decides nothing here, by id: services, and whoever asked unless the policy lets them."""
        services = {person.id for person in self.people if person.service}
        return services | ({self.asker} if self.verdict.exclude_requester else set())

    def stranger(self, who: str) -> bool:
        """True for whoever is not, or not any more, in the directory."""
        return who not in self.company.staff

    def holder(self, seat: str) -> str:
        """Whose a seat is by now."""
        return ([to for name, to, moved in self.hands if name == seat and moved] or [seat])[-1]

    def shared(self, seat: str) -> set[str]:
        """With whom its holder shares it."""
        found: set[str] = set()
        for name, to, moved in self.hands:
            if name == seat:
                found = set() if moved else found | {to}
        return found

    def may_fill(self, who: str, seat: str) -> bool:
        """True when this person may speak for a seat."""
        holder = self.holder(seat)
        if self.barred() & {who, seat, holder}:
            return False
        return who in (holder, self.company.away.get(holder)) or who in self.shared(seat)

    def free(self, who: str) -> set[str]:
        """The seats that an approval of this person may fill now."""
        if self.done or self.stranger(who) or any(by == who for by, _, _ in self.votes):
            return set()
        taken = {seat for _, at, seat in self.votes if at == self.at}
        return {seat for seat in self.stages[self.at] if self.may_fill(who, seat) and seat not in taken}

    def count(self, who: str, seat: str) -> None:
        """An approval was counted."""
        self.votes.append((who, self.at, seat))
        if sum(at == self.at for _, at, _ in self.votes) >= self.verdict.stages[self.at].quorum:
            self.at += 1

    def may_hand(self, how: str, by: str, seat: str, to: str) -> bool:
        """True when this person may hand that seat to that person."""
        left = {name for named in self.stages[self.at :] for name in named}
        mine = self.holder(seat) == by or (how == "reassign" and by in self.company.coordinators)
        if self.done or seat not in left or not mine or self.barred() & {by, seat, self.holder(seat), to}:
            return False
        if self.stranger(by) or self.stranger(to):
            return False
        if to not in (*map(self.who, self.verdict.delegates), seat) or (to == by and to != seat):
            return False
        asked = {self.holder(name) for name in self.stages[self.at] if name != seat}
        if to in asked or to in {who for who, _, _ in self.votes}:
            return False
        return seat not in {filled for _, _, filled in self.votes}


def generated(dice: random.Random, company: Company, n: int) -> Chart:
    """An organisation small enough that the same people are wanted in several places."""
    people = [_person(dice, f"o{n}p{at}") for at in range(dice.randint(4, 7))]
    for person in people:
        company.add(person)
    humans = [person.id for person in people if not person.service]
    for id in humans:
        others = [other for other in humans if other != id]
        if others and dice.random() < 0.3:
            company.away[id] = dice.choice(others)
    company.coordinators.update(id for id in humans if dice.random() < 0.15)
    for name in (f"group:o{n}g0", f"group:o{n}g1", f"role:o{n}r0"):
        members = dice.sample(people, dice.randint(1, len(people)))
        company.named[name] = tuple(person.id for person in members if not person.service)
    names = [name for person in people for name in person.names]
    names += [f"group:o{n}g0", f"group:o{n}g1", f"role:o{n}r0"] * 2
    stages = tuple(
        Stage(tuple(dict.fromkeys(dice.sample(names, dice.randint(1, 3)))), quorum=dice.randint(1, 2))
        for _ in range(dice.randint(1, 3))
    )
    verdict = Verdict(
        "require_approval",
        stages=stages,
        reason="a chart",
        channels=("silent",),
        delegates=tuple(dice.choice(person.names) for person in dice.sample(people, dice.randint(0, 3))),
        exclude_requester=dice.random() < 0.8,
    )
    asker = dice.choice(people)
    chart = Chart(n, company, people, dice.choice(asker.names), asker.id, verdict, [], [])
    chart.stages = [_meant(company, stage) for stage in stages]
    chart.tries = [_try(dice, people, verdict.delegates) for _ in range(30)] + _all_approve(dice, people)
    return chart


def _person(dice: random.Random, id: str) -> Person:
    slack = (f"slack:T0{team}/U0{id.upper()}" for team in "AB")
    addresses = (f"{id}@example.com", *slack, f"oidc:{id}")[: dice.randint(1, 4)]
    return Person(id, f"Alex {id[-1]}", addresses, service=dice.random() < 0.12)


def _meant(company: Company, stage: Stage) -> list[str]:
    """The ids of the people whom a stage names; services are nobody."""
    found: set[str] = set()
    for name in stage.names:
        members = company.named.get(name, (name,))
        found |= {company.staff[member].id for member in members if not company.staff[member].service}
    return sorted(found)


def _try(dice: random.Random, people: list[Person], delegates: tuple[str, ...]) -> Try:
    by, seat, to = (dice.choice(dice.choice(people).names) for _ in range(3))
    if dice.random() < 0.02:
        return "leave", dice.choice(people).id, "", ""
    what = dice.choice(["approve", "delegate", "reassign"])
    if dice.random() < 0.6:
        seat = by
    if delegates and dice.random() < 0.6:
        to = dice.choice(delegates)
    return what, dice.choice([by, by, by, "eve@example.com", AGENT]), seat, to


def _all_approve(dice: random.Random, people: list[Person]) -> list[Try]:
    """Everybody once more, under some address."""
    tries = [("approve", dice.choice(person.names), "", "") for person in people] * 3
    dice.shuffle(tries)
    return tries
