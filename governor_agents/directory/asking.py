"""A directory of the user's own, held so that whatever it does, nobody is identified by it wrongly."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from governor_agents.core.identity import Away, Person
from governor_agents.core.ports import Directory
from governor_agents.errors import DirectoryUnreadable

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A `Directory` whose answers are looked at: what it raises, and what fits nothing, is `DirectoryUnreadable`.

    A person must be an answer to what was asked: to their own id, or to one of their addresses.
    """

    directory: Directory

    def person(self, address: str) -> Person | None:
        """The person with this id or address."""
        found: object = self._ask(lambda: self.directory.person(address))
        if found is None:
            return None
        if not isinstance(found, Person) or not _sound(found) or address not in found.names:
            raise self._bad(f"person({address!r}) did not give a Person who has that address")
        return found

    def members(self, name: str) -> tuple[str, ...] | None:
        """The ids of the people in ``group:NAME`` or with ``role:NAME``."""
        found: object = self._ask(lambda: self.directory.members(name))
        return None if found is None else self._ids(found, f"members({name!r})")

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        """The ids of those who are away at ``now`` and whose substitute this person is."""
        return self._ids(self._ask(lambda: self.directory.stands_for(id, now)), f"stands_for({id!r})")

    def coordinator(self, id: str) -> bool:
        """True when this person may hand somebody's request to somebody else; nothing that merely looks like it."""
        return self._ask(lambda: self.directory.coordinator(id)) is True

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except DirectoryUnreadable:
            raise
        except Exception as error:
            log.warning("the directory of people failed", exc_info=True)
            raise self._bad(f"it raised {type(error).__name__}") from error

    def _ids(self, found: object, what: str) -> tuple[str, ...]:
        ids: list[object] = list(found) if isinstance(found, (tuple, list)) else [None]
        if not all(isinstance(id, str) and id for id in ids):
            raise self._bad(f"{what} did not give a tuple of ids")
        return tuple(map(str, ids))

    def _bad(self, why: str) -> DirectoryUnreadable:
        return DirectoryUnreadable(f"the directory of people cannot be used, so nobody is identified: {why}")


def _sound(person: Person) -> bool:
    """True when every part is of its kind: a class of the user's own may have put anything there."""
    addresses: object = person.addresses
    away: object = person.away
    service: object = person.service
    if not isinstance(addresses, tuple | list) or not isinstance(away, tuple | list) or not isinstance(service, bool):
        return False
    return all(isinstance(name, str) and name for name in (person.id, *addresses)) and all(map(_absence, away))


def _absence(away: object) -> bool:
    if not isinstance(away, Away):
        return False
    since: object = away.since
    until: object = away.until
    substitute: object = away.substitute
    times = isinstance(since, int | float) and isinstance(until, int | float)
    return times and isinstance(substitute, str) and bool(substitute)
