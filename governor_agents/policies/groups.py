"""Groups of approvers, expanded to people."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence

from governor_agents.errors import ConfigError
from governor_agents.policies.values import GROUP, suggestion


def check_approver(name: str, known: Iterable[str]) -> None:
    """Raise `ConfigError` when an approver names a group that does not exist, or a group without ``group:``."""
    groups = set(known)
    if name.startswith(GROUP):
        if name.removeprefix(GROUP) not in groups:
            raise ConfigError(f"unknown group {name!r}{suggestion(name, (GROUP + group for group in groups))}")
    elif name in groups:
        raise ConfigError(f"{name!r} is a group; did you mean '{GROUP}{name}'?")


class Groups:
    """Named groups with all their people. A group may hold ``group:other``; cycles raise `ConfigError`."""

    def __init__(self, members: Mapping[str, Sequence[str]]) -> None:
        self.members = {name: tuple(listed) for name, listed in members.items()}
        self._people: dict[str, frozenset[str]] = {}
        for group in self._inner_first():
            self._people[group] = frozenset(self._direct(self.members[group]))

    def _inner_first(self) -> list[str]:
        edges: dict[str, list[str]] = {}
        for group, listed in self.members.items():
            for name in listed:
                check_approver(name, self.members)
            edges[group] = [name.removeprefix(GROUP) for name in listed if name.startswith(GROUP)]
        try:
            return list(graphlib.TopologicalSorter(edges).static_order())
        except graphlib.CycleError as error:
            raise ConfigError(f"groups hold each other: {' in '.join(map(repr, error.args[1]))}") from None

    def _direct(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            if name.startswith(GROUP):
                yield from self._people[name.removeprefix(GROUP)]
            else:
                yield name

    def people(self, names: Iterable[str]) -> tuple[str, ...]:
        """The people meant by ids and groups: sorted, each once. Raises `ConfigError` for an unknown group."""
        names = tuple(names)
        for name in names:
            check_approver(name, self._people)
        return tuple(sorted(set(self._direct(names))))
