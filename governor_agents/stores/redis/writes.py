"""The three writes as data: which keys they may touch, and what their scripts are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from governor_agents.core.ports import Blob, Record, StoredEvent
from governor_agents.stores.redis.keys import END, FIELDS, Keys, mark, moment, text


@dataclass(frozen=True, slots=True)
class Around:
    """What comes with every write: the time seen (microseconds), the channel to tell, and the writer's own mark."""

    seen: int
    channel: bytes
    writer: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """Insert or swap. ``expected`` is the version that must stand, empty when there must be none."""

    keys: list[bytes]
    expected: str
    v: str
    op: bytes
    tenant: bytes
    id: bytes
    due: bytes
    body: bytes
    not_after: float | None
    fields: list[bytes | None]
    events: list[tuple[int, bytes]]
    blobs: list[tuple[str, bytes]]

    @classmethod
    def of(
        cls,
        keys: Keys,
        record: Record,
        op: str,
        events: Sequence[StoredEvent],
        blobs: Sequence[Blob],
        *,
        expected: str,
        v: int,
        not_after: float | None = None,
    ) -> Write:
        """A write of this record, which makes it version ``v``."""
        index = record.index
        return cls(
            keys=keys.touched(record.kind, record.tenant, record.id),
            expected=expected,
            v=str(v),
            op=mark(op),
            tenant=text(record.tenant) + END,
            id=record.id.encode(),
            due=b"" if record.due is None else moment(record.due),
            body=record.body,
            not_after=not_after,
            fields=[text(index[name]) if name in index else None for name in FIELDS],
            events=[(event.seq, event.seq.to_bytes(8) + event.body) for event in events],
            blobs=[(blob.id, blob.data) for blob in blobs],
        )

    def values(self, around: Around) -> list[Any]:
        """What its script is given beside the keys."""
        values: list[Any] = [self.expected, self.v, self.op, self.tenant, self.id, self.due, self.body]
        values.append("" if self.not_after is None else repr(float(self.not_after)))
        values += [around.seen, around.channel, around.writer]
        values += [b"" if value is None else b"=" + value for value in self.fields]
        values.append(len(self.events))
        for pair in (*self.events, *self.blobs):
            values += pair
        return values


@dataclass(frozen=True, slots=True)
class Removal:
    """Delete, at a version."""

    keys: list[bytes]
    v: str
    tenant: bytes
    id: bytes

    @classmethod
    def of(cls, keys: Keys, kind: str, tenant: str, id: str, v: int) -> Removal:
        """The removal of this record."""
        return cls(keys.touched(kind, tenant, id), str(v), text(tenant) + END, id.encode())

    def values(self, around: Around) -> list[Any]:
        """What its script is given beside the keys."""
        return [self.v, self.tenant, self.id, around.seen, around.channel, around.writer]


@dataclass(frozen=True, slots=True)
class Addition:
    """Add below a limit."""

    keys: list[bytes]
    amount: int
    limit: int
    op: bytes
    tenant: bytes
    id: bytes

    @classmethod
    def of(cls, keys: Keys, tenant: str, id: str, amount: int, limit: int, op: str) -> Addition:
        """An addition to this counter."""
        at = keys.partition("counter", tenant, id)
        touched = [keys.record("counter", tenant, id), keys.clock(at), keys.ids(at, "counter")]
        return cls(touched, amount, limit, mark(op), text(tenant) + END, id.encode())

    def values(self, around: Around) -> list[Any]:
        """What its script is given beside the keys."""
        whole = [self.amount, self.limit, self.op, self.tenant, self.id]
        return [*whole, around.seen, around.channel, around.writer]
