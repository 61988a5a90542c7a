"""One trail as it is found, what checkpoints say of it, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from governor_agents.core.ports import StoredEvent

NAMED = {"run": "run", "halt": "halt", "policy": "policies", "audit": "stream"}
"""Kinds of records that have a trail, and the field of an event that says whose it is."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a record's chain stands: its last event's ``seq`` and hash, and the record's version ``v``."""

    kind: str
    id: str
    seq: int
    head: str
    v: int

    @property
    def name(self) -> tuple[str, str]:
        """What the trail is found by: kind and id of its record."""
        return self.kind, self.id


@dataclass(frozen=True, slots=True)
class Pin:
    """What a signed checkpoint says of a trail. ``source`` names the checkpoint in words."""

    head: Head
    source: str


@dataclass(frozen=True, slots=True)
class Trail:
    """The events of one record in the order in which they were found, and the record's own word on its head.

    ``record`` is None when there is no record, or when only an export is at hand.
    """

    kind: str
    id: str
    record: Head | None
    events: Sequence[StoredEvent]
    pins: Sequence[Pin] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. ``id`` is a run's (or a checkpoint's number), ``seq`` an event's."""

    code: str
    kind: str
    id: str
    seq: int
    means: str
