"""What is allowed in a people file and is hardly meant: names that come to nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from governor_agents.core.identity import Person, kind_of
from governor_agents.core.verdicts import Verdict
from governor_agents.directory.people import People
from governor_agents.policies import PolicySet
from governor_agents.policies.values import GROUP, ROLE


def findings(people: People, policies: Sequence[str] = ()) -> Iterable[str]:
    """One line each. ``policies`` are paths of policy files. Raises `PolicyFileError` for a wrong one."""
    for person in people.persons.values():
        yield from _about(person, people)
    for group, members in people.groups.items():
        if not members:
            yield f"group {group} is nobody"
    for path in policies:
        yield from _of_policy(path, people)


def _about(person: Person, people: People) -> Iterable[str]:
    if not person.addresses:
        yield f"{person.id} has no address: no channel can tell who that is"
    if person.service and person.away:
        yield f"{person.id} is a service and never decides, so it needs no substitute"
    for away in person.away:
        there = people.persons[away.substitute]
        if any(other.since < away.until and away.since < other.until for other in there.away):
            yield f"{away.substitute} is away too in a time in which they stand for {person.id}"


def _of_policy(path: str, people: People) -> Iterable[str]:
    """Approvers of a policy file that come to nobody, where they are named first."""
    policies, seen = PolicySet.from_file(path, directory=people), set[str]()
    for rule, verdict in policies.demands():
        for name in _names(verdict):
            if name not in seen and not policies.people([name]):
                seen.add(name)
                yield f"{path}: {rule} names {name}, and that is nobody{_why(name, people)}"


def _names(verdict: Verdict) -> Iterable[str]:
    return dict.fromkeys((*(name for stage in verdict.stages for name in stage.names), *verdict.delegates))


def _why(name: str, people: People) -> str:
    person = people.person(name)
    if person is not None:
        return ": a service never decides"
    known = name.startswith((GROUP, ROLE)) or kind_of(name)
    return "" if known else ": there is no such person"
