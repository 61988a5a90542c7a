"""Approvers, expanded to people: ids, the policies' own groups, and the groups and roles of a directory.

Without a directory every id is somebody. With one, an id or address that it knows means that person; an address that
it does not know means itself; any other id, and a group or role that is gone, means nobody. Services are nobody too.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence

from governor_agents.core.identity import kind_of
from governor_agents.core.ports import Directory
from governor_agents.errors import ConfigError, DirectoryUnreadable
from governor_agents.policies.values import GROUP, ROLE, suggestion

NO_DIRECTORY = "needs a directory of people: name its file with people=, --people or $GOVERNOR_PEOPLE"
NOT_HERE = "; if a people file has it, name that file with people=, --people or $GOVERNOR_PEOPLE"


def check_approver(name: str, known: Iterable[str], directory: Directory | None = None) -> None:
    """Raise `ConfigError` when an approver names a group that does not exist, or a group without ``group:``."""
    groups = set(known)
    if name.startswith(ROLE):
        if directory is None:
            raise ConfigError(f"{name!r} {NO_DIRECTORY}")
    elif name.startswith(GROUP):
        if name.removeprefix(GROUP) not in groups and (directory is None or not _has(directory, name)):
            meant = suggestion(name, (GROUP + group for group in groups))
            raise ConfigError(f"unknown group {name!r}{meant}{'' if directory is not None else NOT_HERE}")
    elif name in groups:
        raise ConfigError(f"{name!r} is a group; did you mean '{GROUP}{name}'?")


def _has(directory: Directory, group: str) -> bool:
    """Whether the directory has the group. While it cannot be read nobody is asked by it, so the name may stand."""
    try:
        return directory.members(group) is not None
    except DirectoryUnreadable:
        return True


def check_apart(names: Iterable[str], directory: Directory) -> None:
    """Raise `ConfigError` when a group of the policies has the name of somebody or of a group in the directory."""
    for name in names:
        try:
            taken = "group" if directory.members(GROUP + name) is not None else ""
            taken = taken or ("person" if directory.person(name) is not None else "")
        except DirectoryUnreadable:
            return
        if taken:
            raise ConfigError(f"group {name!r} has the name of a {taken} in the directory of people; give it another")


class Groups:
    """Named groups with all their people. A group may hold ``group:other``; cycles raise `ConfigError`."""

    def __init__(self, members: Mapping[str, Sequence[str]], directory: Directory | None = None) -> None:
        self.members = {name: tuple(listed) for name, listed in members.items()}
        self.directory = directory
        self._leaves: dict[str, frozenset[str]] = {}
        for group in self._inner_first():
            self._leaves[group] = self.leaves(self.members[group])

    def _inner_first(self) -> list[str]:
        edges: dict[str, list[str]] = {}
        for group, listed in self.members.items():
            for name in listed:
                check_approver(name, self.members, self.directory)
            edges[group] = [own for name in listed if (own := self._own(name))]
        try:
            return list(graphlib.TopologicalSorter(edges).static_order())
        except graphlib.CycleError as error:
            raise ConfigError(f"groups hold each other: {' in '.join(map(repr, error.args[1]))}") from None

    def _own(self, name: str) -> str:
        """The group of the policies that is named, empty when none is."""
        group = name.removeprefix(GROUP) if name.startswith(GROUP) else ""
        return group if group in self.members else ""

    def leaves(self, names: Iterable[str]) -> frozenset[str]:
        """What the names mean without a look into the directory: ids, and names of its groups and roles."""
        found: set[str] = set()
        for name in names:
            found |= self._leaves[own] if (own := self._own(name)) else {name}
        return frozenset(found)

    def people(self, names: Iterable[str]) -> tuple[str, ...]:
        """The people meant by ids, groups and roles now: sorted, each once.

        Raises `ConfigError` for an unknown group where there is no directory, `DirectoryUnreadable`.
        """
        names = tuple(names)
        for name in names:
            # A group that has left the directory means nobody. Were it an error, others would be asked in its place.
            if self.directory is None or not name.startswith((GROUP, ROLE)):
                check_approver(name, self._leaves, self.directory)
        leaves = self.leaves(names)
        if self.directory is None:
            return tuple(sorted(leaves))
        return tuple(sorted({id for leaf in leaves for id in _identified(leaf, self.directory)}))


def _identified(name: str, directory: Directory) -> Iterable[str]:
    """The ids of those whom a name means, as far as they may decide."""
    if name.startswith((GROUP, ROLE)):
        for id in directory.members(name) or ():
            person = directory.person(id)
            if person is not None and not person.service:
                yield person.id
        return
    person = directory.person(name)
    if person is None and kind_of(name):
        yield name
    elif person is not None and not person.service:
        yield person.id
