"""Who somebody is: a person with many addresses, and the voter that a proved address stands for.

An *id* is what policies, votes and the audit trail name somebody by; an *address* is where a channel meets that person:
``ops@example.com``, ``slack:T01/U02``, ``oidc:SUBJECT``, ``local:alice``. Without a directory the two are one.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "service:"
"""How the ids of services begin. A service never decides."""

SLACK = "slack"
EMAIL = "email"
"""The kinds of address that the channels of this package reach people by."""


@dataclass(frozen=True, slots=True)
class Away:
    """A time in which somebody else may decide in a person's place: epoch seconds, and that other person's id."""

    since: float
    until: float
    substitute: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody a directory knows. ``name`` is to be read and proves nothing; addresses are in their one form."""

    id: str
    name: str = ""
    addresses: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    service: bool = False
    away: tuple[Away, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that this person may be named by: the id, then the addresses."""
        return tuple(dict.fromkeys((self.id, *self.addresses)))


@dataclass(frozen=True, slots=True)
class Voter:
    """Somebody whose identity a channel has proved, as the directory knows them now.

    ``names`` is everything that a policy or a record may have named them by; ``stands_for`` are the ids of those in
    whose place they may decide now.
    """

    id: str
    names: tuple[str, ...]
    stands_for: tuple[str, ...] = ()
    service: bool = False

    @classmethod
    def plain(cls, id: str) -> Voter:
        """A voter whom no directory knows: an address that stands for itself."""
        return cls(id, (id,), service=id.startswith(SERVICE))


def kind_of(address: str) -> str:
    """The kind of an address: ``email`` when it has an ``@`` and no ``scheme:``, else the text before the colon."""
    scheme, colon, _ = address.partition(":")
    return scheme if colon else EMAIL if "@" in address else ""
