"""A store as a sequence of entries: each record with the events and blobs that it owns, in one order for all stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from governor_agents.core.ports import KINDS, Blob, Held, Record, Store, StoredEvent
from governor_agents.errors import StoreError, StoreUnavailable

Key = tuple[str, str, str]
"""Kind, tenant, id: what entries are ordered by."""

PAGE = 100

AT_ONCE = 16
"""Records that are read at the same time: a server answers many questions as fast as one."""

STEADY = 20
"""How often a record that changes while it is read is read again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and all that it owns: blobs by id, events by seq."""

    record: Record
    blobs: tuple[Blob, ...] = ()
    events: tuple[StoredEvent, ...] = ()

    @property
    def key(self) -> Key:
        """Its place in the order."""
        return key_of(self.record)

    @property
    def name(self) -> str:
        """What people call it."""
        return named(self.key)

    @property
    def size(self) -> int:
        """Bytes of everything in it."""
        parts = (self.record.body, *(blob.data for blob in self.blobs), *(event.body for event in self.events))
        return sum(map(len, parts))


def key_of(record: Record) -> Key:
    """A record's place in the order."""
    return record.kind, record.tenant, record.id


def named(key: Key) -> str:
    """A record for people."""
    return f"{key[0]} {key[2]} of tenant {key[1]}"


async def held(store: Store) -> AsyncIterator[Held]:
    """Every record of a store, without its events and the content of its blobs."""
    for kind in sorted(KINDS):
        after: tuple[str, str] | None = None
        while page := await store.scan(kind, limit=PAGE, after=after):
            for each in page:
                yield each
            after = page[-1].record.tenant, page[-1].record.id


async def entries(store: Store) -> AsyncIterator[Entry]:
    """Every entry of a store that nobody writes to."""
    waiting: list[Held] = []
    async for each in held(store):
        waiting.append(each)
        if len(waiting) == AT_ONCE:
            for entry in await asyncio.gather(*(_whole(store, one) for one in waiting)):
                yield entry
            waiting = []
    for entry in await asyncio.gather(*(_whole(store, one) for one in waiting)):
        yield entry


async def steady_entries(store: Store) -> AsyncIterator[Entry]:
    """Every entry of a store that others may write to: each one as it stood at one moment, though not all at the same.

    Raises `StoreUnavailable` when a record changes faster than it can be read.
    """
    for kind in sorted(KINDS):
        after: tuple[str, str] | None = None
        tries = 0
        while page := await store.scan(kind, limit=PAGE, after=after):
            for each in page:
                entry = await _steady(store, each)
                if entry is None:  # read anew from here: it changed, or went
                    tries += 1
                    if tries == STEADY:
                        raise StoreUnavailable(f"{named(key_of(each.record))} changes faster than it can be read")
                    break
                yield entry
                after, tries = (each.record.tenant, each.record.id), 0


async def _steady(store: Store, each: Held) -> Entry | None:
    """The entry, None when it is no longer what was listed."""
    try:
        entry = await _whole(store, each)
    except Lost:
        entry = None
    now = await store.load(*key_of(each.record))
    if now == each.record:  # not by its version alone: it may have been removed and made anew
        if entry is None:
            raise Lost(f"{named(key_of(each.record))}: the store has lost a blob of it")
        return entry
    return None


class Lost(StoreError):
    """The store has lost a blob that a record owns."""


async def _whole(store: Store, each: Held) -> Entry:
    record = each.record
    key = key_of(record)
    blobs = []
    for digest in sorted(each.blobs):
        data = await store.blob(*key, digest)
        if data is None:
            raise Lost(f"{named(key)}: the store has lost its blob {digest[:12]}")
        blobs.append(Blob(digest, data))
    events: list[StoredEvent] = []
    while page := await store.events(*key, after=events[-1].seq if events else 0):
        events += page
    return Entry(record, tuple(blobs), tuple(events))
