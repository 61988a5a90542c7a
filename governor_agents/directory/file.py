"""The people file: every key, what it may hold, and one line for each thing that is wrong.

.. code-block:: yaml

    version: 1
    timezone: Europe/Berlin
    people:
      alice:
        name: Alice Ito
        slack: [T01/U02, T09/U11]
        email: alice@example.com
        oidc: 00u1a2b3
        local: alice
        roles: [cfo]
        away: {from: 2026-12-21, until: 2027-01-03, substitute: bob}
      bob: {email: bob@example.com}
      nightly: {local: nightly, service: true}
    groups:
      finance: [alice, bob]
      payments: [group:finance, role:cfo]
    coordinators: [bob]
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, tzinfo
from functools import partial
from os import PathLike
from typing import Any

from governor_agents.core.identity import Away, Person
from governor_agents.directory.people import People
from governor_agents.directory.values import KINDS, address, moment, name_of, zone
from governor_agents.errors import ConfigError, PeopleFileError
from governor_agents.policies.document import Node, Problem
from governor_agents.policies.groups import Groups, check_approver
from governor_agents.policies.readers import Reader, at, each, list_of, scalar
from governor_agents.policies.reading import Reading, Source, Unreadable, load
from governor_agents.policies.values import GROUP, ROLE, approver, flag, one_line, suggestion, text

SECTIONS = ("timezone", "people", "groups", "coordinators")


class _File(Reading):
    """Reads one people file section by section."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, SECTIONS)
        self.zone: tzinfo = UTC
        self.persons: dict[str, Person] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self._named: dict[str, tuple[str, int]] = {}

    def read(self) -> People:
        """The whole file, as far as it could be read; look at ``problems``."""
        if (node := self.sections.get("timezone")) is not None:
            self.zone = self._noting(node, scalar(zone), "timezone") or UTC
        for id, line, node in self.entries("people"):
            self._person(id, line, node)
        self._check_substitutes()
        self._read_groups()
        if self.problems:
            return People()
        return People(self.persons.values(), self._flat(), self._people(self._listed("coordinators")))

    def _noting(self, node: Node, read: Any, what: str) -> Any:
        try:
            return at(node, read)
        except Problem as problem:
            self.problems.append((problem.line, f"{what}: {problem}"))
            return None

    # -- people -----------------------------------------------------------------------------------------------------

    def _person(self, id: str, line: int, node: Node) -> None:
        self._noting(Node(line, id), scalar(name_of), "people")
        readers = {kind: _one_or_any(scalar(partial(address, kind))) for kind in KINDS}
        readers |= {"name": scalar(lambda value: text(value, "a name")), "roles": list_of(scalar(name_of))}
        found = self.fields(node, {**readers, "service": scalar(flag), "away": self._aways}, id)
        addresses = tuple(each for kind in KINDS if kind in found for each in _listed(found[kind]))
        for name in dict.fromkeys((id, *addresses)):
            self._take(name, id, node.lines.get(_key(name, id), line))
        about = {name: found[name] for name in ("name", "roles", "service", "away") if name in found}
        self.persons[id] = Person(id, addresses=tuple(dict.fromkeys(addresses)), **about)

    def _take(self, name: str, id: str, line: int) -> None:
        """Note whose address it is; two people cannot have the same."""
        owner, first = self._named.setdefault(name, (id, line))
        if owner != id:
            self.problems.append((line, f"{name} is an address of {owner} (line {first}); it can be one person's only"))

    def _aways(self, node: Node) -> tuple[Away, ...]:
        return tuple(filter(None, map(self._away, node.value if isinstance(node.value, list) else [node])))

    def _away(self, node: Node) -> Away | None:
        readers = {
            "from": scalar(lambda value: moment(value, self.zone)),
            "until": scalar(lambda value: moment(value, self.zone, last=True)),
            "substitute": scalar(name_of),
        }
        found = self.fields(node, readers, "away", tuple(readers))
        if len(found) < len(readers):
            return None
        if found["from"] >= found["until"]:
            raise Problem(node.line, "'until' lies before 'from'")
        return Away(found["from"], found["until"], found["substitute"])

    def _check_substitutes(self) -> None:
        for id, line, node in self.entries("people"):
            at_line = node.lines.get("away", line)
            for away in self.persons[id].away:
                if why := self._unfit(id, away.substitute):
                    self.problems.append((at_line, f"away: {why}"))
        self.problems[:] = dict.fromkeys(self.problems)

    def _unfit(self, id: str, substitute: str) -> str:
        """Why this person cannot be the substitute; empty when they can."""
        if substitute == id:
            return f"{id} cannot be their own substitute"
        if substitute not in self.persons:
            return f"unknown person {substitute!r}{suggestion(substitute, self.persons)}"
        return f"{substitute} is a service and never decides" if self.persons[substitute].service else ""

    # -- groups -----------------------------------------------------------------------------------------------------

    def _read_groups(self) -> None:
        roles = {role for person in self.persons.values() for role in person.roles}
        for name, line, _ in self.entries("groups"):
            self.groups[name] = ()
            if name in self.persons or name in roles:
                taken = "person" if name in self.persons else "role"
                self.problems.append((line, f"{name!r} is the name of a {taken}; give the group another"))
            if name.startswith((GROUP, ROLE)):
                self.problems.append((line, f"write {name.partition(':')[2]!r} here; {GROUP} is for where it is named"))
        for id, line, _ in self.entries("people"):
            if id in roles:
                self.problems.append((line, f"{id!r} is the name of a role; give the person another id"))
        for name, _, node in self.entries("groups"):
            if node.value != []:
                self.groups[name] = self._noting(node, each(self._member), f"group {name}") or ()
        self._listed("coordinators")
        self.problems[:] = dict.fromkeys(self.problems)

    def _listed(self, section: str) -> tuple[str, ...]:
        node = self.sections.get(section)
        if node is None or node.value == []:
            return ()
        return self._noting(node, each(self._member), section) or ()

    def _member(self, node: Node) -> str:
        """A person by id or address, ``group:NAME`` or ``role:NAME``, all of which must be there."""
        name: str = scalar(approver)(node)
        if name.startswith(ROLE):
            if not self._having(name):
                raise ConfigError(f"nobody has the {name!r}; give it to a person, under roles")
            return name
        check_approver(name, self.groups)
        if name.startswith(GROUP):
            return name
        if name not in self._named:
            raise ConfigError(f"unknown person {one_line(name, 60)!r}{suggestion(name, self.persons)}")
        return self._named[name][0]

    def _having(self, role: str) -> tuple[str, ...]:
        return tuple(p.id for p in self.persons.values() if role.removeprefix(ROLE) in p.roles)

    def _without_roles(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(id for name in names for id in (self._having(name) if name.startswith(ROLE) else (name,)))

    def _grouped(self) -> Groups:
        return Groups({name: self._without_roles(listed) for name, listed in self.groups.items()})

    def _flat(self) -> dict[str, tuple[str, ...]]:
        try:
            groups = self._grouped()
        except ConfigError as error:  # they hold one another
            line = next((line for name, line, _ in self.entries("groups") if repr(name) in str(error)), 1)
            self.problems.append((line, str(error)))
            return {}
        return {name: groups.people([GROUP + name]) for name in self.groups}

    def _people(self, names: Iterable[str]) -> tuple[str, ...]:
        return () if self.problems else self._grouped().people(self._without_roles(names))


def _one_or_any(read: Reader) -> Reader:
    """A reader of one value or of a list, which may be empty."""
    many = list_of(read)
    return lambda node: many(node) if isinstance(node.value, list) else read(node)


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _key(name: str, id: str) -> str:
    """The key of a person's mapping under which an address stands."""
    scheme, colon, _ = name.partition(":")
    return "" if name == id else scheme if colon else "email"


def read_people(source: str | PathLike[str] | Source) -> People:
    """The people of a file. Raises `PeopleFileError`, one line with file and line number; all are in ``errors``."""
    try:
        file = _File(source if isinstance(source, Source) else load(source, str(source)))
    except Unreadable as error:
        raise PeopleFileError(errors=[str(error)]) from None
    people = file.read()
    if lines := file.lines():
        raise PeopleFileError(errors=lines)
    return people
