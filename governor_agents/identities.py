"""Who an address stands for: asked of the directory anew each time; without one, an address stands for itself."""

from __future__ import annotations

from governor_agents.core.identity import SERVICE, Person, Voter, kind_of
from governor_agents.core.ports import Directory
from governor_agents.policies import person_id


class Identities:
    """The people of one governor. Raises `DirectoryUnreadable` wherever the directory does. Usable from any thread."""

    def __init__(self, directory: Directory | None = None) -> None:
        self.directory = directory

    def person(self, address: str) -> Person | None:
        """Whom the directory has under this id or address."""
        return None if self.directory is None else self.directory.person(person_id(address))

    def canonical(self, address: str) -> str:
        """The one id of whoever has this address; the address itself where no directory knows it."""
        person = self.person(address)
        return person_id(address) if person is None else person.id

    def voter(self, address: str, now: float) -> Voter:
        """Whoever has this address, with those in whose place they may decide at ``now``."""
        person, id = self.person(address), person_id(address)
        if self.directory is None or (person is None and kind_of(id)):
            return Voter.plain(id)
        if person is None:  # an id without a scheme is the directory's own: somebody who is not there any more
            return Voter(id, ())
        service = person.service or any(name.startswith(SERVICE) for name in person.names)
        return Voter(person.id, person.names, self.directory.stands_for(person.id, now), service)

    def reach(self, person: str, kind: str) -> tuple[str, ...]:
        """The addresses of a kind at which somebody named in a record is met."""
        return tuple(name for name in self.names(person) if kind_of(name) == kind)

    def substitutes(self, person: str, now: float) -> tuple[str, ...]:
        """Who may decide in somebody's place at ``now``, since that person is away."""
        found = self.person(person)
        away = () if found is None else found.away
        return tuple(absence.substitute for absence in away if absence.since <= now < absence.until)

    def names(self, address: str) -> tuple[str, ...]:
        """Everything that whoever has this address may be named by."""
        person = self.person(address)
        return (person_id(address),) if person is None else person.names
