"""What lies where in Redis: the names of keys, and the members of sorted sets.

All keys of a partition carry its hash tag, ``{ga:3}``, so that they lie in one slot of a cluster and one script may
touch all of them. Every text is length-prefixed or comes last, so no two places have one name::

    {ga:0}:store                            hash    schema, partitions: written once, by the first who opens
    {ga:3}:clock                            string  the highest time this partition was written at, microseconds
    {ga:3}:record:run:7:default:run_abc     hash    v, ops, due, body and the index fields that are set
    {ga:3}:events:run:7:default:run_abc     zset    seq -> seq and body
    {ga:3}:blobs:run:7:default:run_abc      hash    digest -> content
    {ga:3}:ids:run                          zset    tenant, id
    {ga:3}:due:run                          zset    tenant, due, id
    {ga:3}:by:run:state                     zset    tenant, value, id

The sets of the last three kinds have scores of 0: Redis then keeps them by their bytes, and a page behind any member
costs the same in a set of ten and of ten million. So what stands before the id is written in a form whose bytes sort
as it does (`text`, `moment`); UTF-8 sorts as its code points do.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

from governor_agents.core.ports import INDEX_FIELDS

FIELDS: Final = tuple(sorted(INDEX_FIELDS))
"""The index fields, in the order in which keys and values are handed over."""

END: Final = b"\0\0"
"""Ends a text. Sorts below whatever a text could go on with."""

LAST: Final = b"\xff"
"""Sorts behind any UTF-8 text."""

MARK: Final = 16
"""Bytes of an op id as it is kept."""


def text(value: str) -> bytes:
    """A text as bytes that sort as its code points do, and in which `END` does not occur."""
    return value.encode().replace(b"\0", b"\0\xff")


def plain(stored: bytes) -> str:
    """A text from its bytes. Raises `UnicodeDecodeError`."""
    return stored.replace(b"\0\xff", b"\0").decode()


def moment(due: float) -> bytes:
    """A time as eight bytes that sort as it does."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", due + 0.0))  # of the two zeros, the positive one
    return struct.pack(">Q", bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63))


def time(stored: bytes) -> float:
    """A time from its eight bytes. Raises `struct.error`."""
    (bits,) = struct.unpack(">Q", stored)
    due: float = struct.unpack(">d", struct.pack(">Q", bits ^ (1 << 63 if bits >> 63 else 0xFFFF_FFFF_FFFF_FFFF)))[0]
    return due


def mark(op: str) -> bytes:
    """An op id at fixed length, by which it is found among those kept."""
    return blake2b(op.encode(), digest_size=MARK).digest()


def tenant_and_id(member: bytes) -> tuple[str, str]:
    """What a member of a set of ids stands for. Raises `ValueError`."""
    tenant, end, id = member.partition(END)
    if not end:
        raise ValueError("no tenant")
    return plain(tenant), id.decode()


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace that is spread over this many partitions."""

    namespace: str
    partitions: int = 1

    def partition(self, kind: str, tenant: str, id: str) -> int:
        """Where a record lies."""
        if self.partitions == 1:
            return 0
        name = b"\0".join((kind.encode(), text(tenant), text(id)))
        return int.from_bytes(sha256(name).digest()[:8]) % self.partitions

    def tag(self, partition: int) -> bytes:
        """What all keys of a partition begin with."""
        return f"{{{self.namespace}:{partition}}}:".encode()

    @property
    def store(self) -> bytes:
        """What this namespace is: schema and partitions."""
        return self.tag(0) + b"store"

    @property
    def channel(self) -> bytes:
        """Where writes are told of."""
        return f"{self.namespace}:written".encode()

    def clock(self, partition: int) -> bytes:
        """The highest time at which a partition was written."""
        return self.tag(partition) + b"clock"

    def record(self, kind: str, tenant: str, id: str) -> bytes:
        """The record itself."""
        return self._own(b"record", kind, tenant, id)

    def events(self, kind: str, tenant: str, id: str) -> bytes:
        """Its events."""
        return self._own(b"events", kind, tenant, id)

    def blobs(self, kind: str, tenant: str, id: str) -> bytes:
        """Its blobs."""
        return self._own(b"blobs", kind, tenant, id)

    def ids(self, partition: int, kind: str) -> bytes:
        """All records of a kind."""
        return self.tag(partition) + b"ids:" + kind.encode()

    def due(self, partition: int, kind: str) -> bytes:
        """Those of them that are to be looked at, by when."""
        return self.tag(partition) + b"due:" + kind.encode()

    def by(self, partition: int, kind: str, field: str) -> bytes:
        """Those of them that have an index field, by its value."""
        return self.tag(partition) + b"by:" + kind.encode() + b":" + field.encode()

    def touched(self, kind: str, tenant: str, id: str) -> list[bytes]:
        """Every key that a write of this record may touch, in the order that the scripts know."""
        at = self.partition(kind, tenant, id)
        own = (self.record(kind, tenant, id), self.events(kind, tenant, id), self.blobs(kind, tenant, id))
        return [*own, self.clock(at), self.ids(at, kind), self.due(at, kind), *(self.by(at, kind, f) for f in FIELDS)]

    def _own(self, sort: bytes, kind: str, tenant: str, id: str) -> bytes:
        whose = tenant.encode()
        name = b":".join((sort, kind.encode(), str(len(whose)).encode(), whose, id.encode()))
        return self.tag(self.partition(kind, tenant, id)) + name
