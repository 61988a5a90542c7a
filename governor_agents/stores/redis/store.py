"""The Redis store: any number of processes on any number of machines share what one server, or one cluster, keeps.

Every write is one Lua script, so one atomic unit and one round trip; a server that permits none is written to under
WATCH (``watched``). Pages of lists go through sorted sets and cost the same however much is stored.

**Time** is the server's, held above the highest time that was ever written at and above what this object was told
before: neither a restart, nor a failover, nor another node of a cluster takes it back.

**Fork, loops.** Open the store in the process and on the event loop that use it; it refuses to work in others.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from governor_agents.core.ports import Blob, Held, Record, StoredEvent, Swapped
from governor_agents.errors import StoreError
from governor_agents.stores.arguments import check_count, check_fields, check_key, check_write
from governor_agents.stores.redis.client import Client, told
from governor_agents.stores.redis.keys import END, LAST, moment, tenant_and_id, text, time
from governor_agents.stores.redis.namespace import SCHEMA
from governor_agents.stores.redis.place import Place
from governor_agents.stores.redis.rows import READ, record_of
from governor_agents.stores.redis.writes import Addition, Removal, Write

_MANY: Final = 64
"""How many records are looked at at once where not each of them will be taken."""


class RedisStore:
    """A `Store` in Redis. Options of the URL: see `Place`."""

    shared: bool = True
    schema = SCHEMA

    def __init__(self, url: str) -> None:
        self._place = Place.of(url)
        self.url: str = self._place.url
        self._gate = asyncio.Lock()
        self._client: Client | None = None
        self._writer = secrets.token_hex(8).encode()
        self._waiting = False
        self._forgotten: weakref.finalize[Any, RedisStore] | None = None

    async def open(self) -> None:
        """Connect, check the settings of each server, make the namespace when it is new."""
        async with self._gate:
            if self._client is not None and not self._client.loop.is_closed():
                self._opened()
                return
            self._client = await Client.connect(self._place, self._writer)
            self._forgotten = weakref.finalize(self, self._client.forget)
            self._forgotten.atexit = False

    async def close(self) -> None:
        """Close all connections; whoever waits is let go."""
        async with self._gate:
            client, self._client = self._client, None
            if client is not None:
                if self._forgotten is not None:
                    self._forgotten.detach()
                await client.close()

    async def check(self) -> list[str]:
        """One line per setting of a server that could lose an acknowledged write."""
        servers = self._opened().servers
        with told(self._place):
            return await servers.check()

    async def now(self) -> float:
        """The store's clock."""
        return await self._opened().now()

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet."""
        check_write(record, op, events, blobs)
        keys = self._opened().keys
        return await self._write(record, Write.of(keys, record, op, events, blobs, expected="", v=record.v or 1))

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None. Raises `StoreError` for one that was edited by hand."""
        check_key(kind, tenant, id)
        client = self._opened()
        values = await client.one((kind, tenant, id), ("HMGET", client.keys.record(kind, tenant, id), *READ))
        return None if all(value is None for value in values) else record_of(kind, tenant, id, values)

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
        keys, v = self._opened().keys, record.v
        write = Write.of(keys, record, op, events, blobs, expected=str(v), v=v + 1, not_after=not_after)
        return await self._write(record, write)

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs."""
        check_key(kind, tenant, id)
        client = self._opened()
        what, *_ = await client.act((kind, tenant, id), Removal.of(client.keys, kind, tenant, id, v))
        return bool(what == b"won")

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """What has come due, by (due, id)."""
        client, mine = self._opened(), text(tenant) + END
        high = b"(" + mine + moment(math.nextafter(await client.now(), math.inf))
        low = b"[" + mine if after is None else b"(" + mine + moment(after[0]) + after[1].encode()

        async def take(members: list[bytes]) -> list[Record]:
            places = [member[len(mine) :] for member in members]
            dues = [time(place[:8]) for place in places]
            found = await client.rows(kind, [(tenant, place[8:].decode()) for place in places], dues)
            return [each for each, due in zip(found, dues, strict=True) if each is not None and each.due == due]

        return await client.page(partial(client.keys.due, kind=kind), low, high, limit, take)

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, id)."""
        client = self._opened()
        keys, low = client.keys, b"-" if after is None else b"(" + text(after[0]) + END + after[1].encode()

        async def take(members: list[bytes]) -> list[Held]:
            names = [tenant_and_id(member) for member in members]
            found = await client.rows(kind, names)
            owned = await client.read(
                [(keys.partition(kind, *name), ("HKEYS", keys.blobs(kind, *name))) for name in names]
            )
            blobs = [tuple(sorted(each.decode() for each in ids)) for ids in owned]
            return [Held(each, ids) for each, ids in zip(found, blobs, strict=True) if each is not None]

        return await client.page(partial(keys.ids, kind=kind), low, b"+", limit, take)

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest, or None."""
        check_key(kind, tenant, id)
        client = self._opened()
        found: bytes | None = await client.one(
            (kind, tenant, id), ("HGET", client.keys.blobs(kind, tenant, id), digest)
        )
        return found

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """The record's events with seq > after, in order."""
        check_key(kind, tenant, id)
        client = self._opened()
        key = client.keys.events(kind, tenant, id)
        command = ("ZRANGE", key, f"({after}", "+inf", "BYSCORE", "LIMIT", 0, max(limit, 0))
        found = await client.one((kind, tenant, id), command)
        return [StoredEvent(int.from_bytes(member[:8]), member[8:]) for member in found]

    async def wait(self, timeout: float) -> bool:
        """True after a write since the last ``wait``, False after ``timeout`` seconds. One waiter at a time.

        Where nothing can be heard from the server, it is True now and then.
        """
        waking = self._opened().waking
        if self._waiting:
            raise StoreError("another task waits on this store object; one waiter at a time")
        self._waiting = True
        try:
            return await waking.wait(timeout)
        finally:
            self._waiting = False

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Add to a counter."""
        name = ("counter", tenant, id)
        check_count(name, amount, limit, op)
        client = self._opened()
        what, total, *_ = await client.act(name, Addition.of(client.keys, tenant, id, amount, limit, op))
        return int(total) if what == b"won" else None

    # Last, because from here on `list` means this method wherever the class is read.
    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> list[Record]:
        """Records whose index fields equal ``where``, by id. Goes through the field that leaves the fewest records."""
        wanted = dict(where or {})
        check_fields(wanted)
        client, mine = self._opened(), text(tenant) + END
        key_of: Callable[[int], bytes] = partial(client.keys.ids, kind=kind)
        if wanted:
            name = await client.fewest(kind, mine, wanted)
            key_of, mine = partial(client.keys.by, kind=kind, field=name), mine + text(wanted[name]) + END

        async def take(members: Sequence[bytes]) -> Any:
            ids = [member[len(mine) :].decode() for member in members]
            if len(wanted) > 1:
                ids = await client.matching(kind, tenant, ids, wanted)
            found: Any = []
            for at in range(0, len(ids), limit):
                rows = await client.rows(kind, [(tenant, id) for id in ids[at : at + limit]])
                found += [each for each in rows if each is not None and (not each.v or _holds(each, wanted))]
                if len(found) >= limit:
                    break
            return found

        many = _MANY if len(wanted) > 1 else 1
        return await client.page(key_of, b"(" + mine + after.encode(), b"(" + mine + LAST, limit, take, many)

    async def _write(self, record: Record, write: Write) -> Swapped:
        what, v, _, *row = await self._opened().act((record.kind, record.tenant, record.id), write)
        if what == b"won":
            return Swapped(won=True, v=int(v))
        if what == b"none":
            return Swapped(won=False)
        current = record_of(record.kind, record.tenant, record.id, row[0])
        return Swapped(won=False, current=current, late=what == b"late")

    def _opened(self) -> Client:
        client = self._client
        if client is None:
            raise StoreError(f"{self._place.shown} is not open")
        if client.process != os.getpid():
            raise StoreError(f"{self._place.shown} was opened before a fork; open a store in the process that uses it")
        if client.loop is not asyncio.get_running_loop():
            raise StoreError(
                f"{self._place.shown} was opened on another event loop; open a store on the one that uses it"
            )
        return client


def _holds(record: Record, wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= record.index.items()
