"""What is allowed in a people file and is hardly meant: names that come to nobody, and people whom nothing reaches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

from governor_agents.core.identity import EMAIL, SLACK, Person, kind_of
from governor_agents.core.verdicts import Verdict
from governor_agents.directory.people import People
from governor_agents.policies import PolicySet
from governor_agents.policies.values import GROUP, ROLE, near

MANY_STAGES = 8
"""More stages than this are not compared with each other."""

_ADDRESSED = {SLACK: "Slack", EMAIL: "e-mail"}
"""The channels that meet people at an address of theirs, and how that is called."""


def findings(people: People, policies: Sequence[str] = (), channels: Collection[str] = ()) -> Iterable[str]:
    """One line each. ``policies`` are paths of policy files, ``channels`` the names of those that are installed.

    Raises `PolicyFileError` for a wrong policy file.
    """
    for person in people.persons.values():
        yield from _about(person, people)
    for group, members in people.groups.items():
        if not members:
            yield f"group {group} is nobody"
    for path in policies:
        found = _of_policy(PolicySet.from_file(path, directory=people), people, channels)
        yield from dict.fromkeys(f"{path}: {line}" for line in found)


def _about(person: Person, people: People) -> Iterable[str]:
    if not person.addresses:
        yield f"{person.id} has no address: no channel can tell who that is"
    if person.service and person.away:
        yield f"{person.id} is a service and never decides, so it needs no substitute"
    for away in person.away:
        there = people.persons[away.substitute]
        if any(other.since < away.until and away.since < other.until for other in there.away):
            yield f"{away.substitute} is away too in a time in which they stand for {person.id}"


def _of_policy(policies: PolicySet, people: People, channels: Collection[str]) -> Iterable[str]:
    """Approvers who come to nobody, are met nowhere, or are too few; each where it is said first."""
    told = set[tuple[str, ...]]()
    for rule, verdict in policies.demands():
        for about, line in (
            *_nobody(verdict, policies, people),
            *_unreached(verdict, policies, people),
            *_misnamed(verdict, channels),
            *_too_few(verdict, policies),
        ):
            if about not in told:
                told.add(about)
                yield f"{rule} {line}"


_Told = Iterable[tuple[tuple[str, ...], str]]
"""What a line is about, so that the rules after it need not say it again, and the line."""


def _nobody(verdict: Verdict, policies: PolicySet, people: People) -> _Told:
    for name in dict.fromkeys((*(name for stage in verdict.stages for name in stage.names), *verdict.delegates)):
        if not policies.people([name]):
            yield ("nobody", name), f"names {name}, and that is nobody{_why(name, people)}"


def _unreached(verdict: Verdict, policies: PolicySet, people: People) -> _Told:
    """Whoever is asked by channels that need an address which they have not.

    A channel with a target, and one that is not of these, may reach them all the same.
    """
    if not verdict.channels or not all(channel in _ADDRESSED for channel in verdict.channels):
        return
    for person in policies.people(name for stage in verdict.stages for name in stage.names):
        known = people.person(person)
        kinds = {kind_of(address) for address in (known.addresses if known else (person,))}
        if not kinds.intersection(verdict.channels):
            needed = " or ".join(_ADDRESSED[channel] for channel in verdict.channels)
            line = f"asks {person} by {' and '.join(verdict.channels)}, and {person} has no {needed} address"
            yield ("unreached", person, *verdict.channels), line


def _misnamed(verdict: Verdict, channels: Collection[str]) -> _Told:
    """Channels that are no installed ones and look much like one; an application may make others itself."""
    for channel in verdict.channels:
        name = channel.partition(":")[0]
        if channels and name not in channels and (meant := near(name, channels)):
            yield ("channel", name), f"asks in {name}, and no channel is called so here{meant}"


def _too_few(verdict: Verdict, policies: PolicySet) -> _Told:
    """Stages that want more people together than there are, since nobody counts twice.

    One with a condition, or with a time of its own, may be left behind without anybody's approval.
    """
    asked = [stage for stage in verdict.stages if not stage.when and stage.within is None][:MANY_STAGES]
    for count in range(2, len(asked) + 1):
        for some in combinations(asked, count):
            there = policies.people(name for stage in some for name in stage.names)
            wanted = sum(stage.quorum for stage in some)
            if there and len(there) < wanted:
                line = f"wants {wanted} different people of {', '.join(there)}, and that is {len(there)}"
                yield ("few", *there), line
                return


def _why(name: str, people: People) -> str:
    person = people.person(name)
    if person is not None:
        return ": a service never decides"
    known = name.startswith((GROUP, ROLE)) or kind_of(name)
    return "" if known else f": there is no such person{near(name, people.persons)}"
