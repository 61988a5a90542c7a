"""The store in memory: the contract in its most readable form, and a store for tests and first steps.

Every instance has its own data, whatever its URL says: two processes could never share it, so two objects do not
either. ``close`` forgets everything. Nothing here awaits between reading and writing, which makes each write atomic.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from governor_agents.core.ports import OPS_KEPT, Blob, Held, Record, StoredEvent, Swapped
from governor_agents.errors import StoreError
from governor_agents.stores.arguments import check_count, check_fields, check_key, check_write, told

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Data:
    records: dict[_Key, Record] = field(default_factory=dict)
    ops: dict[_Key, deque[str]] = field(default_factory=dict)
    events: dict[_Key, dict[int, bytes]] = field(default_factory=dict)
    blobs: dict[_Key, dict[str, bytes]] = field(default_factory=dict)


def _key(record: Record) -> _Key:
    return (record.kind, record.tenant, record.id)


class MemoryStore:
    """A `Store` that lives and dies with its object."""

    shared = False

    def __init__(self, url: str = "memory://", *, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self._clock = clock
        self._floor = 0.0
        self._data: _Data | None = None
        self._written = asyncio.Event()
        self._waiting = False

    async def open(self) -> None:
        """Begin empty, unless it is open already."""
        if self._data is None:
            self._data = _Data()

    async def close(self) -> None:
        """Forget everything."""
        self._data = None
        self._written.set()

    async def check(self) -> list[str]:
        """Nothing outlives the process here, so there is nothing that settings could spoil."""
        self._opened()
        return []

    async def now(self) -> float:
        """The clock, held at its highest reading."""
        self._opened()
        return self._tick()

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet."""
        check_write(record, op, events, blobs)
        data = self._opened()
        current = data.records.get(_key(record))
        if current is not None:
            return self._lost(data, current, op)
        return self._write(data, replace(record, v=record.v or 1), op, events, blobs)

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None."""
        check_key(kind, tenant, id)
        return self._opened().records.get((kind, tenant, id))

    async def swap(
        self,
        record: Record,
        *,
        op: str,
        events: Sequence[StoredEvent] = (),
        blobs: Sequence[Blob] = (),
        not_after: float | None = None,
    ) -> Swapped:
        """Replace the record whose version is ``record.v``. An op that stands already is not written twice."""
        check_write(record, op, events, blobs)
        data = self._opened()
        current = data.records.get(_key(record))
        if current is None:
            return Swapped(won=False)
        if op in data.ops[_key(record)] or current.v != record.v:
            return self._lost(data, current, op)
        if not_after is not None and not_after < self._tick():
            return Swapped(won=False, current=current, late=True)
        return self._write(data, replace(record, v=record.v + 1), op, events, blobs)

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs."""
        check_key(kind, tenant, id)
        data, key = self._opened(), (kind, tenant, id)
        current = data.records.get(key)
        if current is None or current.v != v:
            return current is None
        for owned in (data.records, data.ops, data.events, data.blobs):
            owned.pop(key, None)
        self._written.set()
        return True

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """What has come due, by (due, id)."""
        now = self._tick()
        found = [
            (record.due, record.id, record)
            for record in self._opened().records.values()
            if record.kind == kind and record.tenant == tenant and record.due is not None and record.due <= now
        ]
        return [record for due, id, record in sorted(found) if after is None or (due, id) > after][: max(limit, 0)]

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, id)."""
        data = self._opened()
        found = sorted(key for key in data.records if key[0] == kind and (after is None or key[1:] > after))
        return [Held(data.records[key], tuple(sorted(data.blobs.get(key, {})))) for key in found[: max(limit, 0)]]

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest, or None."""
        return self._opened().blobs.get((kind, tenant, id), {}).get(digest)

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """The record's events with seq > after, in order."""
        found = self._opened().events.get((kind, tenant, id), {})
        return [StoredEvent(seq, found[seq]) for seq in sorted(found) if seq > after][: max(limit, 0)]

    async def wait(self, timeout: float) -> bool:
        """True after a write since the last ``wait``, False after ``timeout`` seconds. One waiter at a time."""
        self._opened()
        if self._waiting:
            raise StoreError("another task waits on this store object; one waiter at a time")
        self._waiting = True
        try:
            async with asyncio.timeout(timeout):
                await self._written.wait()
            self._written.clear()
        except TimeoutError:
            return False
        finally:
            self._waiting = False
        return self._data is not None

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Add to a counter."""
        key = ("counter", tenant, id)
        check_count(key, amount, limit, op)
        data = self._opened()
        current = data.records.get(key, Record(*key, body=b"0"))
        if op in data.ops.get(key, ()):
            return int(current.body)
        total = int(current.body) + amount
        if total > limit:
            return None
        self._write(data, replace(current, body=str(total).encode(), v=current.v + 1), op, (), ())
        return total

    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> list[Record]:
        """Records whose index fields equal ``where``, by id."""
        wanted = dict(where or {})
        check_fields(wanted)
        found = [
            record
            for record in self._opened().records.values()
            if record.kind == kind and record.tenant == tenant and record.id > after
            if all(record.index.get(name) == value for name, value in wanted.items())
        ]
        return sorted(found, key=lambda record: record.id)[: max(limit, 0)]

    def _opened(self) -> _Data:
        if self._data is None:
            raise StoreError(f"{self.url} is not open")
        return self._data

    def _tick(self) -> float:
        self._floor = max(self._floor, told(self._clock))
        return self._floor

    def _lost(self, data: _Data, current: Record, op: str) -> Swapped:
        if op in data.ops[_key(current)]:
            return Swapped(won=True, v=current.v)
        return Swapped(won=False, current=current)

    def _write(
        self, data: _Data, record: Record, op: str, events: Sequence[StoredEvent], blobs: Sequence[Blob]
    ) -> Swapped:
        key = _key(record)
        kept = data.events.get(key, {})
        fresh = {event.seq: event.body for event in events}
        if len(fresh) < len(events) or fresh.keys() & kept.keys():
            raise StoreError(f"{record.kind} {record.id}: an event with this seq exists already; events never change")
        self._tick()
        data.records[key] = replace(record, index=dict(record.index))
        data.ops.setdefault(key, deque(maxlen=OPS_KEPT)).append(op)
        data.events.setdefault(key, {}).update(fresh)
        owned = data.blobs.setdefault(key, {})
        for blob in blobs:
            owned.setdefault(blob.id, blob.data)
        self._written.set()
        return Swapped(won=True, v=record.v)
