"""What a people file says, once it is read: plain look-ups that cannot fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from governor_agents.core.identity import Person
from governor_agents.policies.values import GROUP, ROLE


class People:
    """Persons, groups and coordinators that fit together. A `Directory` that is always readable.

    ``groups`` hold ids of persons; ``coordinators`` are ids. Services are persons, but no member of anything: they
    never decide.
    """

    def __init__(
        self,
        persons: Iterable[Person] = (),
        groups: Mapping[str, Iterable[str]] | None = None,
        coordinators: Iterable[str] = (),
    ) -> None:
        self.persons: Mapping[str, Person] = {person.id: person for person in persons}
        self.groups = {name: self._deciding(ids) for name, ids in (groups or {}).items()}
        self.coordinators = self._deciding(coordinators)
        self._named = {name: person for person in self.persons.values() for name in person.names}

    def _deciding(self, ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(id for id in dict.fromkeys(ids) if not self.persons[id].service)

    @cached_property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of the people with each role."""
        names = dict.fromkeys(role for person in self.persons.values() for role in person.roles)
        return {name: self._deciding(p.id for p in self.persons.values() if name in p.roles) for name in names}

    def person(self, address: str) -> Person | None:
        """The person with this id or address."""
        return self._named.get(address)

    def members(self, name: str) -> tuple[str, ...] | None:
        """The ids of the people in ``group:NAME`` or with ``role:NAME``; None when there is no such group or role."""
        if name.startswith(ROLE):
            return self.roles.get(name.removeprefix(ROLE))
        return self.groups.get(name.removeprefix(GROUP)) if name.startswith(GROUP) else None

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        """The ids of those who are away at ``now`` and whose substitute this person is."""
        return tuple(
            person.id
            for person in self.persons.values()
            for away in person.away
            if away.substitute == id and away.since <= now < away.until
        )

    def coordinator(self, id: str) -> bool:
        """True when this person may hand somebody's request to somebody else."""
        return id in self.coordinators
